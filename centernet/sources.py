"""What a person points at (files, folders, patterns) -> image and video files."""

import glob
from collections.abc import Sequence
from pathlib import Path

from centernet.dataset.source import PHOTOGRAPHS
from centernet.errors import UserError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


def is_video(file: Path) -> bool:
    """By its name."""
    return file.suffix.lower() in VIDEOS


def find(words: Sequence[str]) -> tuple[list[Path], list[UserError]]:
    """Files as given, folders as the images and videos in them, patterns as what matches them.

    In order, each file once; and why a word leads to none.
    """
    files: dict[Path, None] = {}
    missing = []
    for word in words:
        try:
            files |= dict.fromkeys(behind(word))
        except UserError as error:
            missing.append(error)
    return list(files), missing


def behind(word: str) -> list[Path]:
    """The files that one word names, `**` going into folders; UserError where there are none."""
    path = Path(word)
    if path.exists() and not path.is_dir():
        return [path]  # who opens it says what it is, if it is no file
    if path.is_dir():
        known = PHOTOGRAPHS + VIDEOS
        inside = sorted(f for f in path.iterdir() if f.suffix.lower() in known and f.is_file())
        if not inside:
            raise UserError(f"{path}: no image or video in this folder")
        return inside
    if not glob.has_magic(word):
        raise UserError(f"{path}: no such file or folder")
    names = glob.glob(word, recursive=True)  # noqa: PTH207  # Path.glob refuses absolute patterns
    matches = sorted(Path(name) for name in names)
    files = [match for match in matches if match.is_file()]
    if not files:
        raise UserError(f"{word}: no file has such a name")
    return files
