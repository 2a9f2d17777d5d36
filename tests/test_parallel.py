"""Workers beside each other, as real processes, and what is left of a study that they die in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import leftovers, torment, twins
from conftest import REPOSITORY, tiny_values
from journey import SPACE, run, tracker_of, unchecked

from experiments import study
from experiments.settings import Settings, load


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study `p` of two workers, in which everything was killed once."""
    home = tmp_path_factory.mktemp("pair")
    text = (REPOSITORY / "mlflow.yaml").read_text()
    text = text.replace("retries: 3 ", "retries: 9 ").replace("minutes: 60 ", "minutes: 0.3 ")
    (home / "mlflow.yaml").write_text(text)
    unchecked(home)
    base = tiny_values(data) | {"train.epochs": 7, "optim.lr": 0.01, "train.threads": 1}
    (home / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (home / "space.yaml").write_text(SPACE)
    words = ("--space", "space.yaml", "--study", "p", "--workers", 2)
    torment(home, words, kinds=("everything", "worker", "hang"), seconds=(0, 1), seed=1)
    return home


@pytest.fixture
def chaotic(pair: Path) -> Settings:
    return load(pair / "mlflow.yaml")


def test_after_the_kills_every_trial_is_there_once_and_nothing_is_left_running(
    pair: Path, chaotic: Settings
) -> None:
    trials = study.load_study(chaotic, "p").get_trials()
    assert len(trials) == 4 and all(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
    assert len({json.dumps(trial.params) for trial in trials}) == 4
    out = run(pair, "status", "p", "--check")
    assert "4 trials" in out and "all as it should be" in out
    assert not leftovers(chaotic, "p")


def test_the_weights_of_killed_trials_are_those_of_undisturbed_ones(
    chaotic: Settings, tmp_path: Path
) -> None:
    compared, differ = twins(chaotic, "p", tmp_path)
    assert compared > 9 and not differ


def test_each_worker_has_a_log(pair: Path) -> None:
    logs = sorted((pair / "runs" / "logs" / "p").iterdir())
    assert [log.name for log in logs] == ["worker-0.log", "worker-1.log"]
    assert "epoch 1/7 best AP" in logs[0].read_text()


def test_the_check_finds_what_does_not_fit(pair: Path, chaotic: Settings) -> None:
    tracker = tracker_of(chaotic, "p")
    found = tracker.find(0)
    assert found is not None
    client = tracker.client
    client.log_metric(found.info.run_id, "loss/total", 1.0, step=1)
    client.update_run(found.info.run_id, "RUNNING")
    out = run(pair, "status", "p", "--check", status=1)
    assert "loss/total: 1 epochs are there twice" in out
    state = study.load_study(chaotic, "p").get_trials()[0].state.name  # who ends first has a say
    assert f"trial 0: {state} in Optuna, RUNNING in MLflow" in out
    client.set_terminated(found.info.run_id, "FINISHED")


def test_what_happened_was_said(pair: Path) -> None:
    out = (pair / "out.txt").read_text()
    assert "interrupted (its process was killed" in out
    assert "interrupted (no epoch for 0.3 minutes); it goes on from its checkpoint" in out


@pytest.mark.slow
def test_processes_that_open_an_empty_store_at_once_all_succeed(home: Path) -> None:
    code = (
        "from pathlib import Path; from experiments.settings import load; "
        "from experiments.study.storage import open_storage; from experiments.tracking import Tracker; "
        f"own = load(Path({str(home / 'mlflow.yaml')!r})); open_storage(own); Tracker(own, 's', 'i')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in started]
    assert not any(errors) and not any(process.returncode for process in started), errors
