"""Which sampler and pruner find the best with the fewest epochs? Searches in a table of trainings.

.venv/bin/python benchmarks/samplers.py table PART PARTS    train its share of the table's points
.venv/bin/python benchmarks/samplers.py race                search it: rows, and a chart

The table holds the AP after each epoch of every point of a grid, trained once: training is
deterministic, so a search that asks for one of them gets what it would get from training it.
The samplers see continuous fields; what they suggest is taken to the nearest point. All begin
without known points. The pruners judge as in a search (experiments/study/pruning.py).
"""

import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
from optuna.storages import RDBStorage

from centernet.config import Config
from centernet.dataset.demo import generate
from centernet.presets import load
from centernet.structures import Epoch
from centernet.train import train
from experiments import search_space
from experiments.study.methods import make_pruner, make_sampler
from experiments.study.pruning import EpochReporter
from experiments.study.storage import create_study
from experiments.study.suggest import suggest

HERE = Path(__file__).parent
TABLE = HERE / "samplers.jsonl"
AXES = {  # on a log scale, from end to end
    "optim.lr": (2.0e-4, 3.0e-2, 6),
    "targets.sigma_divisor": (4.0, 40.0, 4),
    "loss.size_weight": (0.03, 1.0, 3),
}
EPOCHS = 6
SPACE = "\n".join([
    "config: demo",
    "parameters:",
    *(
        f"  {path}: {{type: float, low: {low}, high: {high}, log: true}}"
        for path, (low, high, _) in AXES.items()
    ),
])  # fmt: skip
TPE = "{name: tpe, n_startup_trials: 6, multivariate: true}"
MEDIAN = "{name: median, n_startup_trials: 4, n_warmup_steps: 2}"
HALVING = "{name: halving, min_resource: 2, reduction_factor: 2}"
RANDOM = ("random", "none")
RACERS = {  # as search_spaces/weights.yaml has them; then others
    "tpe + halving (shipped)": (TPE, HALVING),
    "tpe + median": (TPE, MEDIAN),
    "tpe": (TPE, "none"),
    "random + median": ("random", MEDIAN),
    "tpe + hyperband": (
        TPE,
        "{name: hyperband, min_resource: 2, max_resource: 6, reduction_factor: 2}",
    ),
    "cmaes + median": ("cmaes", MEDIAN),
    "qmc + median": ("qmc", MEDIAN),
}
TRIALS, SEEDS = 24, 20  # of random search without pruning; searches of each kind


def axis(path: str) -> list[float]:
    low, high, count = AXES[path]
    return [float(f"{value:.4g}") for value in np.geomspace(low, high, count)]


def points() -> list[dict[str, float]]:
    return [dict(zip(AXES, values, strict=True)) for values in itertools.product(*map(axis, AXES))]


def fill(part: int, parts: int) -> None:
    """Train the points that are missing, one line each."""
    known = {json.dumps(json.loads(line)["point"]) for line in TABLE.read_text().splitlines()}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        generate(data, {"train": 160, "val": 60, "test": 4})
        for index, point in enumerate(points()):
            if index % parts != part or json.dumps(point) in known:
                continue
            small = {"data.folder": str(data), "data.height": 64, "data.width": 64}
            small |= {"train.epochs": EPOCHS, "train.threads": 1, "optim.warmup_steps": 10}
            folder = Path(scratch) / str(index)
            curve = [epoch.metrics["AP"] for epoch in train(load("demo", small | point), folder)]
            with TABLE.open("a") as lines:
                lines.write(json.dumps({"point": point, "AP": curve}) + "\n")
            print(index, [round(value, 1) for value in curve], flush=True)


def nearest(values: dict[str, Any]) -> str:
    """The key of the grid's point that is nearest, each field on its log scale."""
    return json.dumps({
        path: min(axis(path), key=lambda one: abs(math.log(one / values[path]))) for path in AXES
    })  # fmt: skip


def race(
    table: dict[str, list[float]], sampler: str, pruner: str, *, seed: int, epochs: int
) -> list[float]:
    """The best AP of the complete trials after each epoch that a search spends."""
    best, curve = 0.0, []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "space.yaml"
        file.write_text(f"{SPACE}\nsampler: {sampler}\npruner: {pruner}\n")
        space = search_space.read(file)
        base: Config = load(space.config)
        database = RDBStorage(f"sqlite:///{scratch}/studies.db")
        study = create_study("s", database, directions=["maximize"], outage_seconds=0)
        study.pruner = make_pruner(space)
        while len(curve) < epochs:
            study.sampler = make_sampler(space, number=len(study.trials), seed=seed)
            trial = study.ask()
            suggest(trial, space, base)
            values, ended = table[nearest(trial.params)], False
            with EpochReporter(study, trial.number) as reporter:
                for number, value in enumerate(values, start=1):
                    curve.append(best)
                    epoch = Epoch(number, {}, {"AP": value}, 0.0, 0.0, 0.0, 0.0, "", False)
                    if ended := reporter.should_end(epoch):
                        break
            if ended:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, max(values))
                best = max(best, *values)
                curve[-1] = best
    return curve[:epochs]


def needed(curve: Sequence[float], goal: float) -> float:
    """Epochs until a search has reached a goal; infinite if it never does."""
    return next((spent for spent, best in enumerate(curve, start=1) if best >= goal), math.inf)


def main() -> None:
    if sys.argv[1] == "table":
        TABLE.touch()
        fill(int(sys.argv[2]), int(sys.argv[3]))
        return
    lines = map(json.loads, TABLE.read_text().splitlines())
    table = {json.dumps(line["point"]): line["AP"] for line in lines}
    assert len(table) == len(points()), f"{len(table)} of {len(points())} points are trained"
    budget = TRIALS * EPOCHS
    seeds = range(SEEDS)
    blind = [race(table, *RANDOM, seed=1000 + seed, epochs=budget) for seed in seeds]
    goal = mean(curve[-1] for curve in blind)
    rows, curves = {}, {"random, no pruning": blind}
    for name, (sampler, pruner) in RACERS.items():
        found = [race(table, sampler, pruner, seed=seed, epochs=budget) for seed in seeds]
        curves[name] = found
        average = np.mean(found, axis=0)
        rows[name] = {
            "epochs_until_its_mean_reaches_that_of_random": needed(average.tolist(), goal),
            "half_the_epochs": round(float(average[budget // 2 - 1]), 2),
            "all_epochs": round(float(average[-1]), 2),
            "median_epochs_to_goal": median(needed(curve, goal) for curve in found),
        }
        print(name, json.dumps(rows[name]), flush=True)
    result = {"best": max(map(max, table.values())), "random": round(goal, 2), "epochs": budget}
    print(json.dumps(result | {"seeds": SEEDS}))
    draw(curves, goal)


def draw(curves: dict[str, list[list[float]]], goal: float) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, found in curves.items():
        width = 2.4 if "shipped" in name or "random, no" in name else 1.0
        axes.plot(np.mean(found, axis=0), lw=width, label=name)
    axes.axhline(goal, color="grey", lw=0.8, ls=":")
    axes.set(xlabel="epochs spent", ylabel=f"best AP, mean of {SEEDS} searches")
    axes.set_ylim(bottom=goal - 12)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "samplers.png", dpi=110)


if __name__ == "__main__":
    main()
