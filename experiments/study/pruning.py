"""Report a trial's epochs to its study, and ask the study's pruner whether it should go on."""

import time
from collections.abc import Container
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from centernet.structures import Epoch
from experiments.outbox import Outbox
from experiments.study import VALUE, storage

AGE = 1.0  # seconds for which what was read of the other trials is good enough


class Glance:
    """A study as a pruner sees it: the other trials are read at most once in AGE seconds.

    An epoch of a real training takes longer than that, so each one sees all that there is; one
    that takes milliseconds does not wait for a database.
    """

    def __init__(self, study: optuna.Study) -> None:
        """Nothing is read yet."""
        self._study = study
        self._trials: list[FrozenTrial] = []
        self._read = float("-inf")

    def __getattr__(self, name: str) -> Any:
        """Everything else is the study's own."""
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in these states, as they were a moment ago; never copied."""
        if time.monotonic() - self._read > AGE:
            self._trials = self._study.get_trials(deepcopy=False)
            self._read = time.monotonic()
        return [trial for trial in self._trials if states is None or trial.state in states]


class Judge:
    """Hears a trial's epochs in turn; what it reports is written by another thread, in order."""

    def __init__(self, trial: optuna.Trial, view: Glance | None = None) -> None:
        """`trial` may be a continued one: epochs that it reported before are not reported again.

        view: of its study, where others look at it too.
        """
        self.trial, self.view = trial, view or Glance(trial.study)
        self.pruner = trial.study.pruner
        self.one = len(trial.study.directions) == 1  # Optuna prunes by one objective only
        self.storage = storage(trial.study)
        self.outbox: Outbox[tuple[int, float]] = Outbox(self._write)

    def __enter__(self) -> "Judge":
        """Inside, epochs are heard."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """At its end, and after an error, everything is written; interrupted, nothing more."""
        if kind is None or issubclass(kind, Exception):
            self.outbox.close()
        else:
            self.outbox.stop()

    def _write(self, batch: list[tuple[int, float]]) -> None:
        """`Trial.report` refuses where there are several objectives."""
        self.storage.report(self.trial._trial_id, dict(batch))

    def should_end(self, epoch: Epoch) -> bool:
        """Report an epoch, if it was evaluated; whether the trial is to be pruned after it."""
        known = self.trial._cached_frozen_trial.intermediate_values
        if VALUE not in epoch.metrics or epoch.number < max(known, default=0):
            return False
        if epoch.number not in known:
            known[epoch.number] = float(epoch.metrics[VALUE])
            self.outbox.put((epoch.number, known[epoch.number]))
        return self.one and bool(self.pruner.prune(self.view, self.trial._get_latest_trial()))  # type: ignore[arg-type]  # a Glance reads like a study
