"""Learn a few images by heart: where that fails, something is wrong, and `diagnose` says what."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from centernet.assemble import make_schedule, samples
from centernet.config import Config, flatten, resolve
from centernet.dataset.loader import Batch, Draw, collate
from centernet.dataset.split import Record, Split
from centernet.decode import decode
from centernet.encode import encode
from centernet.evaluate import evaluate
from centernet.geometry import to_original
from centernet.predict import detect
from centernet.shell import typed
from centernet.state import make_state
from centernet.structures import Detections, Maps
from centernet.train import check, set_up, train_step

IMAGES = 8
GOAL = 90.0  # AP50
EVERY = 20  # steps between two evaluations
WARMUP = 10  # steps; of the learning rate, and (the larger, the faster it follows) of the average
FALLEN = 0.5  # of what it was at the start: a loss above has not fallen
RISEN = 2.0  # times what it once was: a loss above did not stay there
LOOSE = {"top_k": 1000, "nms_iou": 1.0}  # a decoding that drops next to nothing


@dataclass(frozen=True, slots=True)
class Fit:
    """How far it is: AP50 on the images now and before, each loss at every step."""

    step: int
    scores: list[float]
    losses: dict[str, list[float]]

    @property
    def reached(self) -> bool:
        """Whether that is enough."""
        return self.scores[-1] > GOAL


def chosen(split: Split, count: int = IMAGES) -> Split:
    """The first `count` images with objects; those that show a new class before the others."""
    usable = [record for record in split.records if labels(record)]
    seen: set[int] = set()
    new: list[int] = []
    other: list[int] = []
    for record in usable:
        (other if labels(record) <= seen else new).append(record.id)
        seen |= labels(record)
    ids = {*(new + other)[:count]}
    return replace(split, records=tuple(record for record in usable if record.id in ids))


def labels(record: Record) -> set[int]:
    """The classes of an image's objects; groups are not trained on."""
    return set(record.labels[~record.crowd].tolist())


def overfit(config: Config, split: Split, *, steps: int) -> Generator[Fit, None, None]:
    """Train on all images of a split at once, as they are, until AP50 > 90 on them, or `steps`.

    It ends where a loss is not finite; `diagnose` says so.
    """
    check(config)
    config, device = set_up(at_once(config, len(split)))
    state = make_state(config, len(split.classes), device)
    batch = whole(config, split).to(device)
    rate = make_schedule(config, steps)
    scores: list[float] = []
    losses: dict[str, list[float]] = {}
    state.model.train()
    for step in range(1, steps + 1):
        for name, term in train_step(state, batch, config, rate(step)).items():
            losses.setdefault(name, []).append(term.item())
        finite = all(math.isfinite(values[-1]) for values in losses.values())
        if step % EVERY == 0 or step == steps or not finite:
            values = config.decode.model_dump() | {"stride": config.model.stride}
            found = detect(state.ema.evaluated(), batch.images, batch.placements, **values)
            scores.append(evaluate(found, split).get("AP50", 0.0) if finite else 0.0)
            yield Fit(step, scores, losses)
            if not finite or scores[-1] > GOAL:
                return


def at_once(config: Config, images: int) -> Config:
    """The config for batches of all images, and for few steps."""
    quick = {
        "optim.batch_size": images,
        "optim.warmup_steps": min(config.optim.warmup_steps, WARMUP),
        "train.ema_warmup": max(config.train.ema_warmup, float(WARMUP)),
    }
    return resolve(flatten(config.model_dump()) | quick)


def whole(config: Config, split: Split) -> Batch:
    """All images of a split in one batch, none of them augmented."""
    unchanged = samples(config, split)
    return collate([unchanged[Draw(index)] for index in range(len(split))])


def diagnose(config: Config, split: Split, fit: Fit) -> list[str]:
    """What is in the way, the surest first."""
    found = [*of_data(config, split), *of_losses(config, fit)]
    if found:
        return found
    before, now = fit.scores[-max(len(fit.scores) // 4, 2) :][0], fit.scores[-1]
    if now > before + 1:
        return [f"it is still learning (AP50 {before:.1f}, then {now:.1f}): more --steps"]
    return [
        f"every loss has fallen, and AP50 stays at {now:.1f}: look at the boxes "
        f"({typed('centernet')} check-data), and at data.height and data.width"
    ]


def of_data(config: Config, split: Split) -> Iterator[str]:
    """Whether the true maps, decoded, give the true boxes: no network can do better."""
    batch = whole(config, split)
    truth = true_maps(config, batch, len(split.classes))
    asked = config.decode.model_dump() | {"stride": config.model.stride}
    ceiling = score(truth, batch, split, **asked)
    if ceiling > GOAL:
        return
    said = f"the true maps themselves, decoded, reach only AP50 {ceiling:.1f}"
    for name, value in LOOSE.items():
        other = score(truth, batch, split, **asked | {name: value})
        if other > ceiling + 1:
            yield f"{said}: decode.{name}={asked[name]} drops boxes ({value:g}: {other:.1f})"
            said = "and"
    assert truth.mask is not None, "a target has a mask"
    objects, cells = len(batch.boxes), int((truth.mask > 0).sum())
    sides = (batch.boxes[:, 2:] - batch.boxes[:, :2]).amin(1)
    cell = config.model.stride
    small = int((sides < cell).sum())
    size = f"data.height={config.data.height}, data.width={config.data.width}"
    if cells < objects:
        yield f"{said}: {objects - cells} of {objects} objects share a cell with another ({size})"
        said = "and"
    if small:
        yield f"{said}: {small} of {objects} are smaller than a cell, {cell} px ({size})"


def true_maps(config: Config, batch: Batch, classes: int) -> Maps:
    """What a perfect network would predict, and the mask."""
    target = encode(
        batch.instances,
        classes=classes,
        height=config.data.height,
        width=config.data.width,
        stride=config.model.stride,
        sigma_rule=config.targets.sigma_rule,
        sigma_divisor=config.targets.sigma_divisor,
        min_overlap=config.targets.min_overlap,
    )
    return replace(target, heatmap=torch.logit(target.heatmap, eps=1e-6))


def score(maps: Maps, batch: Batch, split: Split, **decoding: Any) -> float:
    """AP50 of maps, decoded."""
    found = decode(maps, **decoding)
    in_pixels = [
        Detections(to_original(one.boxes, placement), one.scores, one.labels)
        for one, placement in zip(found, batch.placements, strict=True)
    ]
    return evaluate(in_pixels, split).get("AP50", 0.0)


def of_losses(config: Config, fit: Fit) -> Iterator[str]:
    """Whether each loss fell, and stayed there."""
    rate = f"a smaller optim.lr (now {config.optim.lr:g})"
    for name, values in fit.losses.items():
        if not math.isfinite(values[-1]):
            what = name if name == "gradient" else f"{name} loss"
            yield f"the {what} became {values[-1]} at step {fit.step}: {rate}"
            return
    for name in ("heatmap", "size", "offset"):
        windows = [
            median(fit.losses[name][start : start + EVERY // 2])
            for start in range(0, fit.step, EVERY // 2)
        ]
        first, lowest, last = windows[0], min(windows), windows[-1]
        if last > RISEN * lowest and last > FALLEN * first:
            yield f"the {name} loss fell to {lowest:.3g} and rose to {last:.3g}: {rate}"
        elif last > FALLEN * first and name != "offset":  # offsets matter little for AP50
            weight = getattr(config.loss, f"{name}_weight")
            hint = f"loss.{name}_weight is {weight:g}; or {rate}"
            yield f"the {name} loss does not fall ({first:.3g}, then {last:.3g}): {hint}"
