"""Create or resume an Optuna study: storage, identity, sampler, pruner, budget."""

import inspect
import sqlite3
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from centernet.errors import UserError, did_you_mean
from centernet.seed import cores, key
from experiments.lock import exclusive
from experiments.search_space import SearchSpace
from experiments.settings import Settings, sqlite_file

optuna.logging.set_verbosity(optuna.logging.WARNING)

Built = TypeVar("Built")
SAMPLERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "gp": optuna.samplers.GPSampler,
}
PRUNERS: dict[str, Callable[..., optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
}
IDENTITY = "identity"  # user attributes of a study: what it asked
ID = "id"  # tells it from others of its name
THREADS = "threads"  # of a CPU operator; results depend on it, so it stays as it was
SEARCHED = "searched"  # when, last
RUN = "run_id"  # user attributes of a trial
REASON = "reason"
ATTEMPTS = "attempts"  # that ended in an unexpected error
VALUE = "AP"  # the objective: COCO AP of the EMA weights on val


def open_storage(settings: Settings) -> optuna.storages.RDBStorage:
    """The studies' database; its schema is created by one process while the others wait."""
    arguments: dict[str, Any] = {}
    file = sqlite_file(settings.studies)
    try:
        with exclusive(settings.runs / ".setup.lock"):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_ahead(str(file))
                arguments = {"connect_args": {"timeout": 60}}  # seconds to wait for a writer
            return optuna.storages.RDBStorage(settings.studies, engine_kwargs=arguments)
    except (SQLAlchemyError, sqlite3.Error, ImportError, optuna.exceptions.OptunaError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the studies at {settings.studies}: {reason}") from None


def write_ahead(file: str) -> None:
    """Put a SQLite file into WAL mode, where readers and a writer do not wait for each other."""
    connection = sqlite3.connect(file, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def open_study(
    settings: Settings,
    name: str,
    space: SearchSpace,
    *,
    identity: dict[str, Any],
    points: list[dict[str, Any]],
    threads: int | None,
) -> optuna.Study:
    """Create a study with its first points, or resume it; UserError if it asked something else."""
    storage = open_storage(settings)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        pruner=make_pruner(space),
    )
    known = study.user_attrs.get(IDENTITY)
    if known is None:  # new, or its creation was interrupted
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr(ID, study.user_attrs.get(ID) or uuid4().hex)
        study.set_user_attr(THREADS, threads or cores())
        study.set_user_attr(IDENTITY, identity)
    else:
        now = identity | ({THREADS: threads} if threads else {})
        then = known | ({THREADS: study.user_attrs[THREADS]} if threads else {})
        for what in then | now:
            if then.get(what) != now.get(what):
                raise UserError(
                    f"study {name}: was started with {what} = {then.get(what)}, now it is "
                    f"{now.get(what)}; name another study (STUDY=...) to ask another question"
                )
    study.set_user_attr(SEARCHED, datetime.now(UTC).isoformat())
    return study


def load_study(settings: Settings, name: str | None) -> optuna.Study:
    """An existing study, by default the one searched last; UserError if there is none."""
    file = sqlite_file(settings.studies)
    if file is not None and not file.exists():
        raise UserError("there is no study yet: make search")
    storage = open_storage(settings)
    searched = {
        summary.study_name: summary.user_attrs.get(SEARCHED, "")
        for summary in optuna.get_all_study_summaries(storage)
    }
    if not searched:
        raise UserError("there is no study yet: make search")
    if name is not None and name not in searched:
        near = did_you_mean(name, searched) or f" (there are {', '.join(sorted(searched))})"
        raise UserError(f"no study is named {name}{near}")
    chosen = name or max(searched, key=lambda study: searched[study])
    return optuna.load_study(study_name=chosen, storage=storage)


def find_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """A trial by its number; UserError if the study has none such."""
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        count = f"its trials are 0 to {len(trials) - 1}" if trials else "it has no trial"
        raise UserError(f"study {study.study_name} has no trial {number}; {count}")
    return trials[number]


def put_back(study: optuna.Study) -> None:
    """Queue trials whose process died or was interrupted: they keep number and values.

    To be called by the holder of the study's lock: nobody else is running one then.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def ask(study: optuna.Study, space: SearchSpace, *, seed: int) -> optuna.Trial:
    """The next trial: a queued one, else a new one."""
    trials = study.get_trials(deepcopy=False)
    queued = [trial.number for trial in trials if trial.state == TrialState.WAITING]
    number = min(queued, default=len(trials))
    study.sampler = make_sampler(space, number=number, seed=seed)
    return study.ask()


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that used up budget: complete, pruned and failed."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def states(study: optuna.Study) -> dict[int, str]:
    """Every trial's state by its number."""
    return {trial.number: trial.state.name for trial in study.get_trials(deepcopy=False)}


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial of the highest AP; the earlier of equals."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def make_sampler(space: SearchSpace, *, number: int, seed: int) -> optuna.samplers.BaseSampler:
    """The space's sampler for a trial; UserError for an unknown name or option.

    Seeded by the trial's number, so that a restarted study does not repeat earlier draws; a
    quasi-random sequence keeps one seed, and its place in the study.
    """
    own = space.sampler.get("seed", seed)
    if space.sampler["name"] != "qmc":
        own = key(str(own), "sampler", number)
    return _build(SAMPLERS, space.sampler | {"seed": own}, "sampler")


def make_pruner(space: SearchSpace) -> optuna.pruners.BasePruner:
    """The space's pruner; UserError for an unknown name or option."""
    return _build(PRUNERS, space.pruner, "pruner")


def _build(table: dict[str, Callable[..., Built]], named: dict[str, Any], section: str) -> Built:
    """Call the entry that `named` names with its options."""
    options = {option: value for option, value in named.items() if option != "name"}
    name = named["name"]
    if name not in table:
        known = did_you_mean(name, table) or f" (one of {', '.join(table)})"
        raise UserError(f"{section}: no {section} is named {name}{known}")
    allowed = inspect.signature(table[name]).parameters
    for option in options:
        if option not in allowed:
            hint = did_you_mean(str(option), allowed)
            raise UserError(f"{section}: {name} has no {option}{hint}")
        default = allowed[option].default
        if isinstance(default, int | float) and not isinstance(options[option], int | float):
            raise UserError(f"{section}: {option}: a number is needed, got {options[option]!r}")
    try:
        with warnings.catch_warnings():  # half of Optuna is marked experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return table[name](**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{section}: {name}: {error}") from None
