"""A training's folder: one training's at a time; its best weights are of an epoch that is in last.

An epoch's weights are written beside the best ones first, and take their place once `last` knows
of that epoch: so a training that dies in between goes on as if the epoch had never been.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from centernet import checkpoint, distributed
from centernet.checkpoint import BEST, LAST
from centernet.lock import exclusive
from centernet.structures import Epoch

NEXT = ".next.safetensors"  # of the best epoch, until `last` has it
LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """This training's alone, while the block runs; made where it is missing.

    UserError where another training has it, OSError where nothing can be written. What a killed
    training left half-written is removed. Of several processes, the first one does all that.
    """
    if distributed.rank() > 0:
        yield
        return
    with exclusive(folder / LOCK, busy=f"{folder}: another training is at work there"):
        with TemporaryFile(dir=folder):  # a checkpoint can be written
            pass
        for name in (LAST, BEST, NEXT):
            for file in folder.glob(f".{name}-*"):
                file.unlink()
        yield


def write_next(folder: Path, epoch: Epoch, weights: checkpoint.Tensors, record: Any) -> None:
    """Write the weights of an epoch that is the best so far."""
    checkpoint.write(folder / NEXT, weights, record | {"digest": epoch.digest})


def settle(folder: Path, epochs: list[Epoch]) -> None:
    """Put the next best weights in their place if they are of one of `epochs`, else drop them.

    epochs: those that `last` has.
    """
    file = folder / NEXT
    if not file.exists():
        return
    _, record = checkpoint.read(file)
    if any(epoch.digest == record.get("digest") for epoch in epochs if epoch.best):
        file.replace(folder / BEST)
    else:
        file.unlink()
