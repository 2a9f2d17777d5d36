"""Does the gate keep its word? Simulated pairs of models whose true difference is known.

.venv/bin/python benchmarks/gate.py FOLDER [PAIRS] [exact|rates|power]

Prints the rows of README.md and draws gate-power.png; without a third word, all of it.

A detector is trained on the embedded data and answers 1,000 images at three input sizes: three real
detectors, of different AP, which err on different images. They are the population. A simulated test
set is drawn from it; a simulated model answers each of its images as one detector or another does,
by a coin of given odds. Two models of the same odds are equal, and still differ image by image; the
true AP at any odds is that of the whole population with every answer weighted by them. FOLDER keeps
the population for the next time.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from centernet.bootstrap import Matches, average_precision, draws, match
from centernet.checkpoint import BEST
from centernet.dataset import coco, images
from centernet.dataset.demo import generate
from centernet.dataset.split import Split
from centernet.evaluate import evaluate
from centernet.predict import Detector
from centernet.presets import load
from centernet.structures import Detections
from centernet.train import train
from experiments import gate
from experiments.exam import read, write
from experiments.settings import Policy

SIZES = {"usual": (96, 128), "large": (128, 160), "small": (64, 96)}  # input, pixels
KEPT = 15  # best detections of an image, which shows six digits at most
STEPS = 20  # odds are so many parts
COUNTS = {"train": 400, "val": 40, "test": 1000}
ODDS = (0, 1, 2, 3, 4, 6, 8, 11)  # of the power's better model
SETS = (50, 100, 200)  # test images
POLICY = Policy()
EQUAL, UNEQUAL = ("usual", "large"), ("usual", "small")


def population(folder: Path) -> tuple[Split, dict[str, Matches], list[Detections]]:
    """The images, how each detector met their truth, and what the usual one finds."""
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
        generate(data, COUNTS)
    values = {"data.folder": str(data), "train.epochs": 6, "train.evaluate_every": 6}
    config = load("demo", values | {"decode.top_k": 30, "train.threads": 2})
    for epoch in train(config, folder / "training"):
        print(epoch.number, epoch.metrics.get("AP", ""), file=sys.stderr, flush=True)
    torch.set_num_threads(1)  # one small image at a time
    split = coco.read(data, "test")
    detector = Detector.load(folder / "training" / BEST)
    found: dict[str, Matches] = {}
    for name, (height, width) in SIZES.items():
        resized = replace(detector, height=height, width=width)
        file = folder / f"{name}.npz"
        if not file.exists():
            write(file, match([resized(images.load(one.file)) for one in split.records], split))
        found[name] = best(read(file))
    return split, found, [detector(images.load(one.file)) for one in split.records[:100]]


def best(found: Matches) -> Matches:
    """The best KEPT detections of each image: what is worse does not change how they match."""
    order = np.lexsort((-found.scores, found.images))
    images = found.images[order]
    rank = np.arange(len(order)) - np.searchsorted(images, images)
    own = np.sort(order[rank < KEPT])
    return Matches(
        found.images[own], found.labels[own], found.scores[own], found.matched[:, own],
        found.ignored[:, own], found.truth,
    )  # fmt: skip


def answers(
    detectors: Sequence[Matches], drawn: NDArray[np.int64], choice: NDArray[np.int64]
) -> Matches:
    """A test set: its image i is drawn[i] of the population, answered by detectors[choice[i]]."""
    parts = []
    for number, one in enumerate(detectors):
        order = np.argsort(one.images, kind="stable")
        starts = np.searchsorted(one.images[order], np.arange(len(one.truth) + 1))
        places = np.flatnonzero(choice == number)
        rows = [order[starts[i] : starts[i + 1]] for i in drawn[places]]
        own = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
        new = np.repeat(places, [len(row) for row in rows]).astype(np.int32)
        parts.append(
            (new, one.labels[own], one.scores[own], one.matched[:, own], one.ignored[:, own])
        )
    images, labels, scores, matched, ignored = (
        np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)
    )
    order = np.argsort(images, kind="stable")
    return Matches(
        images[order], labels[order], scores[order], matched[:, order], ignored[:, order],
        detectors[0].truth[drawn],
    )  # fmt: skip


def true_ap(detectors: Sequence[Matches], odds: int) -> float:
    """AP of the model that answers odds of STEPS images as the second detector does."""
    count = len(detectors[0].truth)
    both = np.tile(np.arange(count), 2)
    weights = np.repeat((STEPS - odds, odds), count).astype(np.int32)
    return float(
        average_precision(answers(detectors, both, np.repeat((0, 1), count)), weights[None])[0]
    )


def normal(value: float, drawn: NDArray[np.float64], *, images: int, confidence: float) -> float:
    """Lower bound from the spread of drawn sets alone."""
    spread = drawn.std(ddof=1) * np.sqrt(images / (images - 1))
    return float(value - NormalDist().inv_cdf(confidence) * spread)


def percentile(
    value: float, drawn: NDArray[np.float64], *, images: int, confidence: float
) -> float:
    """Lower bound that the given share of drawn sets is above."""
    return float(np.quantile(drawn, 1 - confidence))


def basic(value: float, drawn: NDArray[np.float64], *, images: int, confidence: float) -> float:
    """Lower bound by the mirrored distribution of drawn sets."""
    return float(2 * value - np.quantile(drawn, confidence))


def corrected(value: float, drawn: NDArray[np.float64], *, images: int, confidence: float) -> float:
    """Percentile bound with the median's bias taken out (BC)."""
    law = NormalDist()
    share = float(np.clip((drawn < value).mean() + (drawn == value).mean() / 2, 0.001, 0.999))
    level = law.cdf(2 * law.inv_cdf(share) + law.inv_cdf(1 - confidence))
    return float(np.quantile(drawn, level))


