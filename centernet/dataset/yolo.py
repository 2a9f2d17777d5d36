"""YOLO folders -> COCO's lists.

    data.yaml: names, train, val, test (an image folder, a .txt list of images, or several)
    .../images/x.jpg  ->  .../labels/x.txt: a line `class cx cy w h` for each object

Numbers are fractions of the upright image, 0 to 1; rounding beyond that is clipped. A line of
`class x1 y1 x2 y2 x3 y3 ...` is a polygon, read as the box around it. An image without a label
file has no objects. Paths start at data.yaml's folder, or at its `path` where that leads inside
it; some exports write `../train/images` for `train/images`, which is read as that. Nothing outside
the folder is read.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from centernet import files
from centernet.dataset import images
from centernet.dataset.source import (
    PHOTOGRAPHS,
    UNKNOWN,
    Links,
    Rows,
    Source,
    leads_out,
    may_lead_to,
)
from centernet.dataset.split import Problem
from centernet.errors import UserError, one_line

FILE = "data.yaml"
TOLERANCE = 0.01  # beyond 0...1: rounding; more is a mistake


def is_one(folder: Path) -> bool:
    """Whether the folder has a data.yaml."""
    return (folder / FILE).exists()


def has(folder: Path, name: str) -> bool:
    """Whether the folder has such a split.

    Every export of Roboflow names ../test/images: where there are none, it has no test split. Any
    other name that leads nowhere is a mistake, which `read` tells.
    """
    tree = read_file(folder / FILE)
    entries = tree.get(name)
    if name == "test" and entries == "../test/images":
        return inside(folder, entries, tree.get("path")) is not None
    return bool(entries)


@dataclass(slots=True)
class _Reading:
    """The lists of one split, while they are read."""

    images: Rows = field(default_factory=list)
    annotations: Rows = field(default_factory=list)
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)


def read(folder: Path, name: str, links: Links = ()) -> Source:
    """A split's rows; UserError for a data.yaml that does not say where it is."""
    file = folder / FILE
    tree = read_file(file)
    names = class_names(tree, file)
    found = _Reading()
    root = folder.resolve()
    for id, image in enumerate(image_files(folder, tree, name, links), 1):
        relative = image.relative_to(root).as_posix()
        label = labels(root, image)
        found.places["image", id] = f"{file}: image {id} ({relative})"
        H, W = images.size(image) or UNKNOWN
        found.images.append({"id": id, "file_name": relative, "width": W, "height": H})
        if os.path.lexists(label):  # a link that leads nowhere is no image without objects
            found.labels.append(label)
            _objects(label, root, id, (W, H), len(names), found)
    categories: Rows = [{"id": id, "name": one} for id, one in enumerate(names)]
    rows = {"images": found.images, "annotations": found.annotations, "categories": categories}
    truth = (file, *(folder / label.relative_to(root) for label in found.labels))
    return Source(file, folder, rows, found.places, tuple(found.problems), truth, links)


