"""The loop of a search: give out trials to a crew, count what they spend, clean up behind them.

One process, the holder of the study's lock, gives trials out; whoever runs one yields its
progress. A trial whose process dies is queued again and goes on from its checkpoint.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol

from centernet.errors import UserError
from centernet.lock import wrest
from experiments import study
from experiments.budget import Budget, spent_out
from experiments.objective import Progress, Search
from experiments.ranges import largest
from experiments.registry import pinned
from experiments.retention import forget, surplus
from experiments.study import finals
from experiments.study.methods import exhausted
from experiments.study.suggest import suggest
from experiments.watchdog import end_children

MOMENT = 2.0  # seconds
GRACE = 20.0  # seconds for a trial's process to end that is not ours to kill
FIELD = "train.epochs"
HOPELESS = 3  # failed trials at the start of a search, before any has come to its end


class Crew(Protocol):
    """Runs trials for `drive`."""

    @property
    def idle(self) -> bool:
        """Whether it can take a trial."""

    @property
    def busy(self) -> bool:
        """Whether it has one."""

    def start(self, number: int) -> None:
        """Take a trial that was given out."""

    def events(self) -> Iterator[Progress]:
        """What happened; waits a little for something to."""

    def close(self) -> None:
        """Let go of everything, at once."""


def drive(search: Search, budget: Budget, crew: Crew) -> Generator[Progress, None, None]:
    """Give out trials to a crew until the budget is spent; the caller holds the study's lock."""
    settle(search)
    forget_surplus(search)  # what a search that was killed did not come to
    clock = Clock(search)
    failures = 0
    try:
        while True:
            while crew.idle and (number := next_trial(search, budget, clock.hours)) is not None:
                crew.start(number)
            if not crew.busy:
                return
            for progress in crew.events():
                yield progress
                failures = count(progress, failures)
                if progress.kept:
                    forget_surplus(search)
            clock.tick()
            if budget.hours is not None and clock.hours >= budget.hours:
                return
    except (KeyboardInterrupt, GeneratorExit):  # here, or where the caller shows what it got
        for again in (signal.SIGINT, signal.SIGTERM):  # to leave takes a moment
            signal.signal(again, partial(at_once, search))
        raise
    finally:
        crew.close()
        clock.tick(now=True)
        settle(search)


def at_once(search: Search, *_: object) -> None:
    """Ctrl-C for the second time: end as by kill -9, which the next search mends.

    What was running is marked if that is possible within a moment: this thread was interrupted
    anywhere, maybe while it holds what another one needs.
    """

    def mark() -> None:
        settle(search)
        search.tracker.client.set_terminated(search.parent, "KILLED")

    with suppress(OSError):  # the terminal may be gone
        os.write(2, b"\nexperiments: ended at once; the same command continues\n")
    end_children()
    marking = threading.Thread(target=mark, daemon=True)
    marking.start()
    marking.join(MOMENT)
    os._exit(130)


def next_trial(search: Search, budget: Budget, hours: float) -> int | None:
    """Give out the next trial, its values suggested; None if the budget does not allow another."""
    spent, epochs = study.spent(search.study), may_need(search)
    if spent_out(budget, spent, hours=hours, next_epochs=epochs):
        return None
    space = search.space
    if space.sampler["name"] == "grid" and exhausted(space, search.base, study.tried(search.study)):
        return None
    trial = study.ask(search.study, search.space, seed=search.base.train.seed)
    begun = study.EPOCHS in trial.user_attrs  # given out before: it may have a run
    search.study.note(trial.number, study.BEGUN, begun)
    config = search.study.retry(suggest, trial, search.space, search.base)
    search.study.note(trial.number, study.EPOCHS, config.train.epochs)
    return trial.number


def may_need(search: Search) -> int:
    """The most epochs that the trial given out next may train: its own, else the space's most."""
    queued = study.next_queued(search.study)
    values = {} if queued is None else finals.queued(queued)
    if FIELD in values and FIELD not in search.space.conditions:
        return int(values[FIELD])
    most = search.base.train.epochs
    if FIELD in search.space.parameters:
        most = max(most, int(largest(search.space.parameters[FIELD])))
    return most


def count(progress: Progress, failures: int) -> int:
    """Failed trials in a row, since a search began; UserError when it is hopeless to go on."""
    if progress.state == "WAITING" and "No space left" in progress.reason:
        raise UserError(f"the study stops: {progress.reason}; the same command continues")
    if progress.state in ("COMPLETE", "PRUNED"):
        return -sys.maxsize
    failures += progress.state == "FAIL"
    if failures >= HOPELESS:
        raise UserError(
            f"the study stops: {failures} trials failed and none was completed; the last one: "
            f"{progress.reason}"
        )
    return failures


def forget_surplus(search: Search) -> None:
    """Delete the weights of trials that are no longer among the best; those in use stay."""
    tracker = search.tracker
    unwanted = surplus(search.study, tracker, set())
    if unwanted and (unwanted := surplus(search.study, tracker, pinned(tracker.settings))):
        forget(search.study, tracker, unwanted)


def settle(search: Search) -> None:
    """Queue what was interrupted, end processes that lost their search, and mark it all so.

    UserError, and nothing is queued, where a trial is still being trained somewhere else.
    """
    for trial in study.running(search.study):
        lock = search.lock(trial.number)
        busy = f"trial {trial.number} is still being trained, elsewhere"
        wrest(lock, busy=busy, seconds=GRACE)  # its search died; it did not notice yet
    study.put_back(search.study)
    search.tracker.reconcile(study.states(search.study))


class Clock:
    """Hours of searching by the clock, over all of a study's interruptions."""

    def __init__(self, search: Search) -> None:
        """Go on from what the study has noted."""
        self.study = search.study
        self.before = float(self.study.user_attrs.get(study.SECONDS, 0.0))
        self.started = self.noted = time.monotonic()

    @property
    def hours(self) -> float:
        """So far."""
        return (self.before + time.monotonic() - self.started) / 3600

    def tick(self, *, now: bool = False) -> None:
        """Note the time, each minute or now."""
        if now or time.monotonic() - self.noted > 60:
            self.study.set_user_attr(study.SECONDS, self.hours * 3600)
            self.noted = time.monotonic()
