"""Report a trial's epochs to its study, and ask the study's pruner whether it should go on."""

from copy import copy

from optuna.trial import FrozenTrial

from centernet.errors import UserError
from centernet.structures import Epoch
from experiments.stores.outbox import Outbox
from experiments.study.storage import Study

VALUE = "AP"  # the objective: COCO AP of the EMA weights on val


class EpochReporter:
    """Takes a trial's epochs in turn; what it reports is written by another thread, in order."""

    def __init__(self, study: Study, number: int) -> None:
        """A trial may be a continued one: epochs reported before are not reported again."""
        self.study, self.number = study, number
        self.known = dict(self._trial().intermediate_values)
        self.may_prune = len(study.directions) == 1  # Optuna prunes by one objective only
        self.outbox: Outbox[tuple[int, float]] = Outbox(self._write)

    def __enter__(self) -> "EpochReporter":
        """Inside, epochs are taken."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """At its end, and after an error, everything is written; interrupted, nothing more."""
        if kind is None or issubclass(kind, Exception):
            self.outbox.close()
        else:
            self.outbox.stop()

    def _write(self, batch: list[tuple[int, float]]) -> None:
        self.study.report(self.number, dict(batch))

    def should_end(self, epoch: Epoch) -> bool:
        """Report an epoch, if it was evaluated; whether the trial is to be pruned after it."""
        if VALUE not in epoch.metrics or epoch.number < max(self.known, default=0):
            return False
        if epoch.number not in self.known:
            self.known[epoch.number] = float(epoch.metrics[VALUE])
            self.outbox.put((epoch.number, self.known[epoch.number]))
        return self.may_prune and self.study.retry(self._prune)

    def _trial(self) -> FrozenTrial:
        trial = self.study.recorded(self.number)
        if trial is None:
            raise UserError(f"trial {self.number} was deleted from the studies' database")
        return trial

    def _prune(self) -> bool:
        """What the pruner says of the trial with all its epochs, also those not written yet."""
        trial = copy(self._trial())
        trial.intermediate_values = dict(self.known)
        return bool(self.study.pruner.prune(self.study, trial))
