"""Crews that run trials: in this process, or as Ray actors beside each other."""

import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from centernet.errors import UserError
from centernet.scratch import scratch_folder
from experiments import study
from experiments.drive import Crew
from experiments.next_steps import option
from experiments.objective import Progress, Search, failed, objective
from experiments.stores.retry import Away, Retry
from experiments.watchdog import Watchdog

START = 300.0  # seconds that a worker may take until its first word
TICK = 0.5  # seconds to wait for something to happen
OBJECT_STORE = 80 * 2**20  # bytes; Ray's least: workers send only a few numbers


class Inline:
    """One trial after the other, in this process."""

    def __init__(self, search: Search) -> None:
        """Nothing to start."""
        self.search = search
        self.running: Iterator[Progress] | None = None
        self.number = -1
        self.minutes = search.tracker.settings.stall_minutes
        self.watchdog: Watchdog | None = None

    @property
    def idle(self) -> bool:
        """Whether it can take a trial."""
        return self.running is None

    @property
    def busy(self) -> bool:
        """Whether it has one."""
        return self.running is not None

    def start(self, number: int) -> None:
        """Take a trial."""
        self.running = objective(study.resume(self.search.study, number), self.search)
        self.number = number
        self.watchdog = Watchdog(max(self.minutes * 60, START), self._stalled)

    def events(self) -> Iterator[Progress]:
        """Up to the trial's next epoch."""
        assert self.running is not None and self.watchdog is not None, "busy"
        progress = next(self.running, None)
        self.watchdog.hear()
        if progress is None:
            self.running = None
            self.watchdog.close()
            return
        if progress.epoch is not None:
            self.watchdog.seconds = self.minutes * 60
        yield progress

    def close(self) -> None:
        """Leave the trial where its last checkpoint is."""
        if self.watchdog is not None:
            self.watchdog.close()
        if isinstance(self.running, Generator):
            self.running.close()

    def _stalled(self) -> None:
        reason = silence(self.minutes)
        name = self.search.tracker.label(self.number).words
        print(f"{name}: {reason}; the search begins again", flush=True)
        failed(self.search, self.number, reason)


class Worker:
    """A process of its own, with its share of a GPU, that runs one trial after the other."""

    def __init__(self, search: Any, log: str) -> None:
        """Open the search here; what is printed goes to the log file."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        self.search: Search = Retry(is_away=is_away, seconds=START)(search)

    def run(self, number: int) -> Iterator[Progress]:
        """Run or continue a trial."""
        for progress in objective(study.resume(self.search.study, number), self.search):
            print(datetime.now(UTC).isoformat(timespec="seconds"), told(progress), flush=True)
            yield progress


def told(progress: Progress) -> str:
    """A line of a worker's log."""
    text = f"{progress.name.words} {progress.state}"
    if progress.epoch is not None:
        text += f" epoch {progress.epoch.number}/{progress.epochs}"
    return (
        text
        + (f" best AP {progress.value:.2f}" if progress.value is not None else "")
        + (f": {progress.reason}" if progress.reason else "")
    )


@dataclass(slots=True)
class Slot:
    """A worker, and the trial that it has."""

    index: int
    actor: Any
    stream: Any = None  # of references to Progress
    number: int = -1
    last: Progress | None = None
    heard: float = 0.0


