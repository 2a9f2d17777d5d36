"""One process at a time: locks that the kernel drops when their holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from centernet.errors import UserError

_held: set[int] = set()


def _release() -> None:
    """A forked loader worker must not keep its parent's locks alive."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_release)


@contextmanager
def exclusive(file: Path, *, busy: str | None = None) -> Iterator[None]:
    """Hold the lock of `file`: wait for it, or, with `busy`, UserError of that text at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip()
            raise UserError(f"{busy} (process {holder or 'unknown'})") from None
        _held.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def holder(file: Path) -> int | None:
    """The process that holds the lock of `file`, if one does."""
    if not file.exists():
        return None
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or 0) or None
    else:
        return None
    finally:
        os.close(descriptor)
