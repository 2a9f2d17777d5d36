"""A folder that goes with its process: at its end, or, if it was killed, when the next begins."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from centernet.lock import UNKNOWN, Holder, exclusive, holder, last_holder

MARK = ".holder"  # a lock in each folder, held for as long as its process lives


@contextmanager
def scratch_folder(prefix: str, parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for the block; those that killed processes left there are deleted.

    prefix: begins its name, and the names of what earlier processes made so.
    """
    for left in parent.glob(f"{prefix}*"):
        if abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with exclusive(folder / MARK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(folder: Path) -> bool:
    """Whether this user made a folder by `scratch_folder`, on this machine, in a dead process."""
    mark = folder / MARK
    try:
        mine = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
        if not mine or not mark.is_file():
            return False
        known = last_holder(mark)
        here = known != UNKNOWN and known.host == Holder.of(os.getpid()).host
        return here and holder(mark) is None
    except OSError:  # it went meanwhile
        return False
