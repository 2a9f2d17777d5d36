"""Which format a data folder is in: COCO, Pascal VOC or YOLO, by what lies in it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from centernet.dataset import coco_folder, voc, yolo
from centernet.dataset.source import Links, Source
from centernet.dataset.split import SPLITS
from centernet.errors import UserError


class Format(NamedTuple):
    """How a format is recognised and read."""

    is_one: Callable[[Path], bool]
    has: Callable[[Path, str], bool]  # a split of this name
    read: Callable[[Path, str, Links], Source]
    images: str  # what may name the images of a split, for people


COCO_LISTS = "{0}.json, annotations/instances_{0}*.json or {0}/_annotations.coco.json"
FORMATS = {  # the first that fits
    "COCO": Format(coco_folder.is_one, coco_folder.has, coco_folder.read, COCO_LISTS),
    "Pascal VOC": Format(voc.is_one, voc.has, voc.read, "ImageSets/Main/{}.txt"),
    "YOLO": Format(yolo.is_one, yolo.has, yolo.read, f"{{}} in {yolo.FILE}"),
}
NEEDED = {
    "train": "; a training needs some",
    "val": "; a training needs some: move some of train there, with their objects",
}


def detect(folder: Path) -> str:
    """The key of FORMATS that a folder is in; UserError if it is in none."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file; the data folder is wanted that it lies in")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such data folder")
    for name, one in FORMATS.items():
        if one.is_one(folder):
            return name
    raise UserError(
        f"{folder}: not a data folder: it has no train.json, annotations/instances_train*.json or "
        "train/_annotations.coco.json (COCO), no Annotations with ImageSets/Main (Pascal VOC) and "
        f"no {yolo.FILE} (YOLO)"
    )


def splits(folder: Path) -> list[str]:
    """The splits that a folder has; train and val always, so that a missing one is a defect."""
    has = FORMATS[detect(folder)].has
    return [name for name in SPLITS if name != "test" or has(folder, name)]


def read(folder: Path, name: str, links: Links = ()) -> Source:
    """A split's rows in whatever format; UserError where there is none.

    links: folders outside `folder` that symbolic links in it may lead to.
    """
    found = FORMATS[detect(folder)]
    if not found.has(folder, name):
        rule = f"it has no {name} images ({found.images.format(name)}){NEEDED.get(name, '')}"
        raise UserError(f"{folder}: {rule}")
    return found.read(folder, name, links)
