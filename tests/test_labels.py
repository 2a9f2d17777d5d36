"""Trials and finals have one name each, by which every command finds them, now and from before."""

import argparse
import sqlite3
from pathlib import Path

import optuna
import pytest
from conftest import tiny_values
from hypothesis import given
from hypothesis import strategies as st
from journey import SPACE

from centernet.config import resolve
from centernet.dataset.coco import read_training
from centernet.errors import UserError
from experiments import display, reproduce, search_space, study
from experiments.cli import numbered
from experiments.finalists import check_name, load_standings, open_finals
from experiments.label import Label, parse
from experiments.objective import Search
from experiments.search import study_name
from experiments.settings import Settings
from experiments.study import finals
from experiments.study.suggest import suggest
from experiments.tracking import Tracker
from experiments.tracking.lookup import NUMBER
from experiments.tracking.record import Archive

POINTS = [(0.1, 6.0), (0.5, 11.0), (0.2, 20.0), (0.7, 30.0)]  # of the trials; the first: default


def log(search: Search, parent: str, value: float) -> None:
    """A trial that was trained, without the training."""
    trial = search.study.ask()
    config = suggest(trial, search.space, search.base)
    number, splits = trial.number, search.splits
    with search.tracker.trial(
        number, config, parent=parent, data="tiny", splits=splits, begun=False
    ) as run:
        trial.set_user_attr(study.RUN, run.id)
        trial.report(value, 1)
        run.finish("COMPLETE", value=value, costs={})
    search.study.tell(trial, value)


def searched(own: Settings, data: Path, home: Path, trials: int) -> Search:
    """A study `f` of a few trials."""
    (home / "base.yaml").write_text("")
    (home / "space.yaml").write_text(SPACE.replace("config: base.yaml", ""))
    space, base = search_space.read(home / "space.yaml"), resolve(tiny_values(data))
    points = [
        {"loss.size_weight": weight, "targets.sigma_divisor": divisor}
        for weight, divisor in POINTS[:trials]
    ]
    made = study.open_study(
        own, "f", space, identity={"train.seed": base.train.seed}, points=points, threads=2
    )
    tracker, splits = Tracker.of(own, made), read_training(data)
    with tracker.open(tags={"data": "tiny"}, texts={}) as parent:
        search = Search(made, space, base, "tiny", splits, tracker, parent, home / "trials")
        for value in (30.0, 33.0, 31.0, 35.0)[:trials]:
            log(search, parent, value)
    return search


def with_finals(own: Settings, data: Path, home: Path) -> Search:
    """`f`, and the finals of its best two trials and of the default config."""
    search = searched(own, data, home, 4)
    held, budget = open_finals(search, 2, 2)
    assert budget.trials == 6
    for value in (29.0, 31.0, 34.0, 32.0, 30.0, 28.0):
        log(held, search.parent, value)
    return search


def as_before(own: Settings) -> None:
    """Make of the finals what earlier versions left: numbers of their own, no other tags."""
    archive = Archive(own)
    for run in archive.lookup.finals(archive.lookup.logged("f")).values():
        run_id, number = run.info.run_id, run.data.tags[NUMBER]
        for name, value in {"role": "trial", "trial": number}.items():
            archive.client.set_tag(run_id, name, value)
        archive.client.update_run(run_id, name=f"final {number}")
        archive.client.delete_tag(run_id, NUMBER)
    with sqlite3.connect(own.studies.removeprefix("sqlite:///")) as database:
        database.execute("DELETE FROM trial_user_attributes WHERE key = ?", (finals.LABEL,))


def shown(own: Settings) -> dict[Label, str]:
    """What `status` shows: the run of every trial and final by its label."""
    parent = study.load_study(own, "f")
    held = finals.load_finals(parent)
    assert held is not None
    return {
        row.name: str(study.find_trial(holder, row.trial).user_attrs[study.RUN])
        for holder in (parent, held)
        for row in display.rows(holder)
    }


def check_every_number(own: Settings) -> None:
    """Every label leads to its own run, whoever asks: `reproduce`, `register`, MLflow alone."""
    archive, parent = Archive(own), study.load_study(own, "f")
    runs = shown(own)
    assert len(set(runs.values())) == len(runs) == 10
    assert [str(label) for label in runs][:4] == ["0", "1", "2", "3"]
    assert sorted(map(str, runs))[4:] != [] and {str(one) for one in runs if one.seed} == {
        "3.1", "3.2", "1.1", "1.2", "0.1", "0.2"
    }  # fmt: skip
    for label, run_id in runs.items():
        alone = archive.find(str(label), "f")
        assert alone.info.run_id == run_id and archive.words(alone) == label.words
        assert archive.find(str(label)).info.run_id == run_id  # `f` was searched last
        holder, trial = finals.find(parent, label)
        assert finals.run_of(parent, label, trial) == run_id
        found = Tracker.of(own, holder).find(trial.number)
        assert found is not None and found.info.run_id == run_id
    for absent in ("4", "2.1", "3.3", "3.0"):
        with pytest.raises(UserError, match=r"has no|no such run"):
            archive.find(absent, "f")


def test_every_number_of_a_study_with_finals_is_the_run_that_status_shows(
    settings: Settings, data: Path, tmp_path: Path
) -> None:
    with_finals(settings, data, tmp_path)
    check_every_number(settings)
    as_before(settings)  # a study that was recorded by an earlier version
    check_every_number(settings)


def test_of_two_studies_of_a_name_the_numbers_are_those_of_the_last(
    settings: Settings, data: Path, tmp_path: Path
) -> None:
    first = with_finals(settings, data, tmp_path)
    storage = first.study._storage
    optuna.delete_study(study_name="f", storage=storage)
    again = searched(settings, data, tmp_path, 2)
    assert load_standings(again.study) == []  # the finals that are there are of the deleted study
    with pytest.raises(UserError, match=r"f\.finals is not of this study f, but of an earlier"):
        check_name(again.study)
    archive = Archive(settings)
    for trial in again.study.get_trials():
        reference = str(trial.number)
        assert archive.find(reference, "f").info.run_id == trial.user_attrs[study.RUN]
    for reference in ("2", "3.1"):  # only the deleted study had them
        with pytest.raises(UserError, match="study f has no"):
            archive.find(reference, "f")
        with pytest.raises(UserError, match="study f has no"):
            reproduce.find(archive, reference, "f")


def test_a_deleted_run_is_one_line(settings: Settings, data: Path, tmp_path: Path) -> None:
    search = searched(settings, data, tmp_path, 1)
    archive = Archive(settings)
    run_id = search.study.trials[0].user_attrs[study.RUN]
    archive.client.delete_run(run_id)
    with pytest.raises(UserError, match=f"^trial 0 of study f: {run_id}: .* was deleted in MLflow"):
        reproduce.find(archive, "0", "f")


@given(st.integers(0, 10**9 - 1), st.integers(0, 2**32 - 1))
def test_a_label_is_found_by_what_is_shown(trial: int, seed: int) -> None:
    label = Label(trial, seed)
    assert parse(str(label)) == label


@pytest.mark.parametrize(
    "text", ["", "7.", ".2", "7.0", "-1", "7.2.1", "1e3", "\u0667", "7,2", " 7"]
)
def test_what_is_no_label_is_refused(text: str) -> None:
    assert parse(text) is None
    with pytest.raises(argparse.ArgumentTypeError):
        numbered(text)


def test_no_study_is_named_like_finals() -> None:
    with pytest.raises(UserError, match=r"--study a\.finals: .* is of a study's finals"):
        study_name("a.finals")
