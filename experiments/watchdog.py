"""A trial in this process that gets no further: note it, and begin the same command again.

A training that hangs inside a library cannot be ended from within its process, so the process is
replaced: its locks fall, and the trial goes on from its last checkpoint, as after a kill.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import psutil


class Watchdog:
    """Calls `stalled` and begins this program again after `seconds` without a word."""

    def __init__(self, seconds: float, stalled: Callable[[], None]) -> None:
        """Start watching; `close` ends it."""
        self.seconds, self.stalled = seconds, stalled
        self.heard = time.monotonic()
        self.closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def hear(self) -> None:
        """There was progress."""
        self.heard = time.monotonic()

    def close(self) -> None:
        """Watch no longer."""
        self.closed.set()

    def _watch(self) -> None:
        while not self.closed.wait(1.0):
            if time.monotonic() - self.heard > self.seconds:
                try:
                    self.stalled()
                finally:  # whatever became of the note
                    begin_again()


def end_children() -> None:
    """Kill what this process started; show the cursor that the live table hides."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")
        sys.stderr.flush()


def begin_again() -> NoReturn:
    """Become the program that was started, with the words that it was started with."""
    end_children()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # our own words
