"""One trial: train, log, report, prune. Yields its progress; the caller shows it."""

import os
import shutil
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from centernet.checkpoint import BEST
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.split import Split
from centernet.draw import beside_truth
from centernet.errors import UserError, one_line
from centernet.lock import exclusive
from centernet.predict import Detector
from centernet.structures import Epoch
from centernet.train import NonFiniteLoss, train
from experiments import study
from experiments.costs import COSTS
from experiments.label import Label
from experiments.retention import worth_keeping
from experiments.search_space import SearchSpace
from experiments.settings import Settings, given
from experiments.study import VALUE, Study
from experiments.study.methods import make_pruner
from experiments.study.pruning import EpochReporter
from experiments.study.suggest import configured
from experiments.tracking import Tracker
from experiments.tracking.run import PICTURE, WEIGHTS, Run


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
    kept: bool = False  # its weights were put among those of the best
    worker: int = 0
    label: Label | None = None  # of a final; a trial is called by its number

    @property
    def name(self) -> Label:
        """What it is called."""
        return self.label or Label(self.trial)


@dataclass(frozen=True, slots=True)
class Search:
    """What all trials of a study share."""

    study: Study
    space: SearchSpace
    base: Config
    data: str  # name of the data folder
    splits: tuple[Split, Split]
    tracker: Tracker
    parent: str  # the study's run
    folder: Path  # of trials in progress

    @property
    def reopen(self) -> Callable[[], "Search"]:
        """Opens the same search in another process; unlike the search, it can be sent there."""
        settings, name = self.tracker.settings, self.study.study_name
        return partial(
            reopen, settings, name, self.space, self.base, self.data, self.parent, self.folder
        )

    @property
    def logs(self) -> Path:
        """The folder of what its workers print."""
        return self.tracker.settings.runs / "logs" / self.study.study_name

    def lock(self, number: int) -> Path:
        """Held by the process that runs a trial."""
        return self.folder / f"{number}.lock"


def reopen(
    settings: Settings,
    name: str,
    space: SearchSpace,
    base: Config,
    data: str,
    parent: str,
    folder: Path,
) -> Search:
    """A search that another process opened first."""
    ours = study.load_study(settings, name)
    ours.pruner = make_pruner(space)
    splits = read_training(Path(str(base.data.folder)), base.data.follow_links)
    tracker = Tracker.of(settings, ours)
    return Search(ours, space, base, data, splits, tracker, parent, folder)


def objective(trial: optuna.Trial, search: Search) -> Iterator[Progress]:
    """Run or continue one trial to its end, and tell the study.

    The objective is the best COCO AP of the EMA weights on val. A diverged loss, bad data or a
    full device fails the trial, never with a score. Any other exception leaves it to be continued
    from its last checkpoint, `retries` times.
    """
    with exclusive(search.lock(trial.number)):
        config = allowance(trial, configured(search.base, trial.params))
        row = begun(trial, search, config)
        yield row
        try:
            for row in attempt(trial, search, config):
                yield row
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            state = failed(search, trial.number, reason, details=traceback.format_exc())
            yield replace(row, state=state, reason=reason)


def attempt(trial: optuna.Trial, search: Search, config: Config) -> Iterator[Progress]:
    """Train and log until the trial's end, or an exception."""
    folder = search.folder / str(trial.number)
    if not given("CENTERNET_CACHE"):
        os.environ["CENTERNET_CACHE"] = str(search.tracker.settings.runs / "cache")
    with search.tracker.trial(
        trial.number,
        config,
        parent=search.parent,
        data=search.data,
        splits=search.splits,
        begun=trial.user_attrs.get(study.BEGUN, True),
    ) as run:
        search.study.note(trial.number, study.RUN, run.id)
        row = yield from follow(trial, search, run, config, folder)
        if (folder / BEST).exists():
            sheet = beside_truth(Detector.load(folder / BEST), search.splits[1])
            run.files.write(PICTURE, sheet)
        costs = {}
        if row.state == "COMPLETE":
            costs = measure(trial, search, folder / BEST)
            keep_best = search.tracker.settings.keep_best
            if worth_keeping(search.study, row.value or 0.0, keep_best=keep_best):
                run.files.copy(folder / BEST, WEIGHTS)
                search.study.note(trial.number, study.KEPT, (folder / BEST).stat().st_size)
                row = replace(row, kept=True)
        run.finish(row.state, reason=row.reason, value=row.value, costs=costs)
    if row.reason:
        search.study.note(trial.number, study.REASON, row.reason)
    values = [row.value or 0.0, *(costs[name] for name in search.space.costs if costs)]
    done = values if row.state == "COMPLETE" else None
    search.study.tell(trial, done, TrialState[row.state])
    shutil.rmtree(folder, ignore_errors=True)  # the run has what is worth keeping
    yield row


