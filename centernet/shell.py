"""How a command is typed on this machine, so that a printed next step runs as it is printed."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def typed(program: str) -> str:
    """`centernet` where the shell finds the one that belongs to this Python, else its path."""
    beside = Path(sys.executable).parent / program
    found = shutil.which(program)
    if not beside.exists() or (found is not None and Path(found).samefile(beside)):
        return program
    return shlex.quote(
        os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
    )
