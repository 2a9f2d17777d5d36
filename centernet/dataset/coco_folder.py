"""COCO folders: where each of its usual layouts keeps a split's JSON, and the images it names.

folder/train.json                             images/               this program's own
folder/annotations/instances_train2017.json   train2017/, images/   cocodataset.org
folder/train/_annotations.coco.json           train/                Roboflow
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centernet.dataset.source import Links, Source
from centernet.dataset.split import SPLITS
from centernet.errors import UserError
from centernet.files import is_name, reason
from centernet.files import read as read_file
from centernet.wording import brief

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
        tree = parse(read_file(file))
    except OSError as error:
        raise UserError(f"{file}: {reason(error)}") from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        rows = tree.get(key) if isinstance(tree, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file}: not COCO: {key} is not a list of objects")
    return Source(file, images(folder, file, tree), tree, truth=(file,), links=links)


def parse(content: bytes) -> Any:
    """The value of a JSON text in which no key is given twice; ValueError says what is wrong."""
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Twice as error:
        raise ValueError(str(error)) from None
    except ValueError:  # Python's, about its own limit
        raise ValueError("a number in it has too many digits") from None


class Twice(ValueError):
    """A key that one object has twice."""


def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Twice where a key is repeated, of which Python would keep the last."""
    tree = dict(pairs)
    if len(tree) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise Twice(f"{brief(twice)} is given twice in one object")
    return tree


def images(folder: Path, file: Path, tree: Mapping[str, Any]) -> Path:
    """The first of the usual folders that has the first image."""
    if file.parent == folder:
        return folder / "images"
    if not file.stem.startswith(INSTANCES):
        return file.parent
    split = file.stem.removeprefix(INSTANCES)
    usual = [folder / "images" / split, folder / split, folder / "images"]
    first = str(next((row["file_name"] for row in tree["images"] if "file_name" in row), ""))
    there = [one for one in usual if is_name(first) and (one / first).is_file()]
    return there[0] if there else usual[1]
