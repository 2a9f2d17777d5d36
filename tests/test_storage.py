"""A study takes word of its trials by number, once, in both kinds of database."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from postgres import Postgres
from sqlalchemy.exc import OperationalError

from experiments.commands import runs_page
from experiments.settings import Settings
from experiments.study.storage import Study, create_study, open_storage
from experiments.tracking import Tracker

RATE = FloatDistribution(1e-4, 1e-1, log=True)
SIZE = IntDistribution(1, 9, step=2)
WORD = CategoricalDistribution(("a", None, 3))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path_factory.mktemp("pg"))
    yield postgres
    postgres.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return str(request.getfixturevalue("server").uri("studies"))


@pytest.fixture
def database(settings: Settings, uri: str) -> RDBStorage:
    return open_storage(settings.model_copy(update={"studies": uri}))


def new(database: RDBStorage) -> Study:
    name = uuid4().hex  # one server has the studies of all tests
    return create_study(name, database, directions=["maximize", "minimize"], outage_seconds=0)


def suggest(trial: optuna.Trial) -> None:
    trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    trial.suggest_int("size", 1, 9, step=2)
    trial.suggest_categorical("word", ("a", None, 3))


def fill(study: Study) -> None:
    """Trials of every state, the third with all that a trial can have."""
    study.enqueue_trial({"rate": 0.01})
    study.enqueue_trial({"size": 5, "word": None})
    study.enqueue_trial({"size": 7})
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None):
        trial = study.ask()
        suggest(trial)
        study.note(trial.number, "epochs", 3)
        study.note(trial.number, "reason", "wörds\n'\"")
        study.report(trial.number, {1: 0.5, 3: math.inf, 2: -math.inf, 4: 1e-300})
        trial.set_constraint("latency", -1.5)
        if state is not None:
            values = [1.0, math.inf] if state == TrialState.COMPLETE else None
            study.tell(trial, values, state)
    study.enqueue_trial({"rate": 0.02})


def test_a_trial_holds_what_it_was_told_by_its_number(database: RDBStorage, uri: str) -> None:
    study = new(database)
    assert study.get_trials() == []
    fill(study)
    trials = study.get_trials()
    assert trials == optuna.load_study(study_name=study.study_name, storage=uri).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]  # fmt: skip
    assert trials[2].intermediate_values == {1: 0.5, 3: math.inf, 2: -math.inf, 4: 1e-300}
    assert trials[2].distributions == {"rate": RATE, "size": SIZE, "word": WORD}
    assert trials[2].user_attrs == {"epochs": 3, "reason": "wörds\n'\""}


def test_what_others_write_is_seen_and_one_study_does_not_show_in_another(
    database: RDBStorage, uri: str
) -> None:
    study, other = new(database), new(database)
    trial = study.ask()
    beside = optuna.load_study(study_name=study.study_name, storage=uri)
    assert study.get_trials(deepcopy=False)[0].intermediate_values == {}
    study.report(trial.number, {1: 3.0})
    assert beside.get_trials()[0].intermediate_values == {1: 3.0}
    beside.tell(0, [1.0, 2.0])
    assert study.get_trials(deepcopy=False)[0].values == [1.0, 2.0]
    assert other.get_trials() == []


def test_writing_twice_leaves_it_once_and_an_ended_trial_as_it_was(database: RDBStorage) -> None:
    study = new(database)
    fill(study)
    study.report(3, {1: 0.5, 2: math.nan})
    study.report(3, {2: 7.0})
    study.note(3, "epochs", [4])
    trial = study.get_trials()[3]
    assert trial.intermediate_values[2] == 7.0 and len(trial.intermediate_values) == 4
    assert trial.user_attrs["epochs"] == [4]
    study.tell(3, state=TrialState.FAIL)
    study.tell(3, state=TrialState.PRUNED)
    study.set_state(3, TrialState.WAITING)
    for late in (lambda: study.report(3, {5: 1.0}), lambda: study.note(3, "epochs", 0)):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            late()
    assert study.get_trials()[3].state == TrialState.FAIL


@pytest.mark.parametrize("queued", [True, False])
def test_a_trial_whose_giving_out_was_not_answered_is_given_out_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, queued: bool
) -> None:
    study = create_study("s", open_storage(settings), directions=["maximize"], outage_seconds=9)
    study.ask()
    if queued:
        study.enqueue_trial({"rate": 0.5})
    ask, answers = optuna.Study.ask, []

    def lost(*arguments: Any, **named: Any) -> optuna.Trial:
        answers.append(ask(*arguments, **named))
        raise OperationalError("the answer", None, Exception("was lost"))

    monkeypatch.setattr(optuna.Study, "ask", lost)
    assert study.ask().number == 1
    assert len(answers) == 1 and len(study.get_trials()) == 2


def test_sqlite_waits_seldom_for_the_disk(settings: Settings) -> None:
    with open_storage(settings).engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_the_ui_names_the_page_of_the_last_study_and_restores_none(settings: Settings) -> None:
    assert runs_page(settings, "http://x") == ""
    optuna.create_study(study_name="s", storage=open_storage(settings))
    assert runs_page(settings, "http://x") == ""  # it has no runs yet
    tracker = Tracker(settings, "s", "i")
    page = f"\ns: http://x/#/experiments/{tracker.experiment}/runs"
    assert runs_page(settings, "http://x") == page
    tracker.client.delete_experiment(tracker.experiment)
    assert runs_page(settings, "http://x") == ""
    assert tracker.client.get_experiment(tracker.experiment).lifecycle_stage == "deleted"