class Actors:
    """Ray actors: `workers` processes, each with 1/`per_gpu` of a GPU where there are any."""

    def __init__(self, search: Search, *, workers: int, per_gpu: int, gpus: str | None) -> None:
        """Start Ray, or connect to the cluster at RAY_ADDRESS, and the workers."""
        self.search = search
        self.share = 1 / per_gpu if gpus != "" else 0.0
        self.opened = ExitStack()
        with self.opened as opening:  # all of it goes again where it is not opened to the end
            scratch = opening.enter_context(scratch_folder("ray-", Path(tempfile.gettempdir())))
            self.ray = start_ray(str(scratch), gpus)
            opening.callback(self.ray.shutdown)
            if not self.ray.cluster_resources().get("GPU"):
                self.share = 0.0
            self.slots = [Slot(index, self._actor(index)) for index in range(workers)]
            self.opened = opening.pop_all()

    def _actor(self, index: int) -> Any:
        threads = str(self.search.base.train.threads)
        environment = {"OMP_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore"}
        log = self.search.logs / f"worker-{index}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        actor = self.ray.remote(Worker).options(
            num_cpus=0, num_gpus=self.share, runtime_env={"env_vars": environment}
        )
        return actor.remote(self.search.reopen, str(log))

    @property
    def idle(self) -> bool:
        """Whether it can take a trial."""
        return any(slot.stream is None for slot in self.slots)

    @property
    def busy(self) -> bool:
        """Whether it has one."""
        return any(slot.stream is not None for slot in self.slots)

    def start(self, number: int) -> None:
        """Hand a trial to a free worker."""
        slot = next(slot for slot in self.slots if slot.stream is None)
        slot.stream = slot.actor.run.options(num_returns="streaming").remote(number)
        slot.number, slot.last, slot.heard = number, None, time.monotonic()

    def events(self) -> Iterator[Progress]:
        """What the workers sent, or how they died."""
        streams = {id(slot.stream): slot for slot in self.slots if slot.stream is not None}
        waiting = [slot.stream for slot in streams.values()]
        ready, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=TICK)
        for stream in ready:
            yield from self._next(streams[id(stream)])
        patience = self.search.tracker.settings.stall_minutes * 60
        for slot in self.slots:
            allowed = patience if slot.last is not None else max(patience, START)
            if slot.stream is not None and time.monotonic() - slot.heard > allowed:
                yield self._died(slot, silence(patience / 60))

    def _next(self, slot: Slot) -> Iterator[Progress]:
        try:
            progress: Progress = self.ray.get(next(slot.stream))
        except StopIteration:
            slot.stream = None
        except self.ray.exceptions.RayError as error:
            yield self._died(slot, why(error))
        else:
            slot.last, slot.heard = replace(progress, worker=slot.index), time.monotonic()
            yield slot.last

    def _died(self, slot: Slot, reason: str) -> Progress:
        """Start another worker in place of one that died, and queue its trial again."""
        self.ray.kill(slot.actor)
        state = failed(self.search, slot.number, reason)
        slot.actor, slot.stream = self._actor(slot.index), None
        epochs, label = self.search.base.train.epochs, self.search.tracker.label(slot.number)
        last = slot.last or Progress(slot.number, {}, state, epochs, label=label)
        return replace(last, state=state, reason=reason, worker=slot.index)

    def close(self) -> None:
        """End every worker, at once: each trial stays where its last checkpoint is."""
        self.opened.close()


def start_ray(scratch: str, gpus: str | None) -> Any:
    """Ray on this machine only, behind a secret of this process; or the cluster at RAY_ADDRESS."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # a trial is as urgent as it is inline
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    remote = bool(os.environ.get("RAY_ADDRESS"))
    if not remote:
        os.environ["RAY_AUTH_MODE"] = "token"  # else Ray writes a token into the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it only once
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else it listens on every address
    try:
        import ray
    except ImportError:
        raise UserError(
            f"several workers need Ray: install the extra ray, or {option('workers', 1)}"
        ) from None

    own: dict[str, Any] = {"_temp_dir": scratch, "_node_ip_address": "127.0.0.1"}
    own |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    terminated = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **({} if remote else own))
    signal.signal(signal.SIGTERM, terminated)  # in place of Ray's, which prints a stack trace
    return ray


def silence(minutes: float) -> str:
    """Why a trial was taken from its process."""
    return f"no epoch for {minutes:g} minutes"


def is_away(error: BaseException) -> bool:
    """Whether a store did not answer."""
    return isinstance(error, Away)


def why(error: Exception) -> str:
    """One line on how a worker ended."""
    text = str(error)
    if "SIGKILL" in text or "connection error" in text:
        return "its process was killed (by someone, or for want of memory)"
    return (text.strip().splitlines() or [type(error).__name__])[-1]


def crew(search: Search, *, workers: int, per_gpu: int, gpus: str | None) -> Crew:
    """The crew for a number of workers: one runs in this process."""
    if workers == 1 and gpus is None:
        return LAUNCHERS["inline"](search)
    return LAUNCHERS["ray"](search, workers=workers, per_gpu=per_gpu, gpus=gpus)


LAUNCHERS: dict[str, Callable[..., Crew]] = {"inline": Inline, "ray": Actors}
