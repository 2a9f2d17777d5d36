"""A split as COCO's three lists, whatever format it is written in; nothing is checked here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centernet.dataset.split import Problem

Rows = list[dict[str, Any]]
PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
UNKNOWN = (1, 1)  # H, W of an image that cannot be read; `coco.inspect` will say so


@dataclass(frozen=True, slots=True)
class Source:
    """What a format's reader finds: rows for `coco.inspect` to check, and where each is written."""

    file: Path  # that names the images
    root: Path  # where their file names start
    tree: Mapping[str, Any]  # images, annotations, categories
    places: Mapping[tuple[str, int], str] = field(default_factory=dict)  # of rows not in `file`
    problems: tuple[Problem, ...] = ()  # defects of what became no row
    truth: tuple[Path, ...] = ()  # every file that was read, but for the images

    def name(self, split: str) -> str:
        """What to call the list of a split's images."""
        return self.file.name if self.file.stem == split else f"{self.file.name} ({split})"

    def place(self, row: Mapping[str, Any]) -> str:
        """File and id of an image's or annotation's row, for people."""
        id, image = row.get("id"), row.get("image_id")
        if self.places:  # this format's reader gave the ids
            return self.places["annotation" if image else "image", int(row["id"])]
        if "image_id" in row or "bbox" in row:
            return f"{self.file}: annotation {id} of image {image}"
        return f"{self.file}: image {id} ({row.get('file_name')})"


def number(word: str) -> float:
    """As people write them; Python would also read `1_0`."""
    if "_" in word:
        raise ValueError(f"{word} is not a number")
    return float(word)
