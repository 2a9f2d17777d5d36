"""What may be suggested for a field: how many values, whether one is among them, in words."""

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.wording import written

NUMBERS = (FloatDistribution, IntDistribution)


def choices(distribution: BaseDistribution) -> int | None:
    """How many values a distribution has; none: a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return None
    return int((distribution.high - distribution.low) / distribution.step + 1e-9) + 1


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value is one that may be suggested."""
    if isinstance(distribution, CategoricalDistribution):
        same = (c for c in distribution.choices if c == value)  # 1 and 1.0; not 1 and true
        return any(isinstance(choice, bool) == isinstance(value, bool) for choice in same)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    whole = isinstance(distribution, IntDistribution)
    if not math.isfinite(value) or (whole and not isinstance(value, int)):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
    on_a_step = abs(steps - round(steps)) < 1e-8  # as Optuna counts
    return distribution.low <= value <= distribution.high and on_a_step


def largest(distribution: BaseDistribution) -> float:
    """The largest number that may be suggested."""
    if isinstance(distribution, CategoricalDistribution):
        return max(choice for choice in distribution.choices if isinstance(choice, int | float))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.high


def position(distribution: BaseDistribution, value: Any) -> float:
    """Where in its range a value lies, 0 to 1; on a log scale where it is searched on one."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(len(distribution.choices) - 1, 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (float(value) - low) / (high - low) if high > low else 0.5


def described(distribution: BaseDistribution) -> str:
    """What may be suggested, in words: `a number from 4 to 40 (log)`."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(written, distribution.choices))}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "a whole number" if isinstance(distribution, IntDistribution) else "a number"
    low, high, step = distribution.low, distribution.high, distribution.step
    steps = f" in steps of {step:g}" if step not in (None, 1) else ""
    return f"{kind} from {low:g} to {high:g}{steps}{' (log)' if distribution.log else ''}"
