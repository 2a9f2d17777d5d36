"""What a trial costs beside its training: 20 epochs of 8 metrics, asleep for EPOCH_MS each.

Counted is everything from giving a trial out (the budget, the sampler) over its run, metrics,
pruning and weights to clearing away behind it, by the real `drive`, on real stores. Drawing the
picture is six images through the detector, which is not the framework's: it is drawn once and
timed alone. One process runs its trials inline, as one worker does; of several, each trial's time
in its process is counted, and the driver's beside it, but not Ray's. The sleep is not counted. With
epochs of 0 ms nothing but overhead runs, and more processes than cores wait for each other.

.venv/bin/python benchmarks/overhead.py [PROCESSES] [TRIALS] [SAMPLER] [EPOCH_MS]     a JSON object
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from centernet.checkpoint import BEST
from centernet.config import Config
from centernet.dataset.coco import read_training
from centernet.dataset.demo import generate
from centernet.draw import beside_truth
from centernet.predict import Detector
from centernet.presets import load
from centernet.structures import Epoch
from centernet.train import train
from experiments import objective, search_space, settings, study
from experiments.budget import Budget
from experiments.drive import drive
from experiments.launch import Inline
from experiments.objective import Progress
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
sampler: {name: SAMPLER}
pruner: median
"""
EPOCHS = 20
ASLEEP = "OVERHEAD_EPOCH_SECONDS"  # environment: processes inherit it


def no_training(config: Config, folder: Path) -> Iterator[Epoch]:
    """Epochs at once, of 8 metrics each with the 4 that every epoch has."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(str(config.data.folder)).parent / "trained" / BEST, folder / BEST)
    for number in range(1, EPOCHS + 1):
        time.sleep(float(os.environ[ASLEEP]))
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


@contextmanager
def no_work(home: Path) -> Iterator[None]:
    """Training and drawing take no time inside."""
    picture = (home / "picture.png").read_bytes()
    with (
        patch("experiments.objective.train", no_training),
        patch("experiments.objective.beside_truth", return_value=picture),
        patch("experiments.objective.Detector"),
    ):
        yield


def serve(home: Path, numbers: Any, told: Any) -> None:
    """Run the trials that are given out, as a worker does."""
    shared = open_search(home)
    with no_work(home):
        while (number := numbers.get()) is not None:
            started = time.perf_counter()
            for progress in objective.objective(study.resume(shared.study, number), shared):
                seconds = time.perf_counter() - started
                told.put((progress, seconds, time.process_time()))


class Processes:
    """A crew of processes that are told by queues, in place of Ray's."""

    def __init__(self, home: Path, count: int) -> None:
        context = get_context("spawn")
        self.numbers, self.told = context.Queue(), context.Queue()
        self.free = self.count = count
        self.waited = 0.0  # seconds
        self.spent: list[float] = []  # seconds of each trial in its process
        self.workers = [
            context.Process(target=serve, args=(home, self.numbers, self.told))
            for _ in range(count)
        ]
        for worker in self.workers:
            worker.start()

    @property
    def idle(self) -> bool:
        return self.free > 0

    @property
    def busy(self) -> bool:
        return self.free < self.count

    def start(self, number: int) -> None:
        self.free -= 1
        self.numbers.put(number)

    def events(self) -> Iterator[Progress]:
        started = time.perf_counter()
        progress, seconds, _ = self.told.get()
        self.waited += time.perf_counter() - started
        if progress.state != "RUNNING":
            self.free += 1
            self.spent.append(seconds)
        yield progress

    def close(self) -> None:
        for _ in self.workers:
            self.numbers.put(None)
        for worker in self.workers:
            worker.join()


def prepare(home: Path, sampler: str) -> float:
    """Stores, data, trained weights, and a study without trials; seconds to draw a picture."""
    (home / "mlflow.yaml").write_text(Path("mlflow.yaml").read_text())
    (home / "space.yaml").write_text(SPACE.replace("SAMPLER", sampler))
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


def run(shared: objective.Search, crew: Any, trials: int) -> tuple[list[float], Counter[str]]:
    """Seconds of each trial, of a study driven to its end, and how they ended."""
    each: list[float] = []
    states = Counter[str]()
    before, waited = time.perf_counter(), 0.0
    asleep = EPOCHS * float(os.environ[ASLEEP])
    for progress in drive(shared, Budget(trials=trials), crew):
        assert progress.state in ("RUNNING", "COMPLETE", "PRUNED"), progress.reason
        if progress.state != "RUNNING":
            states[progress.state] += 1
            now = time.perf_counter()
            each.append(now - before - (asleep if isinstance(crew, Inline) else 0.0))
            if isinstance(crew, Processes):  # the driver's part, and that of the trial's process
                each[-1] += crew.spent[-1] - asleep - (crew.waited - waited)
                waited = crew.waited
            before = now
    return each, states


def main() -> None:
    words = [*sys.argv[1:], *("1", "60", "random", "50")[len(sys.argv) - 1 :]]
    os.environ[ASLEEP] = str(float(words[3]) / 1000)
    processes, trials = int(words[0]), int(words[1])
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        drawing = prepare(home, words[2])
        shared = open_search(home)
        crew = Inline(shared) if processes == 1 else Processes(home, processes)
        started, cpu = time.perf_counter(), cpu_seconds()
        with no_work(home):
            each, states = run(shared, crew, trials)
        passed, cpu = time.perf_counter() - started, cpu_seconds() - cpu
        each = each[processes:]  # the first one connects
        result = {
            "processes": processes,
            "trials": trials,
            "sampler": words[2],
            "epoch_ms": float(words[3]),
            "states": dict(states),
            "median_ms": round(median(each) * 1000),
            "wall_ms_over_trials": round(passed / trials * 1000),
            "cpu_ms_a_trial": round(cpu / trials * 1000),  # of several: with starting them
            "drawing_the_picture_ms": round(drawing * 1000),
            "last_20_over_first_20": round(median(each[-20:]) / median(each[:20]), 2),
        }
    print(json.dumps(result))


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
