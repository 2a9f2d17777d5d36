"""What a training does to its machine: CPU, memory, disk, network and GPUs, at intervals.

MLflow measures; writing is the caller's, so that an outage of the store does not end it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

SYSTEM = "system/"  # begins their names, as MLflow's UI expects
Values = dict[str, float]


@contextmanager
def sampled(take: Callable[[Values], None], *, seconds: float) -> Iterator[None]:
    """Inside the block, `take` is given a sample from the first interval's end on."""
    over = threading.Event()

    def sample() -> None:
        watch = [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *gpus()]
        measured(watch[:1])  # the load is that since the last time
        while not over.wait(seconds):
            take(measured(watch))

    thread = threading.Thread(target=sample, daemon=True, name="system metrics")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measured(monitors: list[Any]) -> Values:
    """One sample of everything."""
    found: Values = {}
    for monitor in monitors:
        monitor.collect_metrics()
        found |= {f"{SYSTEM}{name}": float(v) for name, v in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return found


@cache  # finding them takes time, and they stay
def gpus() -> list[Any]:
    """Those of NVIDIA, else those of AMD, if there are any."""
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(Exception):  # MLflow raises whatever their libraries do
            return [kind()]
    return []
