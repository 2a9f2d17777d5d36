"""What a training thread wants written, written by another thread: in order, once, bounded.

Nothing is lost with the process: what it still held is in the training's own checkpoint, and is
put in again when the training goes on from there.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 1000  # items held while the store is away; then the training waits
MOMENT = 0.2  # seconds that the writer waits for more: fewer and larger requests


class Outbox(Generic[T]):
    """Hands what is put in to `write`, in lists of all that came since the last call."""

    def __init__(self, write: Callable[[list[T]], None]) -> None:
        """Start the thread."""
        self.write = write
        self.items: queue.Queue[T | None] = queue.Queue(MOST)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def put(self, item: T) -> None:
        """Hand an item over; raises what the writer raised, if it gave up."""
        self._check()
        while True:
            try:
                return self.items.put(item, timeout=1.0)
            except queue.Full:
                self._check()

    def offer(self, item: T) -> bool:
        """Hand an item over that may be lost; whether there was room for it."""
        with suppress(queue.Full):
            self.items.put_nowait(item)
            return True
        return False

    def close(self) -> None:
        """Wait until everything is written; raises what the writer raised."""
        if self.thread.is_alive():
            self.items.put(None)
        self.thread.join()
        self._check()

    def stop(self) -> None:
        """Write nothing more: after this, nobody writes behind the caller's back."""
        with suppress(queue.Empty):
            while True:
                self.items.get_nowait()
        if self.thread.is_alive():
            self.items.put(None)
        self.thread.join()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _gather(self) -> list[T | None]:
        """What is there, and what comes within the next moment, up to the end."""
        batch = [self.items.get()]
        until = time.monotonic() + MOMENT
        with suppress(queue.Empty):
            while batch[-1] is not None:
                batch.append(self.items.get(timeout=max(until - time.monotonic(), 0)))
        return batch

    def _run(self) -> None:
        while True:
            batch = self._gather()
            wanted = [item for item in batch if item is not None]
            try:
                if wanted:
                    self.write(wanted)
            except Exception as error:  # given to the training's thread, which raises it
                self.error = error
            if None in batch or self.error is not None:
                return
