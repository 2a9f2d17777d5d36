"""Every file of a data set by its content: what a training saw, and what lies there now."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from centernet.dataset import coco
from centernet.dataset.split import Split
from centernet.dataset.split import fingerprint as of_records
from centernet.errors import UserError

Manifest = dict[str, str]  # path below the data folder -> SHA-256


def manifest(folder: Path, splits: Iterable[Split]) -> Manifest:
    """The JSON and images of splits just read; the images' digests are known from reading."""
    images = (folder / "images").resolve()
    found = {}
    for split in splits:
        found[f"{split.name}.json"] = sha256(folder / f"{split.name}.json")
        for record in split.records:
            found[f"images/{record.file.relative_to(images)}"] = record.digest
    return found


def current(folder: Path, names: Iterable[str]) -> Manifest:
    """The same of the splits of these names as they lie there now; without what is missing."""
    images = (folder / "images").resolve()
    found = {}
    for name in names:
        file = folder / f"{name}.json"
        if not file.is_file():
            continue
        found[file.name] = sha256(file)
        for image in listed(file):
            path = (images / image).resolve()
            if path.is_relative_to(images) and path.is_file():
                found[f"images/{path.relative_to(images)}"] = sha256(path)
    return found


def fingerprint(folder: Path, name: str, then: Manifest) -> str | None:
    """Of a split as it lies there now, but for images that `then` knows; none if it is broken.

    So it says whether the truth of a split is what it was, whatever became of its images.
    """
    try:
        split = coco.inspect(folder, name)
    except UserError:
        return None
    images = (folder / "images").resolve()
    paths = [f"images/{record.file.relative_to(images)}" for record in split.records]
    records = [
        replace(record, digest=then.get(path, record.digest))
        for record, path in zip(split.records, paths, strict=True)
    ]
    return of_records(split.classes, records)


def listed(file: Path) -> list[str]:
    """The file names of a COCO file's images; none of a file that is not one."""
    try:
        tree: Any = json.loads(file.read_bytes())
        return [str(row["file_name"]) for row in tree["images"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def sha256(file: Path) -> str:
    """Digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
