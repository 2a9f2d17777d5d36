"""The short way into the studies' database leaves what Optuna's own way would."""

import math
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from postgres import Postgres

from experiments.commands import runs_page
from experiments.settings import Settings
from experiments.study.storage import MOST, Storage, open_storage, seldom
from experiments.tracking import Tracker, connect

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
def storage(settings: Settings, uri: str) -> Storage:
    return open_storage(settings.model_copy(update={"studies": uri}))


def new(storage: Storage) -> optuna.Study:
    return optuna.create_study(storage=storage, directions=["maximize", "minimize"])


def suggest(trial: optuna.Trial) -> None:
    trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    trial.suggest_int("size", 1, 9, step=2)
    trial.suggest_categorical("word", ("a", None, 3))


def fill(study: optuna.Study, storage: Storage) -> None:
    """Trials of every state, the third with all that a trial can have."""
    study.enqueue_trial({"rate": 0.01})
    study.enqueue_trial({"size": 5, "word": None})
    study.enqueue_trial({"size": 7})
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None):
        trial = study.ask()
        with storage.together(trial._trial_id):
            suggest(trial)
            trial.set_user_attr("epochs", 3)
            trial.set_user_attr("reason", "wörds\n'\"")
        storage.report(trial._trial_id, {1: 0.5, 3: math.inf, 2: -math.inf, 4: 1e-300})
        trial.set_constraint("latency", -1.5)
        if state is not None:
            values = [1.0, math.inf] if state == TrialState.COMPLETE else None
            study.tell(trial, values, state)
    study.enqueue_trial({"rate": 0.02})


def test_trials_read_as_optunas_own_storage_reads_them(storage: Storage, uri: str) -> None:
    study = new(storage)
    assert study.get_trials() == []
    fill(study, storage)
    plain = optuna.load_study(study_name=study.study_name, storage=uri)
    found = study.get_trials()
    assert found == plain.get_trials()
    assert [trial.state.name for trial in found] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]  # fmt: skip
    for trial in found:
        assert study._storage.get_trial(trial._trial_id) == trial
    assert found[2].intermediate_values == {1: 0.5, 3: math.inf, 2: -math.inf, 4: 1e-300}
    assert list(found[2].params) == ["rate", "size", "word"]
    assert found[2].distributions == {"rate": RATE, "size": SIZE, "word": WORD}
    assert found[2].user_attrs == {"epochs": 3, "reason": "wörds\n'\""}
    with pytest.raises(KeyError):
        storage.get_trial(10**9)


def test_what_others_write_is_seen_and_one_study_does_not_show_in_another(
    storage: Storage, settings: Settings, uri: str
) -> None:
    study, other = new(storage), new(storage)
    trial = study.ask()
    beside = optuna.load_study(study_name=study.study_name, storage=uri)
    assert study.get_trials(deepcopy=False)[0].intermediate_values == {}
    storage.report(trial._trial_id, {1: 3.0})
    assert beside.get_trials()[0].intermediate_values == {1: 3.0}
    beside.tell(0, [1.0, 2.0])
    assert study.get_trials(deepcopy=False)[0].values == [1.0, 2.0]
    assert other.get_trials() == []


def test_writing_twice_leaves_it_once_and_an_ended_trial_as_it_was(storage: Storage) -> None:
    study = new(storage)
    fill(study, storage)
    number = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, 3)
    storage.report(number, {1: 0.5, 2: math.nan})
    storage.report(number, {2: 7.0})
    storage.set_trial_user_attr(number, "epochs", [4])
    then = storage.get_trial(number)
    assert then.intermediate_values[2] == 7.0 and len(then.intermediate_values) == 4
    assert then.user_attrs["epochs"] == [4]
    study.tell(3, state=TrialState.FAIL)
    ended = storage.get_trial(number)
    for late in (
        lambda: storage.report(number, {5: 1.0}),
        lambda: storage.set_trial_user_attr(number, "epochs", 0),
    ):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            late()
    assert storage.get_trial(number) == ended


def test_of_a_trial_whose_giving_out_failed_nothing_is_kept(storage: Storage) -> None:
    study = new(storage)
    fill(study, storage)
    trial = study.ask()
    with pytest.raises(ValueError, match="distribution"), storage.together(trial._trial_id):
        suggest(trial)
        trial.suggest_int("word", 0, 1)
    assert storage.get_trial(trial._trial_id).params == {}
    with storage.together(trial._trial_id):
        pass
    trial.set_user_attr("epochs", 1)
    assert storage.get_trial(trial._trial_id).user_attrs == {"epochs": 1}


def test_a_long_queue_is_read_as_well(settings: Settings) -> None:
    study = new(open_storage(settings))
    waiting = optuna.create_trial(state=TrialState.WAITING)
    study.add_trials([waiting] * 2)
    study.add_trial(optuna.create_trial(values=[0.0, 0.0]))
    assert len(study.get_trials()) == 3
    cached = study._storage
    assert isinstance(cached, optuna.storages._CachedStorage)
    first: list[FrozenTrial] = study.get_trials(deepcopy=False)
    many = {first[0]._trial_id, *range(-MOST, 0)}
    after = first[2]._trial_id
    own = cached._backend._get_trials(study._study_id, None, many, after)
    assert [trial.number for trial in own] == [0]


def test_a_store_is_told_once_to_wait_less_for_the_disk(settings: Settings) -> None:
    engines = [connect(settings)._tracking_client.store.engine for _ in range(3)]
    assert len({id(engine) for engine in engines}) == 1
    assert list(engines[0].pool.dispatch.connect).count(seldom) == 1
    with engines[0].connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 1


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
