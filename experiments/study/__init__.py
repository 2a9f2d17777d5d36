"""Create or resume an Optuna study: storage, identity, the next trial, what became of them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState

from centernet.config import Config, flatten
from centernet.errors import UserError, did_you_mean
from centernet.seed import cores
from experiments.next_steps import first_search, option
from experiments.search_space import SearchSpace, told
from experiments.settings import Settings, sqlite_file
from experiments.stores.retry import Retry
from experiments.study.methods import make_pruner, make_sampler
from experiments.study.pruning import VALUE as VALUE
from experiments.study.storage import Study as Study
from experiments.study.storage import create_study, is_away, open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)

Study = Study
Trial = FrozenTrial  # as the study holds it
IDENTITY = "identity"  # user attributes of a study: what it asked
ID = "id"  # tells it from others of its name
PARENT = "parent"  # the study whose finals it is
THREADS = "threads"  # of a CPU operator; results depend on it, so it stays as it was
SEARCHED = "searched"  # when, last
RUN = "run_id"  # user attributes of a trial
REASON = "reason"
EPOCHS = "epochs"  # that it may use
BEGUN = "begun"  # whether it was given out before it was last given out: it may have a run
ATTEMPTS = "attempts"  # that ended before the trial did: [at which epoch, how often there, in all]
ACCUMULATE = "accumulate"  # parts of a batch, after it ran out of memory
COSTS = "costs"  # of its detector
KEPT = "kept"  # bytes of its weights in MLflow
FORGOTTEN = "forgotten"  # user attribute of a study: trials whose weights were deleted since
SECONDS = "seconds"  # user attributes of a study: of searching so far
SESSION = "session"  # when the search that is or was last at it began, its budget, workers, GPUs


class NoStudy(UserError):
    """There is no such study; said only where the database could be read."""


def open_study(
    settings: Settings,
    name: str,
    space: SearchSpace,
    *,
    identity: dict[str, Any],
    points: list[dict[str, Any]],
    threads: int | None,
    share: int | None = None,
) -> Study:
    """Create a study with its first points, or resume it; UserError if it asked something else.

    threads: that were asked for; without, a new study has `share` (default: all cores), and one
    that is resumed keeps its own, with whatever number of workers.
    """
    database, outage = open_storage(settings), settings.outage_minutes * 60
    study = create_study(name, database, directions=space.directions, outage_seconds=outage)
    check_numbers(study)
    study.pruner = make_pruner(space)
    known = study.user_attrs.get(IDENTITY)
    if known is None:  # new, or its creation was interrupted
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr(ID, study.user_attrs.get(ID) or uuid4().hex)
        study.set_user_attr(THREADS, threads or share or cores())
        study.set_user_attr(IDENTITY, identity)
    else:
        now = identity | ({THREADS: threads} if threads else {})
        then = flatten(Config().model_dump()) | known  # a field that is new was as its default
        then |= {THREADS: study.user_attrs[THREADS]} if threads else {}
        for what in known | now:
            if then.get(what) != now.get(what):
                raise UserError(
                    f"study {name}: was started with {what.removeprefix('space ')} = "
                    f"{told(what, then)}, now it is {told(what, now)}; name another study "
                    f"({option('study', 'NAME')}) to ask another question"
                )
    study.set_user_attr(SEARCHED, datetime.now(UTC).isoformat())
    return study


def exists(study: Study, name: str) -> bool:
    """Whether there is a study of that name beside this one."""
    return name in study.retry(optuna.get_all_study_names, study.database)


def beside(study: Study, name: str) -> Study:
    """The study of that name beside this one."""
    return Study(name, study.database, outage_seconds=study.retry.seconds)


def load_study(settings: Settings, name: str | None) -> Study:
    """An existing study, by default the one searched last; NoStudy if there is none."""
    file = sqlite_file(settings.studies)
    if file is not None and not file.exists():
        raise NoStudy(f"there is no study yet: {first_search()}")
    database, outage = open_storage(settings), settings.outage_minutes * 60
    retry = Retry(is_away=is_away, seconds=outage)
    summaries = retry(optuna.get_all_study_summaries, database)
    searched = {one.study_name: one.user_attrs.get(SEARCHED, "") for one in summaries}
    finals = {one.study_name for one in summaries if PARENT in one.user_attrs}
    if not searched:
        raise NoStudy(f"there is no study yet: {first_search()}")
    if name is not None and name not in searched:
        near = did_you_mean(name, searched) or f" (there are {', '.join(sorted(searched))})"
        raise NoStudy(f"no study is named {name}{near}")
    own = [study for study in searched if study not in finals] or list(searched)
    chosen = name or max(own, key=lambda study: searched[study])
    return Study(chosen, database, outage_seconds=outage)


def find_trial(study: Study, number: int) -> FrozenTrial:
    """A trial by its number; UserError if the study has none such."""
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    if number not in trials:
        count = f"its trials are 0 to {max(trials)}" if trials else "it has no trial"
        raise UserError(f"study {study.study_name} has no trial {number}; {count}")
    return trials[number]


def check_numbers(study: Study) -> None:
    """UserError where trials were deleted: Optuna would give out a number for a second time."""
    numbers = sorted(trial.number for trial in study.get_trials(deepcopy=False))
    if numbers != list(range(len(numbers))):
        there = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
        raise UserError(
            f"study {study.study_name}: trials were deleted from the studies' database, so it "
            f"cannot go on: a study's trials are numbered from 0 on, each once, got {there}; "
            "name another study (STUDY=...)"
        )


def next_queued(study: Study) -> FrozenTrial | None:
    """The trial that is given out next, if one is queued."""
    queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return min(queued, key=lambda trial: trial.number, default=None)


def put_back(study: Study) -> None:
    """Queue trials whose process died or was interrupted: they keep number and values.

    To be called by the holder of the study's lock, when nobody is running one.
    """
    for trial in running(study):
        study.set_state(trial.number, TrialState.WAITING)


def ask(study: Study, space: SearchSpace, *, seed: int) -> optuna.Trial:
    """The next trial: a queued one, else a new one."""
    queued = next_queued(study)
    number = len(study.get_trials(deepcopy=False)) if queued is None else queued.number
    study.sampler = make_sampler(space, number=number, seed=seed)
    return study.ask()


def resume(study: Study, number: int) -> optuna.Trial:
    """A trial that `ask` gave out, in whatever process; all its values were suggested there."""
    study.sampler = optuna.samplers.RandomSampler()
    return study.trial(number)


def count_attempt(study: Study, trial: FrozenTrial) -> int:
    """Note an attempt that ended before the trial did: how many ended at this epoch."""
    epoch = trial.last_step or 0
    at, here, total = trial.user_attrs.get(ATTEMPTS, (epoch, 0, 0))
    here = here + 1 if at == epoch else 1
    study.note(trial.number, ATTEMPTS, (epoch, here, total + 1))
    return int(here)


def settle(study: Study, trial: FrozenTrial, state: str, reason: str) -> None:
    """End a trial, or queue it to be continued; does nothing to one that has ended."""
    if find_trial(study, trial.number).state.is_finished():
        return
    study.note(trial.number, REASON, reason)
    study.set_state(trial.number, TrialState[state])


def kept(study: Study) -> list[FrozenTrial]:
    """Finished trials whose runs keep weights."""
    gone = set(study.user_attrs.get(FORGOTTEN, ()))
    return [t for t in finished(study) if t.user_attrs.get(KEPT) and t.number not in gone]


def note_forgotten(study: Study, number: int) -> None:
    """The run of this trial keeps no weights any more."""
    gone = {*study.user_attrs.get(FORGOTTEN, ()), number}
    study.set_user_attr(FORGOTTEN, sorted(gone))


def distributions(study: Study) -> dict[str, Any]:
    """What the study varies, in the order of its first trials."""
    found: dict[str, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        found |= {path: one for path, one in trial.distributions.items() if path not in found}
    return found


def finished(study: Study) -> list[FrozenTrial]:
    """Trials that used up budget: complete, pruned and failed."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def tried(study: Study) -> list[dict[str, Any]]:
    """The values of all trials that were given out and are not queued."""
    trials = study.get_trials(deepcopy=False)
    return [trial.params for trial in trials if trial.state != TrialState.WAITING]


