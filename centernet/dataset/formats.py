"""Which format a data folder is in: COCO, Pascal VOC or YOLO, by what lies in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from centernet.dataset import voc, yolo
from centernet.dataset.source import Source
from centernet.errors import UserError, one_line

SPLITS = ("train", "val", "test")


def is_coco(folder: Path) -> bool:
    """Whether one of the splits' JSON files lies there."""
    return any(has_coco(folder, name) for name in SPLITS)


def has_coco(folder: Path, name: str) -> bool:
    """Whether the folder has such a split."""
    return (folder / f"{name}.json").is_file()


def read_coco(folder: Path, name: str) -> Source:
    """`folder/name.json`; UserError for anything that is not three lists of objects."""
    file = folder / f"{name}.json"
    try:
        tree = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {one_line(str(error))}") from None
    for key in ("images", "annotations", "categories"):
        rows = tree.get(key) if isinstance(tree, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file}: not COCO: {key} is not a list of objects")
    return Source(file, folder / "images", tree, truth=(file,))


class Format(NamedTuple):
    """How a format is recognised and read."""

    is_one: Callable[[Path], bool]
    has: Callable[[Path, str], bool]  # a split of this name
    read: Callable[[Path, str], Source]


FORMATS = {  # the first that fits
    "COCO": Format(is_coco, has_coco, read_coco),
    "Pascal VOC": Format(voc.is_one, voc.has, voc.read),
    "YOLO": Format(yolo.is_one, yolo.has, yolo.read),
}


def detect(folder: Path) -> str:
    """The key of FORMATS that a folder is in; UserError if it is in none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such data folder")
    for name, one in FORMATS.items():
        if one.is_one(folder):
            return name
    raise UserError(
        f"{folder}: not a data folder: it has no train.json (COCO), no Annotations with "
        f"ImageSets/Main (Pascal VOC) and no {yolo.FILE} (YOLO)"
    )


def splits(folder: Path) -> list[str]:
    """The splits that a folder has; train and val always, so that a missing one is a defect."""
    has = FORMATS[detect(folder)].has
    return [name for name in SPLITS if name != "test" or has(folder, name)]


def read(folder: Path, name: str) -> Source:
    """A split's rows in whatever format; UserError where there is none."""
    return FORMATS[detect(folder)].read(folder, name)
