"""Train randomly chosen trials of a study again; count the verdicts.

.venv/bin/python benchmarks/reproduce.py STUDY [COUNT] [SEED]     one JSON object

Where mlflow.yaml is; killing the search now and then before makes it a better test.
"""

import io
import json
import random
import re
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from experiments import cli, settings
from experiments.tracking.record import Archive


def again(run_id: str) -> tuple[str, int]:
    """The verdict on a run, and how many of its epochs are the same, bit for bit."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        status = cli.main(["reproduce", run_id])
    said = out.getvalue()
    print(said, file=sys.stderr, flush=True)
    verdict = re.search(r"^(IDENTICAL|EQUIVALENT|DIVERGED)\b", said, re.MULTILINE)
    return verdict[1] if verdict else f"ERROR {status}", said.count(", identical (")


def main() -> None:
    words = sys.argv[1:]
    study, count, seed = [*words, *("20", "0")[len(words) - 1 :]]
    archive = Archive(settings.load(Path("mlflow.yaml")))
    ended: list[Any] = [one for one in archive.trials(study) if one.info.end_time]
    chance = random.Random(int(seed))  # noqa: S311
    chosen = chance.sample(ended, min(int(count), len(ended)))
    started, verdicts, epochs = time.perf_counter(), Counter[str](), 0
    for one in chosen:
        verdict, same = again(one.info.run_id)
        verdicts[verdict] += 1
        epochs += same
    states = Counter(one.data.tags["state"] for one in chosen)
    result = {
        "study": study,
        "trials": sorted(int(one.data.tags["trial"]) for one in chosen),
        "states": dict(states),
        "killed_and_resumed": sum(int(one.data.tags.get("attempts", 1)) > 1 for one in chosen),
        "verdicts": dict(verdicts),
        "epochs_identical": epochs,
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
