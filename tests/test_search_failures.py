"""What goes wrong around a search: names, locks, stores, servers, errors, Ctrl-C."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from journey import SPACE, command, run, tracker_of

from centernet.errors import UserError
from experiments import commands, study
from experiments.lock import exclusive
from experiments.settings import Settings
from experiments.tracking import connect


@pytest.mark.parametrize("name", ["..", ".", "../x", "/x", "a b", "-x", ""])
def test_a_study_cannot_be_named_like_a_path(place: Path, name: str) -> None:
    before = sorted((place / "runs").iterdir())
    with pytest.raises(UserError, match="letters, digits"):
        commands.study_name(name)
    assert sorted((place / "runs").iterdir()) == before


def test_two_searches_of_one_study_do_not_run_at_once(place: Path) -> None:
    with exclusive(place / "runs" / "trials" / "s.lock"):
        error = run(place, "search", "--space", "space.yaml", "--study", "s", status=2)
    assert f"study s is being searched (process {os.getpid()})" in error


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


def test_an_unexpected_error_leaves_the_trial_to_be_continued_and_the_third_fails_it(
    place: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a cosmic ray")

    monkeypatch.setattr("experiments.objective.train", broken)
    words = ("search", "--space", "space.yaml", "--study", "rays", "--trials", "1")
    expected = [("WAITING", "SCHEDULED"), ("WAITING", "SCHEDULED"), ("FAIL", "FAILED")]
    for state, status in expected:
        with pytest.raises(RuntimeError, match="cosmic"):
            run(place, *words)
        trial = study.load_study(own, "rays").get_trials()[0]
        found = tracker_of(own, "rays").find(0)
        assert found is not None
        assert (trial.state.name, found.info.status) == (state, status)
    assert "cosmic" in trial.user_attrs["reason"]


def test_ctrl_c_leaves_nothing_running_and_the_study_continues(place: Path, own: Settings) -> None:
    search = command("search", "--space", "space.yaml", "--study", "interrupted", "--trials", "1")
    with subprocess.Popen(
        search, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
