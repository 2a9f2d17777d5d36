"""Which weights stay on the disk: those of the best trials, within a budget of bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from experiments import study
from experiments.tracking import Tracker


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights that a run keeps."""

    number: int
    value: float | None
    run_id: str
    bytes: int
    pinned: bool  # a registered model was made from them


def excess(stored: Iterable[Stored], *, keep_best: int, keep_bytes: float) -> list[Stored]:
    """What to delete, worst first: all but the best `keep_best`, and those beyond the bytes.

    Pinned weights stay, and count; the best trial's stay whatever they weigh.
    """
    ranked = sorted(stored, key=lambda one: (-(one.value or -1.0), one.number))
    kept, used, surplus = 0, float(sum(one.bytes for one in ranked if one.pinned)), []
    for one in ranked:
        if one.pinned:
            kept += 1
        elif kept < keep_best and (kept == 0 or used + one.bytes <= keep_bytes):
            kept, used = kept + 1, used + one.bytes
        else:
            surplus.append(one)
    return surplus[::-1]


def worth_keeping(ours: Any, value: float, *, keep_best: int) -> bool:
    """Whether a trial of this AP is among the best so far; if not, its weights are not copied."""
    better = sum((study.score(trial) or 0.0) >= value for trial in study.kept(ours))
    return better < keep_best


def surplus(ours: Any, tracker: Tracker, pins: set[str]) -> list[Stored]:
    """The weights of a study that its limits do not allow to stay."""
    stored = [
        Stored(
            trial.number, study.score(trial), run_id, trial.user_attrs[study.KEPT], run_id in pins
        )
        for trial in study.kept(ours)
        if (run_id := trial.user_attrs.get(study.RUN))
    ]
    own = tracker.settings
    return excess(stored, keep_best=own.keep_best, keep_bytes=own.keep_gb * 1e9)


def forget(ours: Any, tracker: Tracker, unwanted: Iterable[Stored]) -> None:
    """Delete weights; killed on its way, the next call deletes the rest."""
    for one in unwanted:
        tracker.forget(one.run_id)
        study.note_forgotten(ours, one.number)
