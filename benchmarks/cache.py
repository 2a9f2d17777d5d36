"""What the cache of decoded images saves: once through train images, without augmentation.

Each row in a process of its own; memory is what that process, or its loader workers, hold
beside the pages of files:

    .venv/bin/python benchmarks/cache.py ../shared/data/vehicles 400
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from centernet.dataset import coco
from centernet.dataset.loader import Draw, Order, Samples, training_loader
from centernet.dataset.split import Split

SIZE = 256  # pixels
MIB = 2**20


def once_through(batches: Iterator[Any]) -> float:
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


def private(processes: list[psutil.Process]) -> float:
    """MiB that no other process shares, without pages of files (Linux: private and dirty)."""
    maps = [m for process in processes for m in process.memory_maps()]
    return sum(m.private_dirty for m in maps if not m.path.startswith("/")) / MIB


def samples(split: Split, kind: str) -> Samples:
    return Samples(split, height=SIZE, width=SIZE, letterbox=False,
                   cache=kind, cache_mb=2048, cache_disk_mb=16384)  # fmt: skip


def plain(split: Split, kind: str) -> None:
    """Two passes in one process: cold or warm as the caller has it, then warm."""
    found = samples(split, kind)
    before = private([psutil.Process()])
    first, second = (
        once_through(found[Draw(index)] for index in range(len(found))) for _ in range(2)
    )
    held = private([psutil.Process()]) - before
    report(f"{kind}, first pass", len(found), first)
    report(f"{kind}, second pass", len(found), second, f"{held:.0f} MiB of its own")


def with_workers(split: Split, kind: str) -> None:
    """The second epoch of two loader workers, and what they hold."""
    order = Order(split, batch_size=16, balance=0, seed=0)
    loader = training_loader(samples(split, kind), order, workers=2)
    for order.epoch in (1, 2, 3):
        seconds = once_through(iter(loader))
    workers = [p for p in psutil.Process().children() if p.is_running()]
    report(f"{kind}, 2 workers, third epoch", len(split), seconds,
           f"{private(workers):.0f} MiB of their own")  # fmt: skip


def report(what: str, images: int, seconds: float, more: str = "") -> None:
    print(f"{what:32} {1000 * seconds / images:7.3f} ms an image  {more}", flush=True)


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """In another process."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    split = coco.read(folder, "train")
    split = replace(split, records=split.records[:count])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CENTERNET_CACHE"] = scratch
        for kind in ("none", "memory", "disk", "disk"):
            apart(plain, split, kind)
        for kind in ("memory", "disk"):
            apart(with_workers, split, kind)


if __name__ == "__main__":
    main()
