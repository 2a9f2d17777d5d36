"""The files that a user names: opened only where they are regular files of a sensible size.

A pipe would wait for somebody to write, a device has no end, and neither has a size. Each error is
an OSError with the file's name, as of a file that is missing.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**32  # bytes of a file that is read at once
TEXT_LIMIT = 2**26  # bytes of a text that a person writes: YAML, labels, lists of names
KINDS = {  # what may lie under a file's name
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check(file: Path) -> None:
    """OSError unless `file` can be read and is a regular file, for libraries that open it."""
    opened(file).close()


def opened(file: Path) -> BinaryIO:
    """The file, open for reading; OSError unless it is a regular file.

    A device may not even be opened, so its kind is looked at before; and again once it is open,
    without waiting, for what may have been put there in between.
    """
    refuse(file, file.stat().st_mode)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        refuse(file, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def refuse(file: Path, mode: int) -> None:
    """OSError unless the mode is that of a regular file."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", str(file))
    if kind != stat.S_IFREG:
        rule = f"Is {KINDS.get(kind, 'no file')}; a regular file is wanted"
        raise OSError(errno.EINVAL, rule, str(file))


def read(file: Path, limit: int = LIMIT) -> bytes:
    """All of a regular file; OSError beyond `limit` bytes.

    No more is read than the file says it has: those of /proc have no end, and say 0.
    """
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            rule = f"Has {size} bytes; at most {limit} are read"
            raise OSError(errno.EFBIG, rule, str(file))
        return stream.read(size)


def read_text(file: Path, encoding: str = "utf-8") -> str:
    """All of a text file, line ends as \\n; OSError as of `read`, UnicodeDecodeError as such."""
    text = read(file, TEXT_LIMIT).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_name(text: str) -> bool:
    """Whether a file could be called so: not with a NUL, or with half a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def reason(error: OSError) -> str:
    """What is wrong with a file, as the end of a sentence."""
    words = error.strerror or str(error)
    return f"{words[0].lower()}{words[1:]}"
