"""Video files <-> RGB frames, by OpenCV."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read when the first video is opened
# a file that claims to be a playlist cannot make FFmpeg open a connection
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "protocol_whitelist;file"

import cv2
import numpy as np
from numpy.typing import NDArray

from centernet import files
from centernet.dataset.images import MOST_PIXELS
from centernet.errors import UserError

CODEC = "mp4v"  # MPEG-4, which OpenCV's wheels can write everywhere
USUAL_RATE = 25.0  # frames a second, where a file does not say
TICKS = 65535  # MPEG-4's most in a second, of which OpenCV takes the rate times 1, 10, 100 or 1000
SLOWEST = 0.002  # frames a second; less is 0 to OpenCV


@dataclass(frozen=True, slots=True)
class Video:
    """An open video: about how many frames it has (none: it does not say), and their rate."""

    file: Path
    capture: Any  # cv2.VideoCapture, which has no useful type
    count: int | None
    rate: float  # frames a second

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Each frame in order, RGB[H, W, 3], turned upright."""
        while True:
            whole, frame = self.capture.read()
            if not whole:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


def named(file: Path) -> str:
    """The name of a file for OpenCV; UserError if it is not UTF-8, which would crash it."""
    name = str(file.resolve())
    if name != name.encode(errors="replace").decode():
        raise UserError(f"{file}: OpenCV takes no video whose name or folder is not UTF-8")
    return name


@contextmanager
def opened(file: Path) -> Iterator[Video]:
    """A video to read; UserError if it is none."""
    try:
        with files.opened(file) as stream:
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise UserError(f"{file}: {files.reason(error)}") from None
    if not size:
        raise UserError(f"{file}: the video is empty")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(named(file), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError(f"{file}: not a video that can be read")
        W, H = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if W * H > MOST_PIXELS:
            rule = f"its frames have {W * H:.0f} pixels; at most {MOST_PIXELS} are read"
            raise UserError(f"{file}: {rule}")
        count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        usable = np.isfinite(rate) and 0 < rate <= 1000
        yield Video(
            file, capture, int(count) if count > 0 else None, float(rate) if usable else USUAL_RATE
        )
    finally:
        capture.release()


def writable(rate: float) -> float:
    """The frames a second nearest to `rate` that an .mp4 can state, with at most three decimals."""
    for digits in (3, 2, 1):
        if round(rate * 10**digits) <= TICKS:
            return max(round(rate, digits), SLOWEST)
    return float(min(round(rate), TICKS))


class Recorder:
    """An .mp4 of RGB frames, all of the first one's size; it is there whole or not at all."""

    def __init__(self, file: Path, *, rate: float) -> None:
        """Frames a second, as near to `rate` as can be; nothing is written before the first."""
        self.file, self.rate = file, writable(rate)
        self.writer: Any = None
        self.scratch: Path | None = None
        self.size = (0, 0)
        self.written = 0

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame[H, W, 3]; UserError if it cannot be encoded."""
        if self.writer is None:
            self._start(frame)
        fits = frame.shape[1::-1] == self.size
        whole = frame if fits else cv2.resize(frame, self.size)
        self.writer.write(cv2.cvtColor(whole, cv2.COLOR_RGB2BGR))
        self.written += 1

    def _start(self, frame: NDArray[np.uint8]) -> None:
        folder = self.file.parent
        named(self.file)
        descriptor, name = tempfile.mkstemp(prefix=f".{self.file.name}-", suffix=".mp4", dir=folder)
        os.close(descriptor)
        self.scratch, self.size = Path(name), frame.shape[1::-1]
        code = cv2.VideoWriter.fourcc(*CODEC)
        self.writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, self.rate, self.size)
        if not self.writer.isOpened():
            raise UserError(f"{self.file}: OpenCV cannot write this video")

    def __enter__(self) -> "Recorder":
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep the file, or what there is of it goes away; UserError if frames are missing."""
        if self.writer is not None:
            self.writer.release()
        if self.scratch is None:
            return
        try:
            if kind is None:
                self._check(self.scratch)
                self.scratch.chmod(0o644)
                self.scratch.replace(self.file)
        finally:
            self.scratch.unlink(missing_ok=True)

    def _check(self, scratch: Path) -> None:
        """OpenCV does not say that a disk is full, and a cut file may still claim every frame."""
        capture = cv2.VideoCapture(named(scratch), cv2.CAP_FFMPEG)
        kept = 0
        while capture.grab():
            kept += 1
        capture.release()
        if kept < self.written:
            lost = f"only {kept} of {self.written} frames could be written"
            raise UserError(f"{self.file}: {lost}; the disk is probably full")
