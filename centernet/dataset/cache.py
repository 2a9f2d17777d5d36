"""Decoded images at network size: in each process's memory, or in one file that all share.

The shared file holds one split at one geometry; its name is a digest of all that decides the
pixels (the images' own digests, the geometry, the code and libraries that decode and resize):

    [ N marks of 8 bytes | padding to a page | image 0 | image 1 | ... ]    uint8 [N, H, W, 3]

An image is written first and marked after; its mark holds a checksum, which every process
compares the first time it reads the image. So what a kill, a crash or another writer left torn is
decoded again, and processes that write the same image at once write the same bytes. The file has
its whole room on the disk before it is seen: a disk that fills up later cannot harm a reader.
What cannot be had (no room, no right to write) is one note, and images are decoded each time.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from centernet import geometry
from centernet.dataset import depth, images
from centernet.dataset.split import Split

PAGE = 4096
MARKED = 1 << 32  # no checksum is 0 with it
RESERVE = 2**30  # bytes of the disk left free: for checkpoints
Image = NDArray[np.uint8]


class Cache(Protocol):
    """Decoded images by their index in a split."""

    def get(self, index: int) -> Image | None:
        """The image, if it is there; not to be written to."""

    def put(self, index: int, image: Image) -> None:
        """Keep an image, if there is room."""


class Memory:
    """In this process, the first that come, up to a limit."""

    def __init__(self, limit: int) -> None:
        """At most `limit` images."""
        self.limit = limit
        self.images: dict[int, Image] = {}

    def get(self, index: int) -> Image | None:
        """The image, if it is there."""
        return self.images.get(index)

    def put(self, index: int, image: Image) -> None:
        """Keep an image, if there is room."""
        if len(self.images) < self.limit:
            self.images[index] = image


class Shared:
    """In a file that every process maps; see the module's docstring."""

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        """Open a file that `create` made, for images[N, H, W, 3]."""
        self.file, self.shape = file, shape
        self._open()

    def _open(self) -> None:
        self.descriptor = os.open(self.file, os.O_RDWR)
        weakref.finalize(self, os.close, self.descriptor)
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)  # in use: not to be evicted
        os.utime(self.descriptor)
        count, start = self.shape[0], first_byte(self.shape[0])
        content = np.memmap(self.file, np.uint8, "r", shape=(start + int(np.prod(self.shape)),))
        self.marks = content[: count * 8].view("<u8")
        self.images = content[start:].reshape(self.shape)
        self.known = np.zeros(count, np.bool_)  # whose checksum was compared
        self.writes = True

    def get(self, index: int) -> Image | None:
        """The image, if it is there whole."""
        mark = int(self.marks[index])
        if not mark:
            return None
        image: Image = np.asarray(self.images[index])
        if not self.known[index]:
            if mark != MARKED | zlib.crc32(image.data):
                return None
            self.known[index] = True
        return image

    def put(self, index: int, image: Image) -> None:
        """Write the image, then mark it; a disk that refuses is not asked again."""
        if not self.writes:
            return
        content = np.ascontiguousarray(image)
        mark = (MARKED | zlib.crc32(content.data)).to_bytes(8, "little")
        try:
            start = first_byte(self.shape[0]) + index * content.nbytes
            write_at(self.descriptor, content.data.cast("B"), start)
            write_at(self.descriptor, memoryview(mark), index * 8)
        except OSError as error:
            self.writes = False
            note(f"{self.file}: {error.strerror}")

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to open it, where workers are not forked."""
        return {"file": self.file, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open it there."""
        self.file, self.shape = state["file"], state["shape"]
        self._open()


def open_cache(
    kind: str,
    split: Split,
    *,
    height: int,
    width: int,
    letterbox: bool,
    memory_mb: int,
    disk_mb: int,
) -> Cache:
    """The cache of a split's images at this geometry: `memory`, `disk` or `none`."""
    if kind != "disk" or not len(split):
        return Memory(memory_mb * 2**20 // (height * width * 3) if kind == "memory" else 0)
    name = f"{digest(split, height=height, width=width, letterbox=letterbox)}.images"
    shape = (len(split), height, width, 3)
    file = folder() / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with alone(file.parent):
            create(file, size=first_byte(len(split)) + int(np.prod(shape)), limit=disk_mb * 2**20)
            return Shared(file, shape)
    except OSError as error:
        note(f"{file.parent}: {error.strerror or error}")
        return Memory(0)


def folder() -> Path:
    """Where the shared files lie: $CENTERNET_CACHE, or runs/cache."""
    return Path(os.environ.get("CENTERNET_CACHE") or "runs/cache")


def digest(split: Split, *, height: int, width: int, letterbox: bool) -> str:
    """Of all that decides the pixels of a split's images at network size."""
    found = hashlib.sha256()
    for module in (geometry, images, depth):
        found.update(Path(str(module.__file__)).read_bytes())
    versions = PIL.__version__, cv2.__version__, cv2.getCPUFeaturesLine()
    found.update(repr((versions, height, width, letterbox)).encode())
    for record in split.records:
        found.update(repr((record.digest, record.height, record.width)).encode())
    return found.hexdigest()[:32]


def create(file: Path, *, size: int, limit: int) -> None:
    """Make an empty shared file, unless it is there whole; OSError where there is no room for it.

    To be called by one process at a time.
    """
    for torn in file.parent.glob(".new-*"):  # of a process that was killed just here
        torn.unlink()
    if file.exists():
        if file.stat().st_size == size:
            return
        file.unlink()  # somebody cut it; who has it open keeps it
    make_room(file.parent, size, limit)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    try:
        os.posix_fallocate(descriptor, 0, size)
        Path(name).rename(file)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def make_room(folder: Path, size: int, limit: int) -> None:
    """Evict files, the least recently opened first, but none that a process has open.

    Until all are within `limit` bytes and the disk keeps RESERVE free; OSError, and none is
    evicted, where that cannot be.
    """
    sizes = {file: file.stat().st_size for file in folder.glob("*.images")}
    evictable = [file for file in sorted(sizes, key=age) if not in_use(file)]
    used, free = sum(sizes.values()), shutil.disk_usage(folder).free
    chosen: list[Path] = []
    while used + size > limit or size + RESERVE > free:
        if len(chosen) == len(evictable):
            raise OSError(
                f"needs {-(-size // 2**20)} MiB; {used // 2**20} of {limit // 2**20} MiB "
                f"(data.cache_disk_mb) are in use, {free // 2**20} MiB of the disk would be free"
            )
        chosen.append(evictable[len(chosen)])
        used, free = used - sizes[chosen[-1]], free + sizes[chosen[-1]]
    for file in chosen:
        file.unlink()


def age(file: Path) -> float:
    """When a file was last opened by a process that uses it."""
    return file.stat().st_mtime


def in_use(file: Path) -> bool:
    """Whether a process has a shared file open."""
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time; the system lets go where one dies."""
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def first_byte(count: int) -> int:
    """Where the first of so many images begins."""
    return -(-count * 8 // PAGE) * PAGE


def write_at(descriptor: int, content: memoryview, start: int) -> None:
    """All of it, at a place of a file."""
    while content:
        done = os.pwrite(descriptor, content, start)
        content, start = content[done:], start + done


def note(text: str) -> None:
    """Say once in a process that images are not cached."""
    if not _noted:
        logging.getLogger(__name__).warning("decoded images are not cached: %s", text)
        _noted.add(text)


_noted: set[str] = set()
