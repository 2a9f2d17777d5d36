"""What the GPUs of a study drew, from the system metrics of its runs."""

from collections.abc import Iterable

from experiments.tracking import Tracker


def watts(tracker: Tracker, gpus: Iterable[int]) -> float | None:
    """What these GPUs drew together, on average over all samples; None: it was not measured."""
    runs, total = tracker.trials(), None
    for gpu in gpus:
        metric = f"system/gpu_{gpu}_power_usage_watts"
        drawn = [
            value
            for run in runs
            if metric in run.data.metrics
            for _, value in tracker.history(run.info.run_id, metric)
        ]
        if drawn:
            total = (total or 0.0) + sum(drawn) / len(drawn)
    return total
