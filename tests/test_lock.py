"""Who holds a lock is told from every other process, and only that one is ever killed."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from centernet.errors import UserError
from centernet.lock import Holder, exclusive, holder, wrest
from centernet.scratch import scratch_folder


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of `tmp_path/lock`, and wrote itself into it."""
    file = tmp_path / "lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with subprocess.Popen(["sleep", "60"], pass_fds=[descriptor]) as process:
        os.close(descriptor)
        write(file, Holder.of(process.pid))
        yield process
        process.kill()


def write(file: Path, known: Holder) -> None:
    file.write_text(json.dumps(asdict(known)))


def test_the_very_process_that_holds_a_lock_is_killed_and_the_lock_is_free(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    wrest(tmp_path / "lock", busy="taken", seconds=20)
    assert sleeper.wait() == -signal.SIGKILL
    assert holder(tmp_path / "lock") is None


OTHERS = [
    {"host": "another"},
    {"boot": "00000000-0000-0000-0000-000000000000"},
    {"namespace": "pid:[1]"},
    {"started": "1"},
    {"boot": ""},
    {"namespace": ""},
    {"started": ""},
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_process_that_only_has_the_number_lives_and_the_holder_is_named(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], other: dict[str, str]
) -> None:
    known = replace(Holder.of(sleeper.pid), **other)
    write(tmp_path / "lock", known)
    named = f"taken (process {sleeper.pid} on {known.host} since {known.since})"
    with pytest.raises(UserError) as error:
        wrest(tmp_path / "lock", busy="taken", seconds=0.1)
    assert str(error.value) == named
    assert sleeper.poll() is None


@pytest.mark.parametrize(
    "text", ["", "12", "-1", "[]", "{}", "null", "[" * 4000, '{"process": 1e999}', "\0", "12 x"]
)
def test_whatever_a_locks_file_says_nobody_is_killed_for_it(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], text: str
) -> None:
    (tmp_path / "lock").write_text(text.replace("12", str(sleeper.pid)))
    with pytest.raises(UserError, match=r"^taken \(process unknown\)$"):
        wrest(tmp_path / "lock", busy="taken", seconds=0.1)
    assert sleeper.poll() is None


def test_a_lock_of_another_machine_that_comes_free_is_waited_for(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    write(tmp_path / "lock", replace(Holder.of(sleeper.pid), boot="another"))
    with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill {sleeper.pid}"]):
        wrest(tmp_path / "lock", busy="taken", seconds=20)
    assert sleeper.wait() == -signal.SIGTERM


def test_what_a_process_holds_itself_it_keeps(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        started = time.monotonic()
        wrest(tmp_path / "lock", busy="taken", seconds=20)
        assert time.monotonic() - started < 1
        assert holder(tmp_path / "lock") is not None


def test_a_scratch_folder_goes_with_its_block_and_those_of_the_dead_with_the_next(
    tmp_path: Path,
) -> None:
    kill = "import os, sys, pathlib\nfrom centernet.scratch import scratch_folder\n"
    kill += "with scratch_folder('s-', pathlib.Path(sys.argv[1])) as f:\n"
    kill += "    (f / 'file').write_text(''); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", kill, str(tmp_path)], check=False)
    (dead,) = tmp_path.glob("s-*")
    others = [tmp_path / "s-plain", tmp_path / "s-marked"]
    for folder in others:  # of somebody else, whatever is in it
        folder.mkdir()
    (others[1] / ".holder").write_text("12")
    link = tmp_path / "s-link"
    link.symlink_to(dead)
    with scratch_folder("s-", tmp_path) as first, scratch_folder("s-", tmp_path) as second:
        assert not dead.exists() and first.is_dir() and second.is_dir()
    assert set(tmp_path.iterdir()) == {*others, link}
