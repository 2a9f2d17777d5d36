"""A process that gets no further becomes the same program again."""

import subprocess
import sys
from pathlib import Path

HANGS_ONCE = """
import os, subprocess, sys, time
from pathlib import Path
from experiments.watchdog import Watchdog

note = Path("note")
if note.exists():
    print(os.getpid(), note.read_text(), sys.argv[1:])
    sys.exit(0)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
watchdog = Watchdog(0.5, lambda: note.write_text(f"{os.getpid()} {child.pid}"))
for _ in range(4):
    time.sleep(0.3)
    watchdog.hear()  # slow, but not hung
assert not note.exists()
time.sleep(600)
"""


def test_a_program_that_hangs_notes_it_and_begins_again_with_the_same_words(
    tmp_path: Path,
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS_ONCE)
    done = subprocess.run(
        [sys.executable, "hangs.py", "--study", "a b"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    process, same, child, words = done.stdout.split(maxsplit=3)
    assert process == same and words.strip() == "['--study', 'a b']"
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"  # its child was ended
