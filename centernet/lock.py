"""One process at a time: locks that the kernel drops when their holder dies, however it dies."""

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from centernet.errors import UserError

GLANCE = 0.2  # seconds; whoever only asks who holds a lock has it for less
PAUSE = 0.05  # seconds between two tries
LONGEST = 4096  # bytes that are read of a lock's file
BOOT = Path("/proc/sys/kernel/random/boot_id")  # another after each start of the machine
_held: set[int] = set()


def _release() -> None:
    """A forked loader worker must not keep its parent's locks alive."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_release)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took a lock, told from every other process: on any machine, at any time."""

    process: int
    host: str
    boot: str  # of the machine
    namespace: str  # in which the process has its number
    started: str  # the process, in clock ticks of the machine
    since: str  # when it took the lock

    @staticmethod
    def of(process: int) -> "Holder":
        """A process of this machine, as it is now; where that cannot be told, a text is empty."""
        started = namespace = boot = ""
        with suppress(OSError, IndexError):  # no such process, or a system without /proc
            started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
            namespace = str(Path(f"/proc/{process}/ns/pid").readlink())
            boot = BOOT.read_text().strip()
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Holder(process, socket.gethostname(), boot, namespace, started, now)

    @property
    def is_here(self) -> bool:
        """Whether the number is that very process's, here and now: only then may it be killed."""
        now, here = Holder.of(self.process), Holder.of(os.getpid())
        facts = (self.boot, self.namespace, self.started)
        same = facts == (now.boot, now.namespace, now.started) and self.host == here.host
        return all(facts) and same and self.namespace == here.namespace

    def __str__(self) -> str:
        """`process 12 on host since 2026-01-31 12:00:00 UTC`."""
        if self == UNKNOWN:
            return "process unknown"
        return f"process {self.process} on {self.host} since {self.since}"


UNKNOWN = Holder(0, "", "", "", "", "")


@contextmanager
def exclusive(file: Path, *, busy: str | None = None, seconds: float = GLANCE) -> Iterator[None]:
    """Hold the lock of `file`: wait for it, or, with `busy`, UserError of that text soon."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if busy is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not _taken(descriptor, seconds):
            raise UserError(f"{busy} ({_read(descriptor)})")
        _held.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.of(os.getpid()))).encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _taken(descriptor: int, seconds: float) -> bool:
    """Whether the lock came free within so many seconds, and is held now."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(PAUSE)
        else:
            return True


def _read(descriptor: int) -> Holder:
    """Who wrote itself into a lock's file last; anybody may have written there."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        found = json.loads(os.pread(descriptor, LONGEST, 0))
        kinds = Holder.__annotations__
        read = Holder(**{name: kinds[name](value) for name, value in found.items()})
        return read if read.process > 0 else UNKNOWN
    return UNKNOWN


def last_holder(file: Path) -> Holder:
    """Who held the lock of `file` last, or holds it."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def holder(file: Path) -> Holder | None:
    """Who holds the lock of `file`, if anybody does."""
    if not file.exists():
        return None
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def wrest(file: Path, *, busy: str, seconds: float) -> None:
    """Kill the process that holds the lock of `file`, if it is surely that one, and here.

    Any other is waited for: it may run elsewhere, and its number may be another process's here.
    UserError of `busy`, and who it is, where the lock is not free after `seconds`. What this
    process holds itself, it keeps.
    """
    known = holder(file)
    if known is not None and known.is_here and known.process == os.getpid():
        return
    if known is not None and known.is_here:
        with suppress(ProcessLookupError, PermissionError):  # it ended; it is another user's
            os.kill(known.process, signal.SIGKILL)
    with exclusive(file, busy=busy, seconds=seconds):
        pass
