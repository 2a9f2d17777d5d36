"""YOLO folders -> COCO's lists.

    data.yaml: names, train, val, test (an image folder, a .txt list of images, or several)
    .../images/x.jpg  ->  .../labels/x.txt: a line `class cx cy w h` for each object

Numbers are fractions of the upright image, 0 to 1; rounding beyond that is clipped. A line may
also be a polygon, or have keypoints behind its box (`yolo_labels`). An image without a label file
has no objects. Paths start at data.yaml's folder, or at its `path` where that leads inside
it; some exports write `../train/images` for `train/images`, which is read as that. Nothing outside
the folder is read.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from centernet import files, yaml_text
from centernet.dataset import images, yolo_labels
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
from centernet.errors import UserError
from centernet.wording import brief

FILE = "data.yaml"


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


class _Line(NamedTuple):
    """A line of a label that is not empty: where it stands, and of which image it is."""

    place: str
    image: int
    size: tuple[int, int]  # W, H
    text: str


@dataclass(slots=True)
class _Reading:
    """The lists of one split, while they are read."""

    images: Rows = field(default_factory=list)
    annotations: Rows = field(default_factory=list)
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)


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
            _lines(label, id, (W, H), found)
    keypoints = keypoint_numbers(tree, file)
    layout = yolo_labels.layout((line.text for line in found.lines), keypoints=keypoints)
    _objects(layout, len(names), found)
    categories: Rows = [{"id": id, "name": one} for id, one in enumerate(names)]
    rows = {"images": found.images, "annotations": found.annotations, "categories": categories}
    truth = (file, *(folder / label.relative_to(root) for label in found.labels))
    return Source(file, folder, rows, found.places, tuple(found.problems), truth, links)


def read_file(file: Path) -> dict[str, Any]:
    """The mapping in a data.yaml, with its names as they are typed; UserError for anything else."""
    try:
        text = files.read_text(file)
        tree, typed = yaml_text.parse(text), yaml_text.as_typed(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{file}: {reason}") from None
    except yaml_text.ERRORS as error:
        line, reason = yaml_text.fault(error)
        where = f": line {line}" if line else ""
        raise UserError(f"{file}{where}: not YAML: {reason}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: not YOLO's: expected names, train and val")
    return tree | {"names": typed.get("names")}


def class_names(tree: dict[str, Any], file: Path) -> list[str]:
    """Names in the order of their numbers: a list, or a mapping of all numbers from 0."""
    names = tree.get("names")
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        names = [names[number] for number in numbers] if set(names) == set(numbers) else None
    if not isinstance(names, list) or not names:
        raise UserError(f"{file}: names: needs a list, or a mapping of the numbers from 0 to names")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{file}: names: class {number} is {name!r}, not text; quote it")
    return names


def keypoint_numbers(tree: dict[str, Any], file: Path) -> int:
    """How many numbers the keypoints of an object have; 0 without kpt_shape."""
    shape = tree.get("kpt_shape")
    if shape is None:
        return 0
    whole = isinstance(shape, list) and [type(one) for one in shape] == [int, int]
    if not whole or shape[0] < 1 or shape[1] not in (2, 3):
        raise UserError(
            f"{file}: kpt_shape: needs a number of keypoints and 2 or 3 numbers each, got {shape!r}"
        )
    return int(shape[0] * shape[1])


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
    if not files.is_name(entry):
        return None
    root = folder.resolve()
    start = base or root
    plain = entry.replace("\\", "/")
    shortened = plain
    while shortened.startswith(("../", "./")):
        shortened = shortened.partition("/")[2]
    candidates = [start / plain, start / shortened, root / plain, root / shortened]
    if isinstance(path, str) and files.is_name(path):
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
    if not files.is_name(entry):
        return f"{brief(entry)} can be no name of a file"
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


def _lines(file: Path, image: int, size: tuple[int, int], found: _Reading) -> None:
    """Add the lines of an image's label."""
    try:
        lines = files.read_text(file, "utf-8-sig").splitlines()
    except OSError as error:
        found.problems.append(
            Problem(str(file), f"the label cannot be read: {files.reason(error)}")
        )
        return
    except UnicodeDecodeError:
        found.problems.append(Problem(str(file), "not a readable text file"))
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.lines.append(_Line(f"{file}: line {number}", image, size, line))


def _objects(layout: yolo_labels.Layout, classes: int, found: _Reading) -> None:
    """Add the rows of all objects, and one note on the lines that say more than a box."""
    noted = []
    for place, image, (W, H), text in found.lines:
        try:
            label, box = yolo_labels.row(text, classes=classes, layout=layout)
        except ValueError as error:
            found.problems.append(Problem(place, str(error)))
            continue
        if len(text.split()) > 5:
            noted.append(place)
        id = len(found.annotations) + 1
        found.places["annotation", id] = place
        bbox = [box[0] * W, box[1] * H, (box[2] - box[0]) * W, (box[3] - box[1]) * H]
        found.annotations.append(
            {"id": id, "image_id": image, "category_id": label, "bbox": bbox, "iscrowd": 0}
        )
    if noted and layout.note:
        more = f"; so in {len(noted)} lines" if len(noted) > 1 else ""
        found.problems.append(Problem(noted[0], layout.note + more, fatal=False, note=True))