def begun(trial: optuna.Trial, search: Search, config: Config) -> Progress:
    """A trial before its first epoch."""
    label = search.tracker.label(trial.number)
    return Progress(trial.number, trial.params, "RUNNING", config.train.epochs, label=label)


def follow(
    trial: optuna.Trial, search: Search, run: Run, config: Config, folder: Path
) -> Generator[Progress, None, Progress]:
    """Train, and tell run and study of every epoch; how the training ended."""
    row = begun(trial, search, config)
    try:
        with (
            EpochReporter(search.study, trial.number) as reporter,
            closing(train(config, folder)) as epochs,
        ):
            for epoch in epochs:
                run.log(epoch)
                value = max(row.value or 0.0, epoch.metrics.get(VALUE, 0.0))
                row = replace(row, epoch=epoch, value=value)
                yield row
                if reporter.should_end(epoch):
                    return replace(
                        row, state="PRUNED", reason=f"below the others at epoch {epoch.number}"
                    )
    except torch.OutOfMemoryError:
        if row.epoch is None and smaller_steps(trial, search, config):
            raise  # again, in halves
        return replace(row, state="FAIL", reason="out of memory: a smaller optim.batch_size?")
    except (NonFiniteLoss, UserError) as error:
        return replace(row, state="FAIL", reason=one_line(str(error)))
    return replace(row, state="COMPLETE")


def measure(trial: optuna.Trial, search: Search, weights: Path) -> dict[str, float]:
    """The costs that the space asks about; above its limits, the trial is not feasible."""
    space = search.space
    wanted = dict.fromkeys((*space.costs, *space.limits))
    if not wanted:
        return {}
    detector = Detector.load(weights)
    costs = {name: COSTS[name](detector) for name in wanted}
    search.study.note(trial.number, study.COSTS, costs)
    for name, most in space.limits.items():
        search.study.retry(trial.set_constraint, name, costs[name] - most)
    return costs


def allowance(trial: optuna.Trial, config: Config) -> Config:
    """The config, with the steps halved that a trial which ran out of memory was allowed."""
    parts = trial.user_attrs.get(study.ACCUMULATE, 1)
    if parts == 1:
        return config
    parts *= config.optim.accumulate
    return resolve(flatten(config.model_dump()) | {"optim.accumulate": parts})


def smaller_steps(trial: optuna.Trial, search: Search, config: Config) -> bool:
    """Allow a trial that ran out of memory, once, to take its batches in two halves."""
    if (
        study.ACCUMULATE in trial.user_attrs
        or config.optim.batch_size < 2 * config.optim.accumulate
    ):
        return False
    search.study.note(trial.number, study.ACCUMULATE, 2)
    return True


def failed(search: Search, number: int, reason: str, *, details: str = "") -> str:
    """Count an attempt that ended before the trial did; the state that follows.

    WAITING, to be continued; FAIL after `retries` attempts that did not get one epoch further.
    """
    trial = study.find_trial(search.study, number)
    allowed = search.tracker.settings.retries
    state = "WAITING" if study.count_attempt(search.study, trial) <= allowed else "FAIL"
    search.tracker.settle(number, state, reason=reason, details=details)
    if state == "FAIL":
        shutil.rmtree(search.folder / str(number), ignore_errors=True)
    study.settle(search.study, trial, state, reason)
    return state
