"""What a study may spend: totals over all its workers, interruptions and machines."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from experiments.grammar import Limits, parse

NOISE = 0.4  # AP: what a change of seed alone moves
PATIENCE = 10  # finished trials that bring less than the noise: a plateau


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; the first one that is reached ends the study."""

    trials: int | None = None
    epochs: int | None = None  # sum over trials
    hours: float | None = None  # of searching, by the clock
    until_plateau: bool = False

    def __str__(self) -> str:
        """`20 trials, 2.5 hours`."""
        parts = [f"{self.trials} trials"] if self.trials else []
        parts += [f"{self.epochs} epochs"] if self.epochs else []
        parts += [f"{self.hours:g} hours"] if self.hours else []
        return ", ".join(parts + (["until it no longer improves"] if self.until_plateau else []))


class Spender(Protocol):
    """What a budget looks at in a trial."""

    @property
    def finished(self) -> bool:
        """Whether it has used what it will use."""

    @property
    def epochs(self) -> int:
        """Used so far, or, while it is not finished, at most."""

    @property
    def value(self) -> float | None:
        """AP, if complete."""


def read(tree: Any) -> Budget:
    """The `budget:` of a search space; UserError names the wrong field."""
    given = parse(Limits, tree, "budget").model_dump(exclude_unset=True)
    return Budget(**given) if any(given.values()) else Budget(trials=20)


def changed(budget: Budget, **limits: Any) -> Budget:
    """The limits given take the place of the budget's own, all of them; none: the budget's."""
    given = {name: value for name, value in limits.items() if value}
    if set(given) == {"until_plateau"}:
        return replace(budget, until_plateau=True)
    return Budget(**given) if given else budget


def spent_out(
    budget: Budget, trials: Iterable[Spender], *, hours: float, next_epochs: int
) -> str | None:
    """Why no further trial of `next_epochs` may start beside those there are; None: it may.

    A running trial counts as one, with all the epochs it may still use: a total is never exceeded.
    """
    there = list(trials)
    if budget.trials is not None and len(there) >= budget.trials:
        return f"{budget.trials} trials"
    if budget.epochs is not None:
        used = sum(trial.epochs for trial in there)
        if used + next_epochs > budget.epochs:
            return (
                f"{used} of {budget.epochs} epochs are used, another trial may need {next_epochs}"
            )
    if budget.hours is not None and hours >= budget.hours:
        return f"{budget.hours:g} hours"
    if budget.until_plateau and plateau([trial.value for trial in there if trial.finished]):
        return f"the last {PATIENCE} trials improved the best by less than {NOISE} AP, the noise"
    return None


def plateau(values: list[float | None]) -> bool:
    """Whether the last PATIENCE of the finished trials brought less than the noise."""
    before = [value for value in values[:-PATIENCE] if value is not None]
    after = [value for value in values[-PATIENCE:] if value is not None]
    return bool(before) and max(after, default=-math.inf) < max(before) + NOISE
