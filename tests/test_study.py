"""What a study keeps for as long as it is."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from journey import run

from centernet.config import resolve
from centernet.errors import UserError
from experiments import study
from experiments.budget import Budget
from experiments.drive import may_need, next_trial
from experiments.reproduce import find
from experiments.search_space import SearchSpace, read
from experiments.settings import Settings, sqlite_file
from experiments.study.pruning import EpochReporter
from experiments.tracking import Tracker
from experiments.tracking.record import Archive


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "space.yaml").write_text(
        "parameters: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}"
    )
    return read(tmp_path / "space.yaml")


def test_a_study_of_before_a_field_was_added_goes_on_with_its_default(
    settings: Settings, space: SearchSpace
) -> None:
    def reopen(identity: dict[str, object]) -> None:
        study.open_study(settings, "s", space, identity=identity, points=[], threads=1)

    reopen({"q": 1})
    reopen({"q": 1, "optim.weight_decay": 0.01})
    with pytest.raises(UserError, match=r"optim.weight_decay = 0.01, now it is 0.3"):
        reopen({"q": 1, "optim.weight_decay": 0.3})


def test_a_study_keeps_its_threads_with_any_number_of_workers(
    settings: Settings, space: SearchSpace
) -> None:

    def threads(asked: int | None, share: int) -> int:
        made = study.open_study(
            settings, "s", space, identity={"q": 1}, points=[], threads=asked, share=share
        )
        return int(made.user_attrs[study.THREADS])

    assert threads(None, 3) == 3
    assert threads(None, 1) == 3
    assert threads(3, 1) == 3
    with pytest.raises(UserError, match="was started with threads = 3, now it is 2"):
        threads(2, 1)


def drop(settings: Settings, number: int) -> None:
    """Delete a trial's row by hand."""
    with sqlite3.connect(str(sqlite_file(settings.studies))) as connection:
        connection.execute("DELETE FROM trials WHERE number = ?", (number,))
    connection.close()


def test_a_trial_keeps_its_number_where_another_one_was_deleted_and_the_study_does_not_go_on(
    settings: Settings, space: SearchSpace
) -> None:
    def reopen() -> study.Study:
        return study.open_study(settings, "s", space, identity={"q": 1}, points=[], threads=1)

    made = reopen()
    for number in range(4):
        assert made.ask().number == number
        made.note(number, "mark", number)
    drop(settings, 1)
    again = study.load_study(settings, "s")
    for number in (0, 2, 3):
        assert study.find_trial(again, number).user_attrs["mark"] == number
        assert EpochReporter(again, number).known == {}
    for number in (1, 4):
        with pytest.raises(UserError, match=f"study s has no trial {number}; its trials are"):
            study.find_trial(again, number)
    with pytest.raises(UserError, match=r"study s: trials were deleted .* got 0, 2, 3; name"):
        reopen()


@pytest.mark.parametrize(
    ("conditions", "queued", "most"),
    [({}, {"train.epochs": 6}, 6), ({}, {"optim.lr": 1e-3}, 9), ({}, None, 9),
     ({"train.epochs": {"optim.name": ["sgd"]}}, {"train.epochs": 1}, 12)],
)  # fmt: skip
def test_a_trial_is_given_out_only_where_all_its_epochs_are_left(
    settings: Settings, space: SearchSpace, conditions: Any, queued: Any, most: int
) -> None:
    epochs = optuna.distributions.IntDistribution(1, 9)
    space = replace(
        space, parameters=space.parameters | {"train.epochs": epochs}, conditions=conditions
    )
    points = [] if queued is None else [queued]
    made = study.open_study(settings, "s", space, identity={"q": 1}, points=points, threads=1)
    base = resolve({"train.epochs": 12 if conditions else 2})
    search: Any = SimpleNamespace(study=made, space=space, base=base)
    assert may_need(search) == most
    assert next_trial(search, Budget(epochs=most - 1), 0.0) is None
    assert len(made.get_trials()) == len(points)
    assert next_trial(search, Budget(epochs=most), 0.0) == 0
    assert study.find_trial(made, 0).user_attrs[study.EPOCHS] <= most


def recorded(settings: Settings, space: SearchSpace) -> tuple[study.Study, list[str]]:
    """A study of two trials, and their runs, in which nothing was trained."""
    made = study.open_study(settings, "s", space, identity={"q": 1}, points=[], threads=1)
    tracker = Tracker.of(settings, made)
    runs = []
    for number in range(2):
        assert made.ask().number == number
        tags = {"role": "trial", "study": "s", "study_id": tracker.study_id, "trial": str(number)}
        runs.append(tracker.client.create_run(tracker.experiment, tags=tags).info.run_id)
        made.note(number, study.RUN, runs[-1])
    return made, runs


def test_a_run_that_is_labelled_otherwise_than_asked_is_not_taken_for_it(
    settings: Settings, space: SearchSpace
) -> None:
    made, runs = recorded(settings, space)
    archive = Archive(settings)
    with pytest.raises(UserError, match=r"has no environment\.json: nothing was trained in it"):
        find(archive, "0", "s")
    made.note(0, study.RUN, runs[1])
    with pytest.raises(UserError, match=r"trial 0 of study s: its run \w+ is labelled trial 1 of"):
        find(archive, "0", "s")
    archive.client.set_tag(runs[1], "trial", "0")
    archive.client.set_tag(runs[1], "study_id", "another")
    with pytest.raises(UserError, match=r"trial 0 of study s: its run \w+ is labelled "):
        find(archive, "0", "s")
    with pytest.raises(UserError, match="--study s: models:/m/1 says itself of which study it is"):
        find(archive, "models:/m/1", "s")


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0 and no more" * 99])
def test_a_broken_database_of_studies_is_not_passed_over(
    settings: Settings, space: SearchSpace, content: bytes
) -> None:
    recorded(settings, space)
    file = sqlite_file(settings.studies)
    assert file is not None
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"the studies at sqlite:///.*: "):
        find(Archive(settings), "0", "s")
    file.unlink()
    with pytest.raises(UserError, match="nothing was trained in it"):  # MLflow is asked alone
        find(Archive(settings), "0", "s")


def test_a_settings_file_that_was_named_must_be_there_and_a_study_has_a_name(
    space: SearchSpace, tmp_path: Path
) -> None:
    lint = ("lint", space.file.name)
    assert "nope" in run(tmp_path, "--settings", "nope", *lint, status=2)
    assert "no remarks" in run(tmp_path, *lint)
    space.file.write_text(space.file.read_text() + "\nwarm_start: ['']\n")
    assert "warm_start" in run(tmp_path, *lint, status=2)
