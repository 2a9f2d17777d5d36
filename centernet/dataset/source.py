"""A split as COCO's three lists, whatever format it is written in; nothing is checked here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centernet.dataset.split import Problem
from centernet.files import is_name

Rows = list[dict[str, Any]]
Links = Sequence[str]  # folders outside the data folder that symbolic links in it may lead to
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
    links: Links = ()

    def name(self, split: str) -> str:
        """What to call the list of a split's images."""
        return self.file.name if self.file.stem == split else f"{self.file.name} ({split})"

    def image(self, name: str) -> Path:
        """Where an image lies, whatever links below `root` lead to it; else the name of the link.

        ValueError for a place that is not allowed.
        """
        if not is_name(name):
            raise ValueError("the file_name can be no name of a file")
        root = self.root.resolve()
        named = Path(os.path.normpath(root / name))
        if not named.is_relative_to(root):
            raise ValueError("the file name leaves the image folder")
        file = (root / name).resolve()
        if not may_lead_to(file, root, self.links):
            raise ValueError(leads_out(file))
        return file if file.is_relative_to(root) else named

    def place(self, row: Mapping[str, Any]) -> str:
        """File and id of an image's or annotation's row, for people."""
        id, image = row.get("id"), row.get("image_id")
        if self.places:  # this format's reader gave the ids
            return self.places["annotation" if image else "image", int(row["id"])]
        if "image_id" in row or "bbox" in row:
            return f"{self.file}: annotation {id} of image {image}"
        return f"{self.file}: image {id} ({row.get('file_name')})"


def may_lead_to(target: Path, root: Path, links: Links) -> bool:
    """Whether a link below `root` may lead to `target`; both are without links."""
    return target.is_relative_to(root) or any(
        target.is_relative_to(Path(folder).expanduser().resolve()) for folder in links
    )


def leads_out(target: Path) -> str:
    """The rule that a link to `target` breaks, and how to allow it."""
    return (
        f"is a symlink to {target}, which is outside the data folder; to follow it, list a folder "
        "above that file in data.follow_links (--follow-links), or / for all"
    )


def number(word: str) -> float:
    """As people write them; Python would also read `1_0`."""
    if "_" in word:
        raise ValueError(f"{word} is not a number")
    return float(word)
