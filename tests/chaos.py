"""kill -9 at random moments: workers, the search, everything, the store. For tests and benchmarks."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from journey import command, tracker_of

from centernet.lock import holder
from centernet.train import train
from experiments import study
from experiments.reproduce import Comparison, recorded
from experiments.search import trial_folder
from experiments.settings import Settings


def torment(
    home: Path,
    words: tuple[object, ...],
    *,
    kinds: Sequence[str],
    seconds: tuple[float, float],
    seed: int,
    restart: Callable[[], None] | None = None,
) -> Counter[str]:
    """Search, and end one thing of each kind, each so many seconds after a further epoch.

    restart: takes the store away for a while, for the kind `store`.
    """
    chance, done, left = random.Random(seed), Counter[str](), list(kinds)  # noqa: S311
    log = home / "out.txt"
    while True:
        with (
            log.open("a") as out,
            subprocess.Popen(
                command("search", *words), cwd=home, stdout=out, stderr=out, start_new_session=True
            ) as search,
        ):
            seen = log.stat().st_size
            while search.poll() is None and left:
                time.sleep(0.05)
                if ": epoch " in log.read_text()[seen:]:
                    time.sleep(chance.uniform(*seconds))
                    seen = log.stat().st_size
                    if left[0] == "store" and restart is not None:
                        restart()
                        done[left.pop(0)] += 1
                    elif end(left[0], search.pid, home, chance):
                        done[left.pop(0)] += 1
            search.wait()
        if search.returncode == 0:
            assert not left, f"finished before {left}; give it more to do"
            return done
        assert search.returncode == -signal.SIGKILL, log.read_text()


def end(kind: str, search: int, home: Path, chance: random.Random) -> bool:
    """Kill (or hang) a worker, kill the search, or everything at once; whether there was one."""
    if not psutil.pid_exists(search):
        return False
    if kind in ("worker", "hang"):
        locks = sorted(home.glob("runs/trials/*/*.lock"))
        holders = [known.process for lock in locks if (known := holder(lock)) is not None]
        victims = [process for process in holders if process != search]
        victims = [chance.choice(victims)] if victims else []
    elif kind == "search":
        victims = [search]
    else:
        everything = [psutil.Process(search), *psutil.Process(search).children(True)]
        assert heard_by_others(everything) == []
        victims = [process.pid for process in everything]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGSTOP if kind == "hang" else signal.SIGKILL)
    return bool(victims)


def heard_by_others(processes: Sequence[psutil.Process]) -> list[str]:
    """Addresses on which they listen for other machines."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN and "127.0.0.1" not in one.laddr.ip:
                    found.append(f"{process.name()} {one.laddr.ip}:{one.laddr.port}")
    return found


def twins(own: Settings, name: str, scratch: Path) -> tuple[int, list[str]]:
    """Train every trial again, undisturbed: how many epochs were compared, and what differs."""
    ours, tracker = study.load_study(own, name), tracker_of(own, name)
    compared, differ = 0, []
    for trial in ours.get_trials():
        then = recorded(tracker, trial.number)
        for old, new in zip(
            then.epochs, train(then.config, scratch / str(trial.number)), strict=False
        ):
            compared += 1
            found = Comparison(old, new).differs
            differ += [f"trial {trial.number} epoch {new.number}: {found}"] if found else []
            if new.number == len(then.epochs):
                break
    return compared, differ


def leftovers(own: Settings, name: str) -> list[Path]:
    """What a finished study leaves in the folder of trials in progress."""
    folder = trial_folder(own, tracker_of(own, name))
    return sorted(folder.rglob("*")) if folder.exists() else []
