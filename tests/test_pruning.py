"""A trial that lags is ended, by real pruners on a real study."""

from collections.abc import Iterable
from typing import Literal

import optuna
import pytest

from centernet.structures import Epoch
from experiments.pruners import PRUNERS
from experiments.settings import Settings
from experiments.study.pruning import EpochReporter
from experiments.study.storage import Study, create_study, open_storage

GOOD = (10.0, 20.0, 30.0, 40.0)


def epoch(number: int, value: float | None) -> Epoch:
    metrics = {} if value is None else {"AP": value}
    return Epoch(number, {"total": 1.0}, metrics, 1e-3, 1.0, 0.1, 30.0, "", False)


@pytest.fixture
def study(settings: Settings) -> Study:
    """Two complete trials, in a database."""
    pruner = PRUNERS["median"].model_validate({"n_startup_trials": 1, "n_warmup_steps": 1}).build()
    made = create_study("s", open_storage(settings), directions=["maximize"], outage_seconds=0)
    made.pruner = pruner
    for _ in range(2):
        made.add_trial(
            optuna.trial.create_trial(
                value=max(GOOD), intermediate_values=dict(enumerate(GOOD, start=1))
            )
        )
    return made


def reporter(study: Study) -> EpochReporter:
    return EpochReporter(study, study.ask().number)


def ends_at(reporter: EpochReporter, values: Iterable[float | None]) -> int | None:
    with reporter:
        for number, value in enumerate(values, start=1):
            if reporter.should_end(epoch(number, value)):
                return number
    return None


def test_a_trial_below_the_median_is_ended_and_one_above_it_is_not(study: Study) -> None:
    assert ends_at(reporter(study), (20.0, 30.0, 40.0, 50.0)) is None
    assert ends_at(reporter(study), (9.0, 19.0, 29.0, 39.0)) == 1
    assert ends_at(reporter(study), (20.0, 30.0, 30.0, 30.0)) == 4


def test_every_evaluated_epoch_is_reported_once_also_by_a_continued_trial(
    study: Study,
) -> None:
    trial = study.ask()
    assert ends_at(EpochReporter(study, trial.number), (20.0, None, 31.0)) is None
    again = EpochReporter(study, trial.number)
    assert ends_at(again, (20.0, None, 31.0, 41.0)) is None
    assert study.trials[-1].intermediate_values == {1: 20.0, 3: 31.0, 4: 41.0}


def test_several_objectives_are_reported_and_never_pruned(settings: Settings) -> None:
    both: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize")
    study = create_study("s", open_storage(settings), directions=both, outage_seconds=0)
    study.pruner = PRUNERS["median"].model_validate({"n_startup_trials": 0}).build()
    assert ends_at(reporter(study), (0.0, 0.0)) is None
    assert study.trials[0].intermediate_values == {1: 0.0, 2: 0.0}


def test_what_was_reported_before_an_error_is_written_and_what_an_interruption_leaves_is_not_lost(
    study: Study,
) -> None:
    trial = study.ask()
    with pytest.raises(RuntimeError), EpochReporter(study, trial.number) as reporter:
        reporter.should_end(epoch(1, 20.0))
        raise RuntimeError
    assert study.trials[-1].intermediate_values == {1: 20.0}
    with pytest.raises(KeyboardInterrupt), EpochReporter(study, trial.number) as reporter:
        reporter.should_end(epoch(2, 30.0))
        raise KeyboardInterrupt
    again = EpochReporter(study, trial.number)
    assert ends_at(again, (20.0, 30.0)) is None
    assert study.trials[-1].intermediate_values == {1: 20.0, 2: 30.0}


@pytest.mark.parametrize("name", [name for name in PRUNERS if name not in ("none", "percentile")])
def test_every_pruner_ends_a_trial_that_lags(study: Study, name: str) -> None:
    with_bounds = {"hyperband": {"max_resource": 4}}
    study.pruner = PRUNERS[name].model_validate(with_bounds.get(name, {})).build()
    for _ in range(6):
        trial = study.ask()
        ends_at(EpochReporter(study, trial.number), GOOD)
        study.tell(trial, max(GOOD))
    worst = [ends_at(reporter(study), (0.0, 0.0, 0.0, 0.0)) for _ in range(3)]
    assert name == "patient" or any(worst)
