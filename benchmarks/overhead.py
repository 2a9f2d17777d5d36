"""What a trial costs beside its training: 20 epochs of 8 metrics that take no time.

The stores are real, and so are the weights and the picture that they keep. Drawing the picture is
six images through the detector, which is not the framework's: it is drawn once and timed alone.

.venv/bin/python benchmarks/overhead.py [PROCESSES] [TRIALS]     one JSON object
"""

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from centernet.config import Config
from centernet.dataset.coco import read_training
from centernet.dataset.demo import generate
from centernet.draw import beside_truth
from centernet.predict import Detector
from centernet.presets import load
from centernet.structures import Epoch
from centernet.train import BEST, train
from experiments import objective, search_space, settings, study
from experiments.suggest import suggest
from experiments.tracking import Tracker

SPACE = """
config: light
parameters:
  loss.size_weight: {type: float, low: 0.02, high: 2.0, log: true}
  loss.offset_weight: {type: float, low: 0.02, high: 2.0, log: true}
  targets.sigma_divisor: {type: float, low: 4.0, high: 40.0, log: true}
  augment.flip_p: {type: float, low: 0.0, high: 1.0}
  augment.rotate_p: {type: float, low: 0.0, high: 1.0}
  augment.motion_blur_p: {type: float, low: 0.0, high: 1.0}
  augment.random_gamma_p: {type: float, low: 0.0, high: 1.0}
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
sampler: random
pruner: median
"""
EPOCHS = 20


def no_training(config: Config, folder: Path) -> Iterator[Epoch]:
    """Epochs at once, of 8 metrics each with the 4 that every epoch has."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(str(config.data.folder)).parent / "trained" / BEST, folder / BEST)
    for number in range(1, EPOCHS + 1):
        losses = dict.fromkeys(("total",), 1.0 / number)
        metrics = dict.fromkeys(("AP", "AP50", "AP75"), 10.0)
        yield Epoch(number, losses, metrics, 1e-3, 1.0, 0.1, 30.0, "0" * 32, False)


def base_config(home: Path) -> Config:
    return load("light", {"data.folder": str(home / "tiny"), "train.epochs": EPOCHS})


def open_search(home: Path) -> objective.Search:
    own = settings.load(home / "mlflow.yaml")
    space = search_space.read(home / "space.yaml")
    base = base_config(home)
    run = (home / "parent").read_text()
    return objective.reopen(own, "s", space, base, "tiny", run, home / "trials")


def serve(home: Path, numbers: Any, seconds: Any) -> None:
    """Run the trials that are given out, as a worker does."""
    shared = open_search(home)
    picture = (home / "picture.png").read_bytes()
    with (
        patch("experiments.objective.train", no_training),
        patch("experiments.objective.beside_truth", return_value=picture),
        patch("experiments.objective.Detector"),
    ):
        while (number := numbers.get()) is not None:
            started = time.perf_counter()
            *_, last = objective.objective(study.resume(shared.study, number), shared)
            seconds.put((time.perf_counter() - started, last.state, last.reason))


def prepare(home: Path) -> float:
    """Stores, data, trained weights, and a study without trials; seconds to draw a picture."""
    (home / "mlflow.yaml").write_text(Path("mlflow.yaml").read_text())
    (home / "space.yaml").write_text(SPACE)
    (home / "tiny").mkdir()
    generate(home / "tiny", {"train": 8, "val": 4, "test": 4})
    own = settings.load(home / "mlflow.yaml")
    space = search_space.read(home / "space.yaml")
    ours = study.open_study(own, "s", space, identity={"q": 1}, points=[], threads=1)
    with closing(train(base_config(home), home / "trained")) as epochs:
        next(epochs)
    tracker = Tracker(own, "s", ours.user_attrs[study.ID])
    with tracker.open(tags={}, texts={}) as run:
        (home / "parent").write_text(run)
    started = time.perf_counter()
    detector = Detector.load(home / "trained" / BEST)
    picture = beside_truth(detector, read_training(home / "tiny")[1])
    (home / "picture.png").write_bytes(picture)
    return time.perf_counter() - started


def give_out(shared: objective.Search) -> int:
    trial = study.ask(shared.study, shared.space, seed=0)
    suggest(trial, shared.space, shared.base)
    trial.set_user_attr(study.EPOCHS, EPOCHS)
    return trial.number


def main() -> None:
    processes, trials = (int(word) for word in [*sys.argv[1:], "1", "60"][:2])
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        drawing = prepare(home)
        shared = open_search(home)
        numbers, seconds = context.Queue(), context.Queue()
        workers = [
            context.Process(target=serve, args=(home, numbers, seconds)) for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            numbers.put(give_out(shared))
        spent, asked, states = [], [], Counter[str]()
        for _ in range(trials):
            passed, state, reason = seconds.get()
            assert state in ("COMPLETE", "PRUNED"), reason
            spent.append(passed)
            states[state] += 1
            started = time.perf_counter()
            numbers.put(give_out(shared))
            asked.append(time.perf_counter() - started)
        for _ in workers:
            numbers.put(None)
        for worker in workers:
            worker.join()
    each = [a + b for a, b in zip(spent, asked, strict=True)][processes:]  # the first one connects
    result = {
        "processes": processes,
        "trials": trials,
        "states": dict(states),
        "median_ms": round(median(each) * 1000),
        "of_it_giving_out_ms": round(median(asked) * 1000),
        "drawing_the_picture_ms": round(drawing * 1000),
        "last_20_over_first_20": round(median(each[-20:]) / median(each[:20]), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
