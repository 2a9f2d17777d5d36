"""What goes wrong around a search: names, locks, stores, servers, errors, Ctrl-C."""

import errno
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from journey import SPACE, command, run, tracker_of

from centernet.config import Config
from centernet.errors import UserError
from centernet.lock import exclusive
from centernet.structures import Epoch
from experiments import search, study
from experiments.settings import Settings
from experiments.tracking import connect


@pytest.mark.parametrize("name", ["..", ".", "../x", "/x", "a b", "-x", ""])
def test_a_study_cannot_be_named_like_a_path(place: Path, name: str) -> None:
    before = sorted((place / "runs").iterdir())
    with pytest.raises(UserError, match="letters, digits"):
        search.study_name(name)
    assert sorted((place / "runs").iterdir()) == before


def test_two_searches_of_one_study_do_not_run_at_once(place: Path) -> None:
    with exclusive(place / "runs" / "trials" / "s.lock"):
        error = run(place, "search", "--space", "space.yaml", "--study", "s", status=2)
    assert f"study s is being searched (process {os.getpid()} on " in error


def test_corrupt_stores_are_one_line(data: Path, home: Path) -> None:
    (home / "runs").mkdir()
    for file in ("studies.db", "mlflow.db"):
        (home / "runs" / file).write_bytes(
            b"not a database, but long enough to be taken for one" * 9
        )
    error = run(home, "status", status=2)
    assert "the studies at sqlite" in error and error.count("\n") == 1


def test_an_unreachable_server_is_one_line_and_leaves_no_study(
    home: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (home / "space.yaml").write_text(SPACE.replace("base.yaml", "light"))
    error = run(home, "search", "--space", "space.yaml", "--data", data, status=2)
    assert "MLflow at http://someone:***@127.0.0.1:9" in error and "secret" not in error
    assert error.count("\n") == 1
    assert not (home / "runs" / "studies.db").exists()


def test_an_unexpected_error_is_retried_then_fails_the_trial_and_the_third_such_stops_the_study(
    place: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def broken(*_: object) -> None:
        attempts.append(1)
        raise RuntimeError("a cosmic ray")

    monkeypatch.setattr("experiments.objective.train", broken)
    words = ("search", "--space", "space.yaml", "--study", "rays", "--trials", "9")
    out = run(place, *words, status=2)
    assert "the study stops: 3 trials failed and none was completed" in out and "cosmic" in out
    assert len(attempts) == 3 * (own.retries + 1)
    trials = study.load_study(own, "rays").get_trials()
    assert [trial.state.name for trial in trials[:3]] == ["FAIL"] * 3
    assert all(
        trial.value is None and "cosmic" in trial.user_attrs["reason"] for trial in trials[:3]
    )
    tracker = tracker_of(own, "rays")
    for number in range(3):
        found = tracker.find(number)
        assert found is not None and found.info.status == "FAILED"
        assert "in broken" in tracker.text(found.info.run_id, "error.txt")


def test_a_trial_out_of_memory_is_run_once_more_in_halves_and_then_fails(
    place: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    parts = []

    def full(config: Config, _: Path) -> Iterator[Epoch]:
        parts.append(config.optim.accumulate)
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr("experiments.objective.train", full)
    run(place, "search", "--space", "space.yaml", "--study", "large", "--trials", "1")
    assert parts == [1, 2]
    trial = study.load_study(own, "large").get_trials()[0]
    assert trial.state.name == "FAIL" and trial.value is None
    assert trial.user_attrs["reason"].startswith("out of memory")
    tracker = tracker_of(own, "large")
    found = tracker.find(0)
    assert found is not None and found.data.tags["optim.accumulate"] == "2"
    assert "accumulate: 2" in tracker.text(found.info.run_id, "config.yaml")


def test_a_store_that_does_not_answer_for_a_while_is_waited_for_and_nothing_is_lost(
    place: Path,
) -> None:
    def hold() -> None:
        while not list(place.glob("runs/trials/outage-*/0/last.safetensors")):
            time.sleep(0.01)
        held = [sqlite3.connect(place / "runs" / file) for file in ("mlflow.db", "studies.db")]
        for connection in held:
            connection.execute("BEGIN EXCLUSIVE")
        time.sleep(6)  # MLflow gives up after five seconds
        for connection in held:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    started = time.monotonic()
    out = run(place, "search", "--space", "space.yaml", "--study", "outage", "--trials", "1")
    holder.join()
    assert time.monotonic() - started > 6
    assert "trial 0: COMPLETE" in out and "interrupted" not in out
    assert "all as it should be" in run(place, "status", "outage", "--check")


def test_a_full_disk_stops_the_study_and_loses_nothing(
    place: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ("search", "--space", "space.yaml", "--study", "disk", "--trials", "1")
    with monkeypatch.context() as patch:
        patch.setattr("experiments.objective.train", full)
        out = run(place, *words, status=2)
    assert "No space left on device; the same command continues" in out
    assert study.load_study(own, "disk").get_trials()[0].state.name == "WAITING"
    assert "trial 0: COMPLETE" in run(place, *words)


def hears_ctrl_c() -> None:
    """Also where the tests run in the background, where a shell lets everything ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_nothing_running_and_the_study_continues(place: Path, own: Settings) -> None:
    search = command(
        "search",
        "--space",
        "space.yaml",
        "--study",
        "interrupted",
        "--trials",
        "1",
        "--set",
        "train.epochs=15",
    )
    with subprocess.Popen(
        search,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        rows = iter(process.stdout.readline, "")
        assert any("epoch 2/" in row for row in rows)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert "interrupted; the same command continues" in process.stderr.read()
    assert process.returncode == 130
    states = [trial.state.name for trial in study.load_study(own, "interrupted").get_trials()]
    assert states.count("RUNNING") == 0 and states[0] == "WAITING"
    tracker = tracker_of(own, "interrupted")
    found = tracker.find(0)
    assert found is not None and found.info.status == "SCHEDULED"
    out = run(place, *search[3:])
    assert "trial 0: COMPLETE" in out
    history = connect(own).get_metric_history(found.info.run_id, "val/AP")
    assert [metric.step for metric in history] == list(range(1, 16))
