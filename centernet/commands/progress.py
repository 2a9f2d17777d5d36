"""How far a command is, and how long it will take: on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
QUIET_FOR = 2.0  # seconds: a command that takes no longer says nothing
EVERY = 10.0  # seconds between two lines in a log


def progress(items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
    """The items, with a bar on a terminal, else with a line now and then; total none: unknown."""
    return bar(items, total, what) if sys.stderr.isatty() else lines(items, total, what)


def bar(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    """A bar that goes away at the end."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield from shown.track(items, total=total, description=what)


def lines(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    """`evaluating: 120 of 900, ETA 0:25`."""
    started = time.monotonic()
    due = started + QUIET_FOR
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now >= due:
            due = now + EVERY
            print(f"{what}: {line(done, total, now - started)}", file=sys.stderr, flush=True)
        yield item


def line(done: int, total: int | None, seconds: float) -> str:
    """How many are done after so many seconds, and how long the others will take."""
    if total is None or total < done:
        return f"{done}, {done / seconds:.1f} a second"
    left = seconds / done * (total - done)
    return f"{done} of {total}, ETA {left // 60:.0f}:{left % 60:02.0f}"