def read_file(file: Path) -> dict[str, Any]:
    """The mapping in a data.yaml, read by a safe loader; UserError for anything else."""
    try:
        tree = yaml.safe_load(files.read_text(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{file}: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not YAML: {one_line(str(error))}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: not YOLO's: expected names, train and val")
    return tree


def class_names(tree: dict[str, Any], file: Path) -> list[str]:
    """Names in the order of their numbers: a list, or a mapping of all numbers from 0."""
    names = tree.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{file}: names: needs a list, or a mapping of the numbers from 0 to names")
    return [str(name) for name in names]


def image_files(folder: Path, tree: dict[str, Any], name: str, links: Links = ()) -> list[Path]:
    """The images of a split, sorted, each once; UserError for an entry that leads nowhere."""
    entries = tree.get(name)
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
        raise UserError(f"{folder / FILE}: {name}: needs an image folder or a .txt list of images")
    found: set[Path] = set()
    for entry in entries:
        place = inside(folder, entry, tree.get("path"), links=links)
        if place is None:
            raise UserError(f"{folder / FILE}: {name}: {lacks(folder, entry)}")
        read = _listed if place.suffix == ".txt" else _below
        found |= set(read(folder, place, links))
    return sorted(found)


def inside(
    folder: Path,
    entry: str,
    path: object = None,
    base: Path | None = None,
    links: Links = (),
) -> Path | None:
    """The file or folder that an entry names, links as such, if it lies in the data folder."""
    root = folder.resolve()
    start = base or root
    plain = entry.replace("\\", "/")
    shortened = plain
    while shortened.startswith(("../", "./")):
        shortened = shortened.partition("/")[2]
    candidates = [start / plain, start / shortened, root / plain, root / shortened]
    if isinstance(path, str):
        candidates.insert(0, root / path / plain)
    for one in candidates:
        resolved, named = one.resolve(), Path(os.path.normpath(one))
        if not may_lead_to(resolved, root, links) or not resolved.exists():
            continue
        if named.is_relative_to(root) and named.resolve() == resolved:
            return named
        if resolved.is_relative_to(root):
            return resolved
    return None


def lacks(folder: Path, entry: str) -> str:
    """Why `inside` finds nothing under a name."""
    target = (folder / entry).resolve()
    named = Path(os.path.normpath(folder.resolve() / entry))
    if named.is_relative_to(folder.resolve()) and target.exists():
        return f"{entry} {leads_out(target)}"
    return f"there is no {entry} in the data folder"


def _below(folder: Path, place: Path, links: Links) -> Iterator[Path]:
    """Every image in a folder, at any depth."""
    for file in place.rglob("*"):
        if file.suffix.lower() in PHOTOGRAPHS and not file.is_dir():
            yield _within(folder, file, links)


def _listed(folder: Path, file: Path, links: Links) -> Iterator[Path]:
    """Every image that a list names."""
    try:
        lines = files.read_text(file, "utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{file}: {files.reason(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a readable text file") from None
    seen: set[Path] = set()  # a link and what it leads to are one image
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        image = inside(folder, line, base=file.parent, links=links)
        image = image or inside(folder, line, base=file.resolve().parent, links=links)
        if image is None:
            raise UserError(f"{file}: line {number}: {lacks(folder, line)}")
        if image.resolve() not in seen:
            seen.add(image.resolve())
            yield image


def _within(folder: Path, file: Path, links: Links) -> Path:
    """The file by this name, which leads to its labels; UserError for a link out of the folder."""
    if not may_lead_to(file.resolve(), folder.resolve(), links):
        raise UserError(f"{file}: {leads_out(file.resolve())}")
    return file


def labels(root: Path, image: Path) -> Path:
    """The label file of an image, which need not be there; a link's may be those of its target."""
    label, target = root / label_file(image.relative_to(root)), image.resolve()
    if os.path.lexists(label) or not target.is_relative_to(root):
        return label
    targets = root / label_file(target.relative_to(root))
    return targets if targets.exists() else label


def label_file(image: Path) -> Path:
    """`labels/x.txt` beside the last `images/` of a path in the data folder, else beside it."""
    parts = list(image.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def _objects(
    file: Path, root: Path, image: int, size: tuple[int, int], classes: int, found: _Reading
) -> None:
    """Add the rows of an image's objects."""
    try:
        lines = files.read_text(file, "utf-8-sig").splitlines()
    except OSError as error:
        found.problems.append(Problem(str(file), f"the label {files.reason(error)}"))
        return
    except UnicodeDecodeError:
        found.problems.append(Problem(str(file), "not a readable text file"))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{file}: line {number}"
        try:
            label, box = row(line, classes=classes)
        except ValueError as error:
            found.problems.append(Problem(place, str(error)))
            continue
        id = len(found.annotations) + 1
        W, H = size
        found.places["annotation", id] = place
        bbox = [box[0] * W, box[1] * H, (box[2] - box[0]) * W, (box[3] - box[1]) * H]
        found.annotations.append(
            {"id": id, "image_id": image, "category_id": label, "bbox": bbox, "iscrowd": 0}
        )


def row(line: str, *, classes: int) -> tuple[int, tuple[float, float, float, float]]:
    """Class and xyxy box in fractions of a label's line; ValueError names the rule it breaks."""
    first, *rest = line.split()
    try:
        label, numbers = float(first), [float(word) for word in rest]
    except ValueError:
        raise ValueError("needs numbers: class cx cy w h, or class and a polygon") from None
    if label not in range(classes):
        raise ValueError(f"unknown class {first}, names has 0 to {classes - 1}")
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise ValueError(
            f"needs class cx cy w h, or class and a polygon, got {len(rest) + 1} words"
        )
    if not all(math.isfinite(n) and -TOLERANCE <= n <= 1 + TOLERANCE for n in numbers):
        raise ValueError("a number outside 0...1: boxes are fractions of their image")
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        return int(label), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    x, y = numbers[::2], numbers[1::2]
    return int(label), (min(x), min(y), max(x), max(y))
