"""The whole journey on real stores: search, kill, continue, register, load, reproduce."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from journey import run, tracker_of
from mlflow.tracking import MlflowClient

from centernet.dataset import images
from centernet.predict import Detector
from experiments import study
from experiments.settings import Settings
from experiments.tracking import connect
from experiments.tracking.run import STATUS


def trials(own: Settings) -> list[optuna.trial.FrozenTrial]:
    return study.load_study(own, "s").get_trials()


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


def test_the_study_s_run_keeps_the_card_of_its_data(own: Settings) -> None:
    client, tracker = connect(own), tracker_of(own)
    (parent,) = client.search_runs([tracker.experiment], "tags.role = 'study'")
    card = json.loads(tracker.text(parent.info.run_id, "data/card.json"))
    assert set(card["splits"]) == {"train", "val"}  # the test images are not looked at
    assert card["splits"]["train"]["images"] > 0 and card["network"]["stride"] == 4
    names = {file.path for file in client.list_artifacts(parent.info.run_id, "data")}
    assert names == {"data/card.json", "data/card.png"}


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
    assert re.search(r"experiments reproduce \d", out)


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
    out = run(place, "reproduce", 1, "--workers", 1)
    assert "IDENTICAL: 6 epochs" in out
    assert out.count("identical (") == 6
    out = run(place, "reproduce", 0)
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
    assert "DIVERGED: first at epoch 1: tensor model/backbone" in out


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
    assert (
        "was started with targets.sigma_divisor = a number from 4 to 40 (log), now" in error
        and error.count("\n") == 1
    )


def test_a_person_may_register_another_trial(place: Path, own: Settings) -> None:
    before = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    other = 1 - int(before.tags["trial"])
    out = run(place, "register", other)
    assert "models:/centernet-tiny@champion is now version" in out
    version = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    assert version.tags["trial"] == str(other) and version.version != before.version
    assert "Gate     would" in out
    again = run(place, "register", other)  # no second version, and no second verdict
    said = f"version {version.version} is models:/centernet-tiny@champion; decided earlier: moved"
    assert said in again and "Gate     would" not in again
    assert out.endswith(f" {version.version}\n")
    run(place, "search", "--space", "space.yaml", "--study", "s")
    version = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    assert version.tags["trial"] == str(other)  # a search does not undo what a person did
