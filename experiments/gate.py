"""Whether a model may become the champion: statistics and policy, without MLflow or a disk."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from centernet.bootstrap import Matches, average_precision, draws
from centernet.seed import key
from experiments.settings import Policy

SEED = key("gate")  # the same images give the same decision


@dataclass(frozen=True, slots=True)
class Estimate:
    """A test AP, or a difference of two, in percent; each end is a one-sided bound."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """`38.2 [35.0, 41.3]`."""
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"

    @property
    def signed(self) -> str:
        """`+0.8 [-1.0, +2.6]`."""
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same test images."""

    challenger: Estimate
    champion: Estimate
    difference: Estimate
    drawn: tuple[float, ...]  # the difference in each drawn set of images


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the alias moves, and why, in a sentence."""

    promote: bool
    why: str


def estimate(found: Matches, policy: Policy) -> Estimate:
    """A model's test AP with its bounds."""
    value, drawn = resampled(found, policy)
    return possible(bounded(value, drawn, images=len(found.truth), confidence=policy.confidence))


def possible(found: Estimate) -> Estimate:
    """Bounds of an AP that an AP can have."""
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 100.0))


def compare(challenger: Matches, champion: Matches, policy: Policy) -> Comparison:
    """Both models' test AP, and the difference on the same drawn images."""
    images, confidence = len(challenger.truth), policy.confidence
    (ours, a), (theirs, b) = (resampled(one, policy) for one in (challenger, champion))
    return Comparison(
        possible(bounded(ours, a, images=images, confidence=confidence)),
        possible(bounded(theirs, b, images=images, confidence=confidence)),
        bounded(ours - theirs, a - b, images=images, confidence=confidence),
        tuple((a - b).tolist()),
    )


def resampled(found: Matches, policy: Policy) -> tuple[float, NDArray[np.float64]]:
    """AP of the images themselves, and of every drawn set."""
    images = len(found.truth)
    own = np.ones((1, images), np.int32)
    counts = np.concatenate((own, draws(images, count=policy.resamples, seed=SEED)))
    value, *drawn = average_precision(found, counts).tolist()
    return value, np.array(drawn)


def bounded(
    value: float, drawn: NDArray[np.float64], *, images: int, confidence: float
) -> Estimate:
    """A value between its bounds, from values of drawn sets; NaN ones say nothing.

    Each bound is the more careful one of the percentile and the basic bootstrap, taken a little
    further out because drawn sets vary less than samples do (Hesterberg 2015, section 4.2):
    benchmarks/gate.py shows that the plain ones err more often than they say.
    """
    tail = narrowed(1 - confidence, images)
    low, high = np.nanquantile(drawn, (tail, 1 - tail)).tolist()
    return Estimate(value, min(low, 2 * value - high), max(high, 2 * value - low))


def narrowed(tail: float, images: int) -> float:
    """The tail of the drawn sets that stands for a tail of so many images: Student's t, n - 1."""
    law, free = NormalDist(), max(images - 1, 1)
    z = -law.inv_cdf(tail)
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return law.cdf(-student * math.sqrt(1 + 1 / free))


def decide(
    policy: Policy,
    own: Estimate,
    *,
    comparison: Comparison | None,
    costs: Mapping[str, float],
    alias: str,
) -> Decision:
    """Whether a model that passed its checks becomes the champion; no comparison: there is none."""
    for name, most in policy.limits.items():
        if costs[name] > most:
            return Decision(False, f"its {name} is {costs[name]:.4g}, the gate's limit {most:g}")
    if comparison is None:
        reached = own.low >= policy.minimum_ap
        verb = "reaches" if reached else "does not surely reach"
        why = f"there was no {alias}; its test AP {own} {verb} the minimum {policy.minimum_ap:g}"
        return Decision(reached, why)
    better = comparison.difference.low > policy.margin
    sure = f"{policy.confidence:.0%} sure"
    margin = f" by more than {policy.margin:g}" if policy.margin else ""
    word = "it is" if better else "it is not"
    against = f"test AP {own.value:.1f} against {comparison.champion.value:.1f}"
    return Decision(
        better,
        f"{word} {sure} to be better than the {alias}{margin}: {against}, "
        f"difference {comparison.difference.signed}",
    )
