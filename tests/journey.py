"""A study on small real data that was killed and then finished, for the tests of it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from conftest import REPOSITORY, tiny_values

from experiments import cli, study
from experiments.settings import Settings
from experiments.tracking import Tracker

SPACE = """
config: base.yaml
parameters:
  loss.size_weight: {type: float, low: 0.02, high: 2.0, log: true}
  targets.sigma_divisor: {type: float, low: 4.0, high: 40.0, log: true}
enqueue:
  - {targets.sigma_divisor: 11.0}
pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 1}
budget: {trials: 4}
finals: {finalists: 0}
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "experiments.cli", *map(str, words)]


def run(home: Path, *words: object, status: int = 0) -> str:
    """Type a command in `home`; what it prints. In this process: starting one takes longest."""
    out = io.StringIO()
    environment = patch.dict(os.environ)  # MLflow writes its tracking URI there
    with chdir(home), environment, redirect_stdout(out), redirect_stderr(out):
        found = cli.main(list(map(str, words)))
    assert found == status, out.getvalue()
    return out.getvalue()


def kill_and_finish(data: Path, home: Path) -> None:
    """In `home`, a study of four trials: killed inside the second, and then finished."""
    text = (REPOSITORY / "mlflow.yaml").read_text()
    text = text.replace("seconds: 10", "seconds: 0.2").replace("minimum_ap: 1.0", "minimum_ap: 0.0")
    (home / "mlflow.yaml").write_text(text)
    base = tiny_values(data) | {"train.epochs": 6, "optim.lr": 0.01}
    (home / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (home / "space.yaml").write_text(SPACE)
    search = command("search", "--space", "space.yaml", "--study", "s")
    with subprocess.Popen(search, cwd=home, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rows = iter(process.stdout.readline, "")
        assert any("trial 1: epoch 3/" in row for row in rows)
        os.kill(process.pid, signal.SIGKILL)
    done = subprocess.run(search, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    (home / "out.txt").write_text(done.stdout)
    unchecked(home)


def unchecked(home: Path) -> None:
    """Ask for no checks from here on: each takes seconds, and they passed."""
    file = home / "mlflow.yaml"
    file.write_text(re.sub(r"checks: \[.*\]", "checks: []", file.read_text()))


def tracker_of(own: Settings, name: str = "s") -> Tracker:
    return Tracker(own, name, study.load_study(own, name).user_attrs[study.ID])


def named(out: str) -> list[str]:
    """What `reproduce` says differs now."""
    return [line.split(": ", 1)[1] for line in out.splitlines() if "  differs now: " in line]


def suspected(out: str) -> list[str]:
    """What `reproduce` suspects."""
    return [line.split(": ", 1)[1] for line in out.splitlines() if "  suspect: " in line]