def chosen(value: float, drawn: NDArray[np.float64], *, images: int, confidence: float) -> float:
    """What the gate uses."""
    return gate.bounded(value, drawn, images=images, confidence=confidence).low


METHODS = {
    "the gate's": chosen, "percentile": percentile, "basic": basic, "bias-corrected": corrected,
    "normal": normal,
}  # fmt: skip


def simulate(
    detectors: Sequence[Matches], odds: tuple[int, int], *, size: int, pairs: int, seed: int
) -> tuple[float, dict[str, float], dict[str, float]]:
    """True difference; how often each bound is above it; how often above 0, a promotion."""
    chance = np.random.default_rng((seed, size, *odds))
    true = true_ap(detectors, odds[0]) - true_ap(detectors, odds[1])
    wrong, promoted = dict.fromkeys(METHODS, 0.0), dict.fromkeys(METHODS, 0.0)
    for _ in range(pairs):
        drawn = chance.integers(0, len(detectors[0].truth), size)
        models = [
            answers(detectors, drawn, (chance.integers(0, STEPS, size) < part).astype(np.int64))
            for part in odds
        ]
        (ours, a), (theirs, b) = (gate.resampled(one, POLICY) for one in models)
        for name, method in METHODS.items():
            low = method(ours - theirs, a - b, images=size, confidence=POLICY.confidence)
            wrong[name] += (low > true) / pairs
            promoted[name] += (low > 0) / pairs
    return true, wrong, promoted


def equality(split: Split, found: list[Detections]) -> float:
    """The largest difference from pycocotools' AP over 100 sets that are really drawn."""
    first = replace(split, records=split.records[: len(found)])
    counts = draws(len(found), count=100, seed=0)
    fast, worst = average_precision(match(found, first), counts), 0.0
    for value, row in zip(fast, counts, strict=True):
        drawn = [index for index, count in enumerate(row) for _ in range(count)]
        records = tuple(replace(first.records[i], id=new) for new, i in enumerate(drawn, 1))
        slow = evaluate([found[i] for i in drawn], replace(first, records=records))["AP"]
        worst = max(worst, abs(slow - float(value)))
    return worst


def speed(one: Matches, other: Matches, size: int) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, for a comparison of two models."""
    drawn = np.arange(size)
    ours, theirs = (answers((m,), drawn, np.zeros(size, np.int64)) for m in (one, other))
    started, used = time.perf_counter(), time.process_time()
    gate.compare(ours, theirs, POLICY)
    return time.perf_counter() - started, time.process_time() - used


def picture(powers: dict[int, list[tuple[float, float]]], file: Path) -> None:
    """Share of promotions against the true difference, a line for each size of the test set."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for size, points in powers.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", ms=4, label=f"{size} test images")
    stated = 1 - POLICY.confidence
    axes.axhline(
        stated, color="grey", ls=":", label=f"stated rate of false promotions, {stated:.0%}"
    )
    axes.axvline(0, color="lightgrey", lw=1)
    axes.set(xlabel="true difference in AP", ylabel="share promoted", ylim=(-0.02, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=150, facecolor="white")


def exact(split: Split, found: dict[str, Matches], usual: list[Detections]) -> None:
    print({name: round(true_ap((one, one), 0), 2) for name, one in found.items()}, flush=True)
    print(f"largest difference from pycocotools: {equality(split, usual):.1e} AP", flush=True)
    for size in (100, 300):
        clock, processor = speed(found["usual"], found["large"], size)
        print(f"{size} images: {clock:.2f} s, {processor:.2f} s of one core", flush=True)


def rates(found: dict[str, Matches], pairs: int) -> None:
    half = STEPS // 2
    cases = (("equal", EQUAL, (half, half)), ("unequal", UNEQUAL, (0, STEPS)))
    for size in SETS:
        for text, names, odds in cases:
            detectors = [found[name] for name in names]
            true, wrong, _ = simulate(detectors, odds, size=size, pairs=pairs, seed=0)
            told = ", ".join(f"{name} {100 * rate:.1f}" for name, rate in wrong.items())
            print(f"{text} models, {size} images, true difference {true:.2f}: {told}", flush=True)


def power(found: dict[str, Matches], pairs: int) -> None:
    detectors = [found[name] for name in UNEQUAL]
    powers: dict[int, list[tuple[float, float]]] = {}
    for size in SETS:
        powers[size] = points = []
        for odds in ODDS:
            true, _, promoted = simulate(detectors, (0, odds), size=size, pairs=pairs, seed=1)
            points.append((true, promoted["the gate's"]))
        print(size, [(round(x, 2), round(y, 2)) for x, y in points], flush=True)
        picture(powers, Path(__file__).with_name("gate-power.png"))


def main() -> None:
    folder, pairs = Path(sys.argv[1]), int([*sys.argv, "500"][2])
    wanted = sys.argv[3:] or ["exact", "rates", "power"]
    split, found, usual = population(folder)
    if "exact" in wanted:
        exact(split, found, usual)
    if "rates" in wanted:
        rates(found, pairs)
    if "power" in wanted:
        power(found, pairs // 5)


if __name__ == "__main__":
    main()
