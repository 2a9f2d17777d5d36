"""The whole journey on real stores: search, kill, continue, register, load, reproduce."""

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

import numpy as np
import optuna
import pytest
import yaml
from mlflow.tracking import MlflowClient

from centernet.dataset import images
from centernet.errors import UserError
from centernet.predict import Detector
from experiments import cli, commands, study
from experiments.lock import exclusive
from experiments.settings import Settings, load
from experiments.tracking import STATUS, Tracker, connect

SPACE = """
config: base.yaml
parameters:
  loss.size_weight: {type: float, low: 0.02, high: 2.0, log: true}
  targets.sigma_divisor: {type: float, low: 4.0, high: 40.0, log: true}
enqueue:
  - {targets.sigma_divisor: 11.0}
pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 1}
budget: {trials: 4}
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


@pytest.fixture(scope="module")
def place(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study of four trials was killed twice, and then finished."""
    from conftest import REPOSITORY, tiny_values

    home = tmp_path_factory.mktemp("home")
    text = (REPOSITORY / "mlflow.yaml").read_text()
    (home / "mlflow.yaml").write_text(text.replace("seconds: 10", "seconds: 0.2"))
    base = tiny_values(data) | {"train.epochs": 6, "optim.lr": 0.01}
    (home / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (home / "space.yaml").write_text(SPACE)
    search = command("search", "--space", "space.yaml", "--study", "s")
    for wanted in (2, 9):  # kill inside the first trial, and inside the second
        with subprocess.Popen(search, cwd=home, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seen = 0
            while seen < wanted and (row := process.stdout.readline()):
                seen += "epoch" in row
            os.kill(process.pid, signal.SIGKILL)
    done = subprocess.run(search, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    (home / "out.txt").write_text(done.stdout)
    return home


@pytest.fixture
def own(place: Path) -> Settings:
    return load(place / "mlflow.yaml")


def tracker_of(own: Settings, name: str = "s") -> Tracker:
    return Tracker(own, name, study.load_study(own, name).user_attrs[study.ID])


def trials(own: Settings) -> list[optuna.trial.FrozenTrial]:
    return study.load_study(own, None).get_trials()


def test_the_total_is_exact_and_the_first_trials_are_the_known_points(own: Settings) -> None:
    found = trials(own)
    assert len(found) == 4 and all(trial.state.is_finished() for trial in found)
    assert found[0].params == {"loss.size_weight": 0.1, "targets.sigma_divisor": 6.0}
    assert found[1].params == {"loss.size_weight": 0.1, "targets.sigma_divisor": 11.0}
    assert len({tuple(trial.params.values()) for trial in found}) == 4


def test_running_it_again_does_nothing_and_a_larger_budget_adds_the_difference(
    place: Path, own: Settings
) -> None:
    run(place, "search", "--space", "space.yaml", "--study", "s")
    assert len(trials(own)) == 4


def test_every_trial_is_one_run_of_the_same_state_and_each_metric_is_there_once(
    own: Settings,
) -> None:
    client, tracker = connect(own), tracker_of(own)
    runs = client.search_runs([tracker.experiment], "tags.role = 'trial'")
    assert sorted(int(run.data.tags["trial"]) for run in runs) == [0, 1, 2, 3]
    for trial in trials(own):
        found = tracker.find(trial.number)
        assert found is not None
        assert trial.user_attrs["run_id"] == found.info.run_id
        assert found.info.status == STATUS[trial.state.name]
        assert found.data.tags["state"] == trial.state.name
        history = client.get_metric_history(found.info.run_id, "val/AP")
        steps = [metric.step for metric in history]
        assert steps == list(range(1, len(steps) + 1))
        assert {m.step: m.value for m in history} == pytest.approx(trial.intermediate_values)
        system = client.get_metric_history(found.info.run_id, "system/cpu_utilization_percentage")
        assert len({m.step for m in system}) == len(system) > 0
    assert all(run.info.status != "RUNNING" for run in client.search_runs([tracker.experiment]))


def test_a_run_says_what_it_was(own: Settings, data: Path) -> None:
    client, tracker = connect(own), tracker_of(own)
    found = tracker.find(0)
    assert found is not None
    params = found.data.params
    assert params["loss.size_weight"] == "0.1" and params["augment.rotate_limit"] == "15.0"
    names = {item.dataset.name: item.dataset.digest for item in found.inputs.dataset_inputs}
    assert set(names) == {f"{data.name}/train", f"{data.name}/val"}
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"config.yaml", "environment.json", "epochs.jsonl", "pictures", "checkpoint"} <= files
    config = yaml.safe_load(tracker.text(found.info.run_id, "config.yaml"))
    assert config["targets"]["sigma_divisor"] == 6.0
    environment = json.loads(tracker.text(found.info.run_id, "environment.json"))
    assert environment["packages"]["torch"] and environment["threads"] == 2
    metrics = found.data.metrics
    assert {"loss/total", "val/AP50", "val/AR100", "train/learning_rate"} <= set(metrics)
    parent = client.get_run(found.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["role"] == "study" and parent.info.status == "FINISHED"


def test_the_screen_says_what_was_found_and_what_to_type(place: Path) -> None:
    out = (place / "out.txt").read_text()
    assert "Best     trial" in out and "is now models:/centernet-tiny@champion" in out
    assert re.search(r"make reproduce TRIAL=\d", out)


def test_the_best_trial_is_the_champion_and_loads_without_this_repository_or_pickle(
    own: Settings, data: Path, tmp_path: Path
) -> None:
    best = study.best_trial(study.load_study(own, None))
    assert best is not None
    version = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    assert version.tags["trial"] == str(best.number)
    picture = sorted((data / "images").glob("val-*"))[0]
    code = f"""
import os, sys, json
sys.path = [p for p in sys.path if p and not os.path.isdir(os.path.join(p, "experiments"))]
import mlflow, pandas, numpy
from pathlib import Path
from PIL import Image
mlflow.set_tracking_uri({own.tracking_uri!r})
model = mlflow.pyfunc.load_model("models:/centernet-tiny@champion")
import centernet
assert {own.artifacts!r} in centernet.__file__, centernet.__file__
content = Path({str(picture)!r}).read_bytes()
array = numpy.asarray(Image.open({str(picture)!r}).convert("RGB"))
answers = [model.predict(pandas.DataFrame({{"image": [image]}})) for image in (content, array)]
assert answers[0].equals(answers[1])
print(answers[0].to_json(orient="records"))
"""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONWARNINGS")
    } | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    tracker = tracker_of(own)
    found = Detector.load(tracker.weights(best.user_attrs["run_id"]))(images.load(picture))
    ours = np.array([[row[name] for name in ("x1", "y1", "x2", "y2", "score")] for row in rows])
    np.testing.assert_allclose(ours[:, :4], found.boxes, atol=1e-3)
    np.testing.assert_allclose(ours[:, 4], found.scores, atol=1e-6)
    run_folder = Path(own.artifacts)
    assert not list(run_folder.rglob("*.pkl")) and not list(run_folder.rglob("*.pth"))


def test_a_trial_that_was_killed_is_reproduced_bit_for_bit_with_other_workers(place: Path) -> None:
    out = run(place, "reproduce", 0, "--workers", 1)
    assert "IDENTICAL: 6 epochs" in out
    assert out.count("identical (") == 6
    out = run(place, "reproduce", 1)
    assert "IDENTICAL" in out


def test_a_trial_that_does_not_come_out_the_same_is_said_to_diverge(
    place: Path, own: Settings
) -> None:
    tracker = tracker_of(own)
    found = tracker.find(2)
    assert found is not None
    run_id = found.info.run_id
    text = tracker.text(run_id, "config.yaml")
    client: MlflowClient = connect(own)
    client.log_text(run_id, text.replace("seed: 0", "seed: 1"), "config.yaml")
    try:
        out = run(place, "reproduce", 2, status=1)
    finally:
        client.log_text(run_id, text, "config.yaml")
    assert "DIVERGED at epoch 1" in out and "weights" in out


def test_status_and_unknown_trials(place: Path) -> None:
    out = run(place, "status")
    assert "4 finished trials" in out and "sigma_divisor" in out
    for words, message in {
        ("reproduce", 99): "study s has no trial 99; its trials are 0 to 3",
        ("register", 99): "study s has no trial 99",
        ("status", "ss"): "no study is named ss; did you mean s?",
    }.items():
        error = run(place, *words, status=2)
        assert message in error and error.count("\n") == 1


def test_another_question_under_the_same_name_is_refused(place: Path) -> None:
    text = (place / "space.yaml").read_text()
    (place / "other.yaml").write_text(text.replace("high: 40.0", "high: 30.0"))
    error = run(place, "search", "--space", "other.yaml", "--study", "s", status=2)
    assert "was started with space targets.sigma_divisor" in error and error.count("\n") == 1


def test_a_person_may_register_another_trial(place: Path, own: Settings) -> None:
    out = run(place, "register", 1)
    assert "models:/centernet-tiny@champion is now version" in out
    version = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    assert version.tags["trial"] == "1"
    again = run(place, "register", 1)
    assert again == out  # no second version of the same trial
    run(place, "search", "--space", "space.yaml", "--study", "s")
    version = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    assert version.tags["trial"] == "1"  # a search does not undo what a person did


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
