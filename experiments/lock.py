"""One process at a time: locks that the kernel drops when their holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from centernet.errors import UserError


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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
