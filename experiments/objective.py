"""One trial: suggest, train, log, report, prune. Yields its progress; the caller shows it."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from centernet.config import Config
from centernet.dataset.split import Split
from centernet.draw import beside_truth
from centernet.errors import one_line
from centernet.predict import Detector
from centernet.structures import Epoch
from centernet.train import BEST, NonFiniteLoss, train
from experiments.search_space import SearchSpace, suggest
from experiments.study import ATTEMPTS, REASON, RUN, VALUE
from experiments.tracking import WEIGHTS, Run, Tracker

MOST_ATTEMPTS = 3  # at a trial that ends in an unexpected error


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a trial is: after an epoch, or (with another state than RUNNING) at its end."""

    trial: int
    params: dict[str, Any]
    state: str
    epochs: int  # in all
    epoch: Epoch | None = None
    value: float | None = None  # best AP so far
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """What all trials of a study share."""

    study: optuna.Study
    space: SearchSpace
    base: Config
    data: str  # name of the data folder
    splits: tuple[Split, Split]
    tracker: Tracker
    parent: str  # the study's run
    folder: Path  # of trials in progress


def objective(trial: optuna.Trial, search: Search) -> Iterator[Progress]:
    """Run or continue one trial to its end, and tell the study.

    The objective is the best COCO AP of the EMA weights on val. A diverged loss or a full GPU
    fails the trial. Any other exception leaves it to be continued, ATTEMPTS times, and is raised.
    """
    config = suggest(trial, search.space, search.base)
    folder = search.folder / str(trial.number)
    state, value, reason = TrialState.COMPLETE, None, ""

    def progress(state: TrialState, epoch: Epoch | None = None) -> Progress:
        epochs = config.train.epochs
        return Progress(trial.number, trial.params, state.name, epochs, epoch, value, reason)

    with recorded(trial, search, config) as run:
        trial.set_user_attr(RUN, run.id)
        yield progress(TrialState.RUNNING)
        try:
            with closing(train(config, folder)) as epochs:
                for epoch in epochs:
                    run.log(epoch)
                    value = max(value or 0.0, epoch.metrics.get(VALUE, 0.0))
                    yield progress(TrialState.RUNNING, epoch)
                    if prune(trial, epoch):
                        state = TrialState.PRUNED
                        reason = f"below the others at epoch {epoch.number}"
                        break
        except (NonFiniteLoss, torch.OutOfMemoryError) as error:
            state, reason = TrialState.FAIL, one_line(str(error))
        keep(run, folder, search.splits[1])
        run.finish(state.name, reason=reason, value=value)
    if reason:
        trial.set_user_attr(REASON, reason)
    search.study.tell(trial, value if state == TrialState.COMPLETE else None, state)
    shutil.rmtree(folder, ignore_errors=True)  # the run has what is worth keeping
    yield progress(state)


@contextmanager
def recorded(trial: optuna.Trial, search: Search, config: Config) -> Iterator[Run]:
    """The trial's run; an unexpected exception is counted, and the third one fails the trial."""
    try:
        with search.tracker.trial(
            trial.number, config, parent=search.parent, data=search.data, splits=search.splits
        ) as run:
            yield run
    except Exception as error:
        attempts = trial.user_attrs.get(ATTEMPTS, 0) + 1
        trial.set_user_attr(ATTEMPTS, attempts)
        if attempts >= MOST_ATTEMPTS:
            trial.set_user_attr(REASON, one_line(f"{type(error).__name__}: {error}"))
            search.study.tell(trial, state=TrialState.FAIL)
        raise


def prune(trial: optuna.Trial, epoch: Epoch) -> bool:
    """Report an evaluated epoch, once, and ask the pruner about the last one reported."""
    reported = trial.storage.get_trial(trial._trial_id).intermediate_values
    if VALUE not in epoch.metrics or epoch.number < max(reported, default=0):
        return False
    if epoch.number not in reported:
        trial.report(epoch.metrics[VALUE], epoch.number)
    return trial.should_prune()


def keep(run: Run, folder: Path, val: Split) -> None:
    """The best weights and a picture of what they detect, where there are any."""
    best = folder / BEST
    if best.exists():
        run.file(best, WEIGHTS)
        run.picture(beside_truth(Detector.load(best), val), folder)
