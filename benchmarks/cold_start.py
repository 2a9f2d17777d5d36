"""Processes that open an empty store at the same moment, many times: how often one fails.

.venv/bin/python benchmarks/cold_start.py [PROCESSES] [TIMES]     one JSON object

Each opens both databases, resumes the one study, and logs a run, as a worker does; the processes
are forked with everything imported, so that they really start together.
"""

import json
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from experiments import search_space, settings, study
from experiments.tracking import Tracker

SPACE = "parameters: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}"


def work(home: Path, together: Any, results: Any) -> None:
    own, space = settings.load(home / "mlflow.yaml"), search_space.read(home / "space.yaml")
    together.wait()
    started = time.perf_counter()
    try:
        ours = study.open_study(own, "s", space, identity={"q": 1}, points=[], threads=1)
        tracker = Tracker(own, "s", ours.user_attrs[study.ID])
        with tracker.open(tags={}, texts={"a.txt": "a"}):
            pass
    except Exception as error:
        results.put((False, f"{type(error).__name__}: {error}"))
    else:
        results.put((True, time.perf_counter() - started))


def main() -> None:
    processes, times = (int(word) for word in [*sys.argv[1:], "8", "20"][:2])
    context, failures, seconds = get_context("fork"), [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch)
            (home / "mlflow.yaml").write_text(Path("mlflow.yaml").read_text())
            (home / "space.yaml").write_text(SPACE)
            together, results = context.Barrier(processes), context.Queue()
            workers = [
                context.Process(target=work, args=(home, together, results))
                for _ in range(processes)
            ]
            for worker in workers:
                worker.start()
            found = [results.get() for _ in workers]
            for worker in workers:
                worker.join()
        failures += [told for worked, told in found if not worked]
        seconds.append(max((told for worked, told in found if worked), default=0.0))
    result = {"processes": processes, "times": times, "failures": len(failures)}
    print(json.dumps(result | {"slowest_s": round(max(seconds), 1), "first": failures[:1]}))


if __name__ == "__main__":
    main()
