"""What a study costs a real training: the same trainings in a plain loop and as trials, in turns.

.venv/bin/python benchmarks/loop_in_study.py FOLDER [PAIRS]     one JSON object

The configs differ in one weight of the loss only. Processor time is compared beside the clock's,
because it does not count what else the machine is doing.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from centernet.config import Config
from centernet.dataset.coco import read_training
from centernet.presets import load
from centernet.train import train
from experiments import objective, search_space, settings, study
from experiments.study.suggest import suggest
from experiments.tracking import Tracker

SPACE = """
config: light
parameters:
  loss.size_weight: {type: float, low: 0.1, high: 4.0, log: true}
sampler: random
"""
VALUES = {"data.height": 192, "data.width": 256, "train.epochs": 5, "train.threads": 2}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    folder, pairs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    base = load("light", VALUES | {"data.folder": folder})
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "mlflow.yaml").write_text(Path("mlflow.yaml").read_text())
        (home / "space.yaml").write_text(SPACE)
        own, space = settings.load(home / "mlflow.yaml"), search_space.read(home / "space.yaml")
        ours = study.open_study(own, "s", space, identity={"q": 1}, points=[], threads=2)
        tracker = Tracker(own, "s", ours.user_attrs[study.ID])
        with tracker.open(tags={}, texts={}) as parent:
            shared = objective.reopen(own, "s", space, base, "bccd", parent, home / "trials")

            def as_trial() -> None:
                trial = study.ask(shared.study, space, seed=0)
                suggest(trial, space, base)
                trial.set_user_attr(study.EPOCHS, base.train.epochs)
                for _ in objective.objective(study.resume(shared.study, trial.number), shared):
                    pass

            found = [(plain(base, home / str(n)), timed(as_trial)) for n in range(pairs)]
    result = {"data": folder, "images": len(read_training(Path(folder))[0]), "pairs": pairs}
    for index, name in enumerate(("clock", "processor")):
        result[f"{name}_s"] = [[round(side[index], 1) for side in pair] for pair in found]
        ratios = [trial[index] / loop[index] for loop, trial in found]
        result[f"{name}_ratio"] = round(median(ratios), 3)
    print(json.dumps(result))


def plain(config: Config, folder: Path) -> tuple[float, float]:
    return timed(lambda: list(train(config, folder)))


if __name__ == "__main__":
    main()
