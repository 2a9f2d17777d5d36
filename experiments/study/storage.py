"""The studies' database: Optuna's own storage, and a study that waits while it is away."""

import sqlite3
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from centernet.errors import UserError
from centernet.lock import exclusive
from experiments.settings import Settings, sqlite_file
from experiments.stores import sqlite
from experiments.stores.retry import Away, Retry


class Study(optuna.Study):
    """An Optuna study that waits for its database, and takes word of its trials by number."""

    def __init__(self, name: str, database: RDBStorage, *, outage_seconds: float) -> None:
        """Load a study that is in the database; KeyError if there is none of that name."""
        self.retry = Retry(is_away=is_away, seconds=outage_seconds)
        self.database = database
        self.retry(super().__init__, study_name=name, storage=database)
        self.study_id = self.retry(database.get_study_id_from_name, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in these states (default: all), by their numbers."""
        return self.retry(super().get_trials, deepcopy, states)

    def recorded(self, number: int) -> FrozenTrial | None:
        """A trial as the database has it, by its number; none if there is none such."""
        trials = self.get_trials(deepcopy=False)
        return next((trial for trial in trials if trial.number == number), None)

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What was noted of the study."""
        return self.retry(self.database.get_study_user_attrs, self.study_id)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note something of the study."""
        self.retry(super().set_user_attr, key, value)

    def enqueue_trial(
        self,
        params: dict[str, Any],
        user_attrs: dict[str, Any] | None = None,
        skip_if_exists: bool = False,
    ) -> None:
        """Queue a trial of these values; twice is once only with `skip_if_exists`."""
        self.retry(super().enqueue_trial, params, user_attrs, skip_if_exists)

    def ask(self, fixed_distributions: Mapping[str, Any] | None = None) -> optuna.Trial:
        """The next trial, RUNNING; where the answer was lost, the one that was given out.

        To be called by the one process that gives out trials.
        """
        running = {trial.number for trial in self.get_trials(False, (TrialState.RUNNING,))}

        def given_out() -> optuna.Trial | None:
            now = super(Study, self).get_trials(False, (TrialState.RUNNING,))
            new = [trial.number for trial in now if trial.number not in running]
            return self.trial(new[0]) if new else None

        def give_out() -> optuna.Trial:
            return super(Study, self).ask(dict(fixed_distributions or {}))

        return self.retry.create(give_out, look=given_out)

    def tell(
        self,
        trial: optuna.Trial | int,
        values: Any = None,
        state: TrialState | None = None,
        skip_if_finished: bool = True,
    ) -> FrozenTrial:
        """End a trial; one that has ended stays as it is."""
        return self.retry(super().tell, trial, values, state, skip_if_finished)

    def trial(self, number: int) -> optuna.Trial:
        """A trial that was given out before, maybe in another process."""
        return self.retry(lambda: optuna.Trial(self, self._id(number)))

    def note(self, number: int, key: str, value: Any) -> None:
        """Note something of a trial that has not ended."""
        self.retry(lambda: self.database.set_trial_user_attr(self._id(number), key, value))

    def report(self, number: int, values: Mapping[int, float]) -> None:
        """Report values of a trial by their steps; `Trial.report` refuses several objectives."""

        def write() -> None:
            trial_id = self._id(number)
            for step, value in values.items():
                self.database.set_trial_intermediate_value(trial_id, step, value)

        self.retry(write)

    def set_state(self, number: int, state: TrialState) -> None:
        """Give a trial a state; one that has ended keeps its own."""

        def write() -> None:
            with suppress(UpdateFinishedTrialError):  # by the try before this one
                self.database.set_trial_state_values(self._id(number), state)

        self.retry(write)

    def _id(self, number: int) -> int:
        """What the database calls a trial."""
        return self.database.get_trial_id_from_study_id_trial_number(self.study_id, number)


def create_study(
    name: str,
    database: RDBStorage,
    *,
    directions: Sequence[Literal["maximize", "minimize"]],
    outage_seconds: float,
) -> Study:
    """A new study, or the one that has this name; its database may be away for so long."""
    Retry(is_away=is_away, seconds=outage_seconds)(
        optuna.create_study,
        study_name=name,
        storage=database,
        directions=directions,
        load_if_exists=True,
    )
    return Study(name, database, outage_seconds=outage_seconds)


def open_storage(settings: Settings) -> RDBStorage:
    """The studies' database; its tables are made by one process while the others wait."""
    file = sqlite_file(settings.studies)
    try:
        with exclusive(settings.runs / ".setup.lock"):
            if file is None:
                return RDBStorage(settings.studies, engine_kwargs={"pool_pre_ping": True})
            sqlite.prepare(file)
            waiting = {"connect_args": {"timeout": sqlite.SECONDS}}
            return RDBStorage(settings.studies, engine_kwargs=waiting)
    except (SQLAlchemyError, sqlite3.Error, ImportError, optuna.exceptions.OptunaError) as error:
        kind = Away if is_away(error) else UserError
        raise kind(f"the studies at {settings.studies}: {str(error).splitlines()[0]}") from None


def is_away(error: BaseException) -> bool:
    """Whether this says that the database did not answer, or was busy."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, OperationalError | InterfaceError | sqlite3.OperationalError)
