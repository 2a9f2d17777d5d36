"""The studies' database: Optuna's own schema and rules, in few statements and few transactions.

Optuna reads and writes through its ORM, one value a transaction: most of what a trial cost. Here
trials are read by plain SELECTs, and what a trial is given or reports together is written together.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Select, bindparam, event, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from centernet.errors import UserError
from centernet.lock import exclusive
from experiments.patience import Away, patient
from experiments.settings import Settings, sqlite_file

# calls that wait for the database beside Optuna's public ones: ours, and those of Optuna's cache
OWN = {"write", "_get_trials", "_create_new_trial", "_set_trial_param"}
MOST = 500  # unfinished trials that one statement names
TRIALS: Any = models.TrialModel.__table__
PARAMS: Any = models.TrialParamModel.__table__
ATTRIBUTES: Any = models.TrialUserAttributeModel.__table__
REPORTS: Any = models.TrialIntermediateValueModel.__table__
Row = tuple[Any, dict[str, Any]]  # of a table
PARTS: dict[str, Any] = {  # of a trial, as Optuna's models call them
    "params": PARAMS,
    "values": models.TrialValueModel.__table__,
    "user_attributes": ATTRIBUTES,
    "system_attributes": models.TrialSystemAttributeModel.__table__,
    "intermediate_values": REPORTS,
}
KEYS = {PARAMS: "param_name", ATTRIBUTES: "key", REPORTS: "step"}  # beside the trial
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def statements(condition: Any) -> tuple[Select[Any], dict[str, Select[Any]]]:
    """What reads the trials that meet a condition, and each of their parts."""
    ids = select(TRIALS.c.trial_id).where(condition)
    parts = {
        name: select(table).where(table.c.trial_id.in_(ids)).order_by(*table.primary_key.columns)
        for name, table in PARTS.items()
    }
    return select(TRIALS).where(condition).order_by(TRIALS.c.trial_id), parts


STATE = select(TRIALS.c.state).where(TRIALS.c.trial_id == bindparam("one"))
ONE = statements(TRIALS.c.trial_id == bindparam("one"))
SINCE = statements(
    (TRIALS.c.study_id == bindparam("study"))
    & or_(
        TRIALS.c.trial_id > bindparam("after"),
        TRIALS.c.trial_id.in_(bindparam("older", expanding=True)),
    )
)


class Storage(optuna.storages.RDBStorage):
    """Optuna's storage; on SQLite and PostgreSQL it writes the short way, elsewhere Optuna's."""

    def __init__(self, uri: str, options: dict[str, Any]) -> None:
        """Open the database, whose schema is made if it is empty."""
        super().__init__(uri, engine_kwargs=options)
        self.kept = threading.local()  # .rows: of this thread, while it is in `together`
        self.insert = INSERT.get(self.engine.name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial; KeyError if there is none such."""
        found = self._read(ONE, one=trial_id)
        return found[0] if found else super().get_trial(trial_id)

    def _get_trials(
        self,
        study_id: int,
        states: Any,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """What Optuna's cache does not have: the trials from an id on, and the unfinished ones."""
        older = [one for one in included_trial_ids if one <= trial_id_greater_than]
        if states is not None or len(older) > MOST:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return self._read(SINCE, study=study_id, after=trial_id_greater_than, older=older)

    def _read(
        self, wanted: tuple[Select[Any], dict[str, Select[Any]]], **values: Any
    ) -> list[FrozenTrial]:
        """Trials first: what belongs to one that has ended was written before it ended."""
        trials, parts = wanted
        with self.engine.connect() as connection:
            found = {
                row.trial_id: SimpleNamespace(**local(row._mapping), **{name: [] for name in parts})
                for row in connection.execute(trials, values)
            }
            for name, statement in parts.items() if found else ():
                for row in connection.execute(statement, values):
                    if row.trial_id in found:
                        getattr(found[row.trial_id], name).append(row)
        build: Any = self._build_frozen_trial_from_trial_model
        return [build(trial) for trial in found.values()]

    @contextmanager
    def together(self, trial_id: int) -> Iterator[None]:
        """Parameters and attributes that this thread gives a trial inside are written at the end.

        What Optuna reads meanwhile does not show them; its samplers are handed the trial itself.
        """
        rows: list[Row] = []
        self.kept.rows = rows
        try:
            yield
        finally:
            del self.kept.rows
        if rows:
            self.write(trial_id, rows)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """Keep it for `together`; else, and if it is the first of its name, Optuna writes it."""
        value = param_value_internal
        if previous_distribution is None or not hasattr(self.kept, "rows"):
            arguments = (trial_id, param_name, value, distribution, previous_distribution)
            return super()._set_trial_param(*arguments)
        check_distribution_compatibility(previous_distribution, distribution)
        text = distribution_to_json(distribution)
        row = {"param_name": param_name, "param_value": value, "distribution_json": text}
        self.kept.rows.append((PARAMS, row))
        return None

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep it for `together`, or write it."""
        row = (ATTRIBUTES, {"key": key, "value_json": json.dumps(value)})
        if self.insert is None:
            super().set_trial_user_attr(trial_id, key, value)
        elif hasattr(self.kept, "rows"):
            self.kept.rows.append(row)
        else:
            self.write(trial_id, [row])

    def report(self, trial_id: int, values: dict[int, float]) -> None:
        """Intermediate values of a trial by their steps."""
        if self.insert is None:
            for step, value in values.items():
                self.set_trial_intermediate_value(trial_id, step, value)
            return
        stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
        names = ("intermediate_value", "intermediate_value_type")
        self.write(
            trial_id,
            [
                (REPORTS, {"step": step} | dict(zip(names, stored(value), strict=True)))
                for step, value in values.items()
            ],
        )

    def write(self, trial_id: int, rows: list[Row]) -> None:
        """Give a trial that has not ended all these rows, in one transaction.

        May be done twice: a parameter stays as it is, anything else is replaced.
        """
        with self.engine.begin() as connection:
            state = connection.execute(STATE, {"one": trial_id}).scalar_one()
            self.check_trial_is_updatable(trial_id, state)
            for table in KEYS:
                own = [row | {"trial_id": trial_id} for its, row in rows if its is table]
                if own:
                    connection.execute(upsert(table, self.insert), own)


def local(row: Any) -> dict[str, Any]:
    """A trial's row with its times, stored in UTC, as Optuna gives them out: local and naive.

    Of an hour that the clocks show twice, each time says which one it is of (`fold`).
    """
    times = {name: time for name, time in row.items() if isinstance(time, datetime)}
    return dict(row) | {
        name: datetime.fromtimestamp(time.replace(tzinfo=UTC).timestamp())
        for name, time in times.items()
    }


@cache
def upsert(table: Any, insert: Any) -> Any:
    """The statement that writes rows of a table, whether or not they are there."""
    statement = insert(table)
    keys = ["trial_id", KEYS[table]]
    if table is PARAMS:
        return statement.on_conflict_do_nothing(index_elements=keys)
    values = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


def open_storage(settings: Settings) -> Storage:
    """The studies' database; its schema is created by one process while the others wait."""
    file = sqlite_file(settings.studies)
    try:
        with exclusive(settings.runs / ".setup.lock"):
            if file is None:
                storage = Storage(settings.studies, {"pool_pre_ping": True})
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_ahead(str(file))
                seconds_for_a_writer = {"timeout": 60}
                storage = Storage(settings.studies, {"connect_args": seconds_for_a_writer})
                trust_the_system(storage.engine)
            return wait_for(storage, settings.outage_minutes * 60)
    except (SQLAlchemyError, sqlite3.Error, ImportError, optuna.exceptions.OptunaError) as error:
        kind = Away if away(error) else UserError
        raise kind(f"the studies at {settings.studies}: {str(error).splitlines()[0]}") from None


def trust_the_system(engine: Any) -> None:
    """SQLite waits for the disk less often; an engine that does so already is left alone.

    A commit survives the death of every process; only a power cut may take back the last.
    """
    if not event.contains(engine, "connect", seldom):
        event.listen(engine, "connect", seldom)
        engine.dispose()  # connections from before


def seldom(connection: Any, _: Any) -> None:
    """What a new connection is told."""
    connection.execute("PRAGMA synchronous=NORMAL")


def wait_for(storage: Storage, seconds: float) -> Storage:
    """The storage, each of whose calls waits while its database is away."""
    public = {name for name in dir(optuna.storages.BaseStorage) if not name.startswith("_")}
    for name in public | OWN:
        call = getattr(storage, name)
        if callable(call):
            setattr(storage, name, patient(call, transient=away, seconds=seconds))
    return storage


def away(error: Exception) -> bool:
    """Whether this says that the database did not answer, or was busy."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return isinstance(cause, OperationalError | InterfaceError | sqlite3.OperationalError)


def write_ahead(file: str) -> None:
    """Put a SQLite file into WAL mode, where readers and a writer do not wait for each other."""
    connection = sqlite3.connect(file, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
