"""IDENTICAL, EQUIVALENT or DIVERGED: two trainings compared, epoch by epoch. No training here."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from centernet.structures import Epoch
from experiments.differences import Difference

IDENTICAL, EQUIVALENT, DIVERGED = "IDENTICAL", "EQUIVALENT", "DIVERGED"
WIDTH = 4  # characters of a tensor in Epoch.tensors
TOTAL = "total"  # of the losses


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far apart: AP in points, the total loss as a fraction of the recorded one."""

    ap: float = 0.0
    loss: float = 0.0

    def within(self, limit: "Deviation") -> bool:
        """Whether neither is above its limit; NaN is above every limit."""
        return self.ap <= limit.ap and self.loss <= limit.loss

    def worst(self, other: "Deviation") -> "Deviation":
        """The larger of each."""
        return Deviation(max(self.ap, other.ap), max(self.loss, other.loss))

    def __str__(self) -> str:
        """`AP by 0.12, total loss by 0.34 %`."""
        return f"AP by {self.ap:.2g}, total loss by {100 * self.loss:.2g} %"


# A CPU sums in blocks: one for each thread, as wide as its vectors. Another number of threads, or
# another processor, rounds otherwise in the 7th digit, and training amplifies that from step to
# step until it is as large as what another seed does. One thread against two, the demo data for
# 7 epochs: AP by at most 2.3 (in the second epoch, where it climbs), total loss by at most 3.6 %.
# Allowed is twice that.
ROUNDED = Deviation(ap=5.0, loss=0.08)
# (device, mode, what else is another) -> how far an epoch may be from the recorded one.
# What is not here has no tolerance: it is IDENTICAL, or it DIVERGED.
TOLERANCES: dict[tuple[str, str, str], Deviation] = {
    (device, mode, what): ROUNDED
    for device in ("cpu",)
    for mode in ("deterministic", "fast")  # on a CPU both are exact
    for what in ("threads", "hardware")
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One epoch, then and now."""

    then: Epoch
    now: Epoch

    @property
    def differs(self) -> list[str]:
        """What is not the same: `loss/size`, `val/AP`, `weights`."""
        names = [f"loss/{n}" for n in unequal(self.then.losses, self.now.losses)]
        names += [f"val/{n}" for n in unequal(self.then.metrics, self.now.metrics)]
        return names + ([] if self.then.digest == self.now.digest else ["weights"])

    @property
    def deviation(self) -> Deviation:
        """How far apart the epochs are; infinitely, where one of them has no number."""
        ap = 0.0
        if "AP" in self.then.metrics or "AP" in self.now.metrics:
            ap = abs(self.then.metrics.get("AP", math.inf) - self.now.metrics.get("AP", 0.0))
        then, now = self.then.losses[TOTAL], self.now.losses[TOTAL]
        loss = 0.0 if then == now else abs(now - then) / abs(then) if then else math.inf
        return Deviation(*(math.inf if math.isnan(x) else x for x in (ap, loss)))

    def tensors(self, names: list[str]) -> str:
        """`backbone.stem.weight and 41 more of 120 tensors`: which weights are not the same."""
        then, now = (split(epoch.tensors) for epoch in (self.then, self.now))
        if not then or len(then) != len(now):
            return ""
        where = [
            index for index, pair in enumerate(zip(then, now, strict=True)) if len({*pair}) > 1
        ]
        if not where:
            return ""
        known = len(names) == len(then)
        first = names[where[0]] if known else f"number {where[0] + 1}"
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        return f"tensor {first}{more} of {len(then)}"


def unequal(a: dict[str, float], b: dict[str, float]) -> list[str]:
    """Names under which two dicts of numbers differ; NaN equals NaN."""
    missing = math.inf
    pairs = ((name, a.get(name, missing), b.get(name, missing)) for name in a | b)
    return [n for n, x, y in pairs if x != y and not (math.isnan(x) and math.isnan(y))]


def split(tensors: str) -> list[str]:
    """The digests in `Epoch.tensors`."""
    return [tensors[start : start + WIDTH] for start in range(0, len(tensors), WIDTH)]


def tolerance(device: str, mode: str, left: Iterable[Difference]) -> Deviation | None:
    """What is allowed with these differences left; none where nothing is stated for them."""
    kinds = {one.kind for one in left if one.trains}
    if not kinds <= {"hardware", "threads"}:
        return None
    what = "same" if not kinds else "hardware" if "hardware" in kinds else "threads"
    return TOLERANCES.get((device, mode, what))


def numeric(reason: str) -> bool:
    """Whether this is how a training says that its numbers diverged: it must come again."""
    return bool(re.fullmatch(r"epoch \d+, step \d+: the .+ is (nan|-?inf)", reason))
