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
from centernet.errors import UserError
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


def check_best(folder: Path, epochs: list[Epoch]) -> None:
    """UserError unless the best weights there are those of the best of `epochs`, if it has one.

    epochs: those that `last` has; none where there is no `last`.
    """
    file = folder / BEST
    best = [epoch for epoch in epochs if epoch.best][-1:]
    if not best:
        if file.exists() or file.is_symlink():
            rule = f"its {BEST} is of none of the epochs that are in {LAST}"
            missing = rule if epochs else f"{BEST}, without a {LAST} to go on from"
            raise UserError(f"{folder}: holds another training ({missing}); choose another folder")
        return
    again = f"the best that {LAST} tells of; put that file back, or choose another folder"
    try:
        _, record = checkpoint.read(file)
    except UserError as error:
        raise UserError(f"{error}; it held epoch {best[0].number}, {again}") from None
    if record.get("digest") != best[0].digest:
        raise UserError(f"{file}: not the weights of epoch {best[0].number}, {again}")


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
