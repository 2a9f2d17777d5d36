"""What ends a program politely leaves nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import sys, time
from pathlib import Path
from centernet.interrupts import as_ctrl_c
from centernet.scratch import scratch_folder
as_ctrl_c()
with scratch_folder("s-", Path(sys.argv[1])):
    print("here", flush=True)
    try:
        time.sleep(float(sys.argv[2]))
    finally:
        time.sleep(0.5)  # where the second signal comes
"""


def start(folder: Path, seconds: float, *before: str) -> subprocess.Popen[str]:
    words = [*before, sys.executable, "-c", WORK, str(folder), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    return process


@pytest.mark.parametrize("kind", [signal.SIGHUP, signal.SIGTERM])
def test_a_program_whose_terminal_goes_or_that_is_ended_leaves_no_scratch_folder(
    tmp_path: Path, kind: signal.Signals
) -> None:
    with start(tmp_path, 60) as process:
        process.send_signal(kind)
        process.send_signal(signal.SIGHUP)  # a closed window sends it twice
        assert "KeyboardInterrupt" in process.communicate()[1]
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_heeded(tmp_path: Path) -> None:
    with start(tmp_path, 0.5, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 0
    assert list(tmp_path.iterdir()) == []
