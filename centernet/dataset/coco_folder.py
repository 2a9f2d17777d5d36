"""COCO folders: where each of its usual layouts keeps a split's JSON, and the images it names.

folder/train.json                             images/               this program's own
folder/annotations/instances_train2017.json   train2017/, images/   cocodataset.org
folder/train/_annotations.coco.json           train/                Roboflow
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centernet.dataset.source import Links, Source
from centernet.dataset.split import SPLITS
from centernet.errors import UserError, one_line
from centernet.files import read as read_file
from centernet.files import reason

INSTANCES = "instances_"


def is_one(folder: Path) -> bool:
    """Whether the JSON file of a split lies there."""
    return any(has(folder, name) for name in SPLITS)


def has(folder: Path, name: str) -> bool:
    """Whether the folder has such a split."""
    return bool(files(folder, name))


def files(folder: Path, name: str) -> list[Path]:
    """The JSON files that may be a split's; all but one are a mistake."""
    known = folder / f"{name}.json"
    if known.exists():
        return [known]
    official = sorted((folder / "annotations").glob(f"{INSTANCES}{name}*.json"))
    if official:
        return official
    exported = [folder / one / "_annotations.coco.json" for one in aliases(name)]
    return [file for file in exported if file.exists()]


def aliases(name: str) -> tuple[str, ...]:
    """What a split is called."""
    return ("val", "valid") if name == "val" else (name,)


def read(folder: Path, name: str, links: Links = ()) -> Source:
    """The lists of a split that is there; UserError for what is not three lists of objects."""
    found = files(folder, name)
    if len(found) > 1:
        both = " and ".join(str(file.relative_to(folder)) for file in found)
        raise UserError(f"{folder}: two files for {name}: {both}; leave one")
    file = found[0]
    try:
        tree = json.loads(read_file(file))
    except OSError as error:
        raise UserError(f"{file}: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {one_line(str(error))}") from None
    for key in ("images", "annotations", "categories"):
        rows = tree.get(key) if isinstance(tree, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file}: not COCO: {key} is not a list of objects")
    return Source(file, images(folder, file, tree), tree, truth=(file,), links=links)


def images(folder: Path, file: Path, tree: Mapping[str, Any]) -> Path:
    """The first of the usual folders that has the first image."""
    if file.parent == folder:
        return folder / "images"
    if not file.stem.startswith(INSTANCES):
        return file.parent
    split = file.stem.removeprefix(INSTANCES)
    usual = [folder / "images" / split, folder / split, folder / "images"]
    first = next((row["file_name"] for row in tree["images"] if "file_name" in row), "")
    return next((one for one in usual if (one / str(first)).is_file()), usual[1])
