"""Whatever somebody deleted or edited in a store, each command ends with an answer or one line."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from journey import run, tracker_of

from experiments import study
from experiments.settings import Settings, load
from experiments.tracking import Tracker

PLACES = {  # where MLflow writes down paths
    "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
    "model_versions": "storage_location", "inputs": "source_id",
}  # fmt: skip


@pytest.fixture
def spoilt(place: Path, tmp_path: Path) -> Path:
    """A copy of the study `s`, whose files are its own."""
    home = tmp_path / "copy"
    # in a process of its own: closing a copy's source here drops SQLite's locks on it
    subprocess.run(["cp", "-r", place, home], check=True)
    with sqlite3.connect(home / "runs" / "mlflow.db") as connection:
        for table, column in PLACES.items():
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608
            connection.execute(change, (str(place), str(home)))
    connection.close()
    return home


def best(own: Settings) -> tuple[int, str]:
    found = study.best_trial(study.load_study(own, "s"))
    assert found is not None
    return found.number, str(found.user_attrs[study.RUN])


def run_of_best(own: Settings, tracker: Tracker) -> None:
    tracker.client.delete_run(best(own)[1])


def all_runs(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_runs([tracker.experiment]):
        tracker.client.delete_run(found.info.run_id)


def experiment(own: Settings, tracker: Tracker) -> None:
    tracker.client.delete_experiment(tracker.experiment)


def run_tags(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_runs([tracker.experiment]):
        for tag in ("trial", "study", "data", "state", "mlflow.parentRunId"):
            if tag in found.data.tags:
                tracker.client.delete_tag(found.info.run_id, tag)


def edited_tags(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_runs([tracker.experiment]):
        for tag in ("trial", "study", "state", "attempts"):
            tracker.client.set_tag(found.info.run_id, tag, "ä [x] \n 7.5")


def ended_by_hand(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_runs([tracker.experiment]):
        tracker.client.set_terminated(found.info.run_id, "FAILED")


def files(own: Settings, tracker: Tracker) -> None:
    shutil.rmtree(own.artifacts)


def broken_files(own: Settings, tracker: Tracker) -> None:
    for file in Path(own.artifacts).rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0{[")


def model(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_registered_models():
        tracker.client.delete_registered_model(found.name)


def version(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_model_versions():
        tracker.client.delete_model_version(found.name, found.version)


def alias(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_registered_models():
        tracker.client.delete_registered_model_alias(found.name, own.alias)


def version_tags(own: Settings, tracker: Tracker) -> None:
    for found in tracker.client.search_model_versions():
        for tag in found.tags:
            tracker.client.delete_model_version_tag(found.name, found.version, tag)
        for tag in ("val_AP", "replaced", "decision", "finals"):
            tracker.client.set_model_version_tag(found.name, found.version, tag, "x [y]")


def metrics(own: Settings, tracker: Tracker) -> None:
    with sqlite3.connect(own.runs / "mlflow.db") as connection:
        for table in ("metrics", "latest_metrics", "params", "inputs"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    connection.close()


def attributes(own: Settings, tracker: Tracker) -> None:
    with sqlite3.connect(own.runs / "studies.db") as connection:
        connection.execute("DELETE FROM trial_user_attributes")
    connection.close()


def the_study(own: Settings, tracker: Tracker) -> None:
    found = study.load_study(own, "s")
    found._storage.delete_study(found._study_id)


DAMAGES: list[Callable[[Settings, Tracker], None]] = [
    run_of_best, all_runs, experiment, run_tags, edited_tags, ended_by_hand, files, broken_files, model,
    version, alias, version_tags, metrics, attributes, the_study,
]  # fmt: skip
COMMANDS = (
    "status", "status --check", "gc", "models", "predict IMAGE", "rollback --why x", "reproduce 0 --check-only",
    "reproduce models:/centernet-tiny@champion --check-only", "register 0",
    "search --space space.yaml --study s", "report",
)  # fmt: skip


def any_status(home: Path, *words: str) -> str:
    """What a command prints, which is no traceback: it would be raised here."""
    for status in (0, 1, 2):
        try:
            return run(home, *words, status=status)
        except AssertionError as error:
            if re.match(r"assert (\d) == ", str(error).splitlines()[-1]):
                continue
    raise AssertionError(f"{words}: another status")


def test_a_search_whose_best_run_was_deleted_ends_with_its_summary_and_the_next_best(
    spoilt: Path,
) -> None:
    own = load(spoilt / "mlflow.yaml")
    tracker = tracker_of(own)
    number, run_id = best(own)
    tracker.client.delete_run(run_id)
    model(own, tracker)
    out = run(spoilt, "search", "--space", "space.yaml", "--study", "s")
    assert f"Best     trial {number}: AP " in out and "Report   runs/reports/s/" in out
    assert f"Missing  trial {number} is not registered: run {run_id} was deleted in MLflow" in out
    assert "Model    centernet-tiny version 1 is " in out
    page = (spoilt / "runs" / "reports" / "s" / "report.html").read_text()
    assert run_id not in page and 'alt="detections"' not in page


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_each_command_ends_with_an_answer_or_one_line(
    spoilt: Path, data: Path, damage: Callable[[Settings, Tracker], None]
) -> None:
    own = load(spoilt / "mlflow.yaml")
    damage(own, tracker_of(own))
    image = next((data / "images").iterdir())
    for text in COMMANDS:
        words = text.replace("IMAGE", str(image)).split()
        said = any_status(spoilt, *words)
        print(f"== {text}\n{said}")
        assert not any(line.startswith("Traceback") for line in said.splitlines())