def running(study: Study) -> list[FrozenTrial]:
    """Trials that some process runs, or was running when it died."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


@dataclass(frozen=True, slots=True)
class Spent:
    """A trial as the budget sees it."""

    finished: bool
    epochs: int
    value: float | None


def spent(study: Study) -> list[Spent]:
    """All trials that have begun and are not waiting: a running one may use all its epochs."""
    # of one reading: a trial that ends meanwhile must not be missed by both
    trials = study.get_trials(deepcopy=False)
    return [
        Spent(True, trial.last_step or 0, score(trial))
        if trial.state.is_finished()
        else Spent(False, trial.user_attrs.get(EPOCHS, 0), None)
        for trial in trials
        if trial.state != TrialState.WAITING
    ]


def states(study: Study) -> dict[int, str]:
    """Every trial's state by its number."""
    return {trial.number: trial.state.name for trial in study.get_trials(deepcopy=False)}


def score(trial: FrozenTrial) -> float | None:
    """AP of a complete trial; Optuna gives a pruned one the value that it reported last."""
    return trial.values[0] if trial.state == TrialState.COMPLETE else None


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps to the constraints, if there are any."""
    return all(value <= 0 for value in trial.constraints.values())


def best_trial(study: Study) -> FrozenTrial | None:
    """The complete, feasible trial of the highest AP; the earlier of equals."""
    complete = filter(feasible, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    return max(complete, key=lambda trial: (trial.values[0], -trial.number), default=None)
