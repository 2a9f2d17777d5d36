"""A data set on disk: read once, validated once by COCO's rules, named by its content."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centernet import files
from centernet.dataset import formats, images
from centernet.dataset.source import Links, Source
from centernet.dataset.split import Problem, Record, Split, check_disjoint, fingerprint, refuse
from centernet.errors import UserError

HUGE = 1e9  # pixels; beyond, a number is a mistake
NAMED = 8  # classes without objects that are named; all are counted
CLIP_TOLERANCE = 1.0  # pixels by which a box may leave its image unnoticed: rounding


@dataclass(slots=True)
class _Truth:
    """Annotations of one image, while they are read."""

    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)


def read(folder: Path, name: str, links: Links = ()) -> Split:
    """Read and validate a split with its images; UserError for a fatal defect.

    links: folders outside `folder` that symbolic links in it may lead to.
    """
    split = inspect(folder, name, links)
    refuse(list(split.problems))
    return split


def read_training(folder: Path, links: Links = ()) -> tuple[Split, Split]:
    """The train and val splits; UserError where one has a fatal defect, or they share an image."""
    splits = read(folder, "train", links), read(folder, "val", links)
    refuse(list(check_disjoint(list(splits))))
    return splits


def inspect(folder: Path, name: str, links: Links = ()) -> Split:
    """Read a split of a folder in any of FORMATS, with its images, collecting every defect."""
    return check(formats.read(folder, name, links), name)


def check(source: Source, name: str) -> Split:
    """The split of these rows and their images, with every defect of them."""
    problems = list(source.problems)
    categories = _categories(source)
    rows = _images(source, problems)
    truths = _annotations(source, rows, list(categories), problems)
    records: list[Record] = []
    spellings: dict[Path, str] = {}  # of file names, by where they lead
    for id, row in rows.items():
        try:
            path, content, orientation = _image_file(source, row)
            if (known := spellings.setdefault(path, row["file_name"])) is not row["file_name"]:
                raise ValueError(f"the image is given twice, also as {known}")
            digest = hashlib.sha256(content).hexdigest()
            records.append(_record(row, path, digest, truths[id]))
            if orientation > 1 and truths[id].boxes:
                rule = TURNED.format(orientation)
                problems.append(Problem(source.place(row), rule, fatal=False, note=True))
            if images.is_stack(content):
                problems.append(Problem(source.place(row), images.STACK, fatal=False, note=True))
        except (ValueError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            problems.append(Problem(source.place(row), str(error)))
    if not any((~record.crowd).any() for record in records):
        rule = "the split is empty: " + ("no usable box" if records else "no usable image")
        problems.append(Problem(str(source.file), rule))
    names = tuple(categories.values())
    if name == "train":
        problems += _unlearnt(source, names, records)
    return Split(
        name,
        names,
        tuple(categories),
        tuple(records),
        tuple(problems),
        fingerprint(names, records),
        source.name(name),
    )


def _categories(source: Source) -> dict[int, str]:
    """Names by category id, in the order of the ids."""
    tree, file = source.tree, source.file
    rows = [(row.get("id"), row.get("name")) for row in tree["categories"]]
    if not rows:
        raise UserError(f"{file}: not COCO: it has no categories")
    if not all(_is_int(id) and isinstance(name, str) and name for id, name in rows):
        raise UserError(f"{file}: not COCO: a category needs a whole id and a name")
    for values in zip(*rows, strict=True):
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise UserError(f"{file}: category {value} is given twice")
    return dict(sorted(rows))


def _images(source: Source, problems: list[Problem]) -> dict[int, dict[str, Any]]:
    """Well-formed image rows by id."""
    rows: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    for row in source.tree["images"]:
        id, name = row.get("id"), row.get("file_name")
        place = source.place(row)
        whole = all(_is_int(row.get(key)) for key in ("id", "width", "height"))
        if not whole or not isinstance(name, str) or min(row["width"], row["height"]) < 1:
            rule = "needs a whole id, a file_name, and a whole width and height above 0"
            problems.append(Problem(place, rule))
        elif id in rows or name in names:
            problems.append(Problem(place, "the image is given twice"))
        else:
            rows[id] = row
            names.add(name)
    return rows


def _annotations(
    source: Source,
    rows: dict[int, dict[str, Any]],
    category_ids: list[int],
    problems: list[Problem],
) -> dict[int, _Truth]:
    """Usable annotations by image id; what is wrong with the others goes to `problems`."""
    truths = {id: _Truth() for id in rows}
    known = {row.get("id") for row in source.tree["images"] if _is_int(row.get("id"))}
    ids: set[int] = set()
    seen: set[tuple[Any, ...]] = set()  # all that annotations say
    for row in source.tree["annotations"]:
        said = _said(row)
        problem = _defect(row, rows, category_ids, known, ids, said in seen)
        seen.add(said)
        if problem:
            problems.append(Problem(source.place(row), *problem))
        if _is_int(row.get("id")):
            ids.add(row["id"])
        if (problem and problem not in USED) or row["image_id"] not in rows:
            continue
        _, clipped = _corners(row["bbox"], rows[row["image_id"]])
        truth, area = truths[row["image_id"]], row.get("area")
        given = isinstance(area, int | float) and 0 < area < HUGE
        truth.boxes.append(clipped)
        truth.labels.append(category_ids.index(row["category_id"]))
        truth.areas.append(float(area) if given else float((clipped[2:] - clipped[:2]).prod()))
        truth.crowd.append(bool(row.get("iscrowd")))
    return truths


def _unlearnt(source: Source, names: tuple[str, ...], records: list[Record]) -> Iterator[Problem]:
    """A note on each class that is named in train, and has no object there to learn from."""
    objects = {names[label] for record in records for label in record.labels[~record.crowd]}
    crowds = {names[label] for record in records for label in record.labels[record.crowd]}
    for why, absent in (
        ("only crowds (or difficult objects)", [n for n in names if n in crowds - objects]),
        ("no box", [n for n in names if n not in crowds | objects]),
    ):
        if absent and objects:
            some = ", ".join(absent[:NAMED]) + (" ..." if len(absent) > NAMED else "")
            many = f"{len(absent)} of {len(names)} classes" if len(absent) > 1 else "a class"
            rule = f"{many} with {why} in train, which cannot be learnt: {some}"
            yield Problem(str(source.file), rule, fatal=False, note=True)


TURNED = "EXIF orientation {}: its boxes are taken to be those of the upright picture"
CLIPPED = ("a box partly outside its image, clipped", False)
SHARED = ("the annotation id is given twice, for different objects; both are used", False)
USED = (CLIPPED, SHARED)  # although something is wrong with them


def _said(row: dict[str, Any]) -> tuple[Any, ...]:
    """Id, image, category and box, as a set can hold them."""
    box: Any = row.get("bbox")
    names = (repr(row.get(key)) for key in ("id", "image_id", "category_id"))
    return *names, tuple(box) if _is_box(box) else repr(box)


def _defect(
    row: dict[str, Any],
    rows: dict[int, dict[str, Any]],
    category_ids: list[int],
    known: set[int],
    ids: set[int],
    twice: bool,
) -> tuple[str, bool] | None:
    """The rule that an annotation breaks, and whether that is fatal."""
    id, image, box = (row.get(key) for key in ("id", "image_id", "bbox"))
    if not (_is_int(id) and _is_int(image)):
        return "needs a whole id and image_id", True
    if twice:
        return "the annotation is given twice, the first is used", False
    if image not in known:
        return "its image is not in the file", True
    if row.get("category_id") not in category_ids or isinstance(row["category_id"], bool):
        return f"unknown category {row.get('category_id')!r}", True
    if box is None or not _is_box(box):
        return "bbox is not four finite numbers x, y, width, height", True
    if row.get("iscrowd") not in (None, 0, 1):
        return f"iscrowd is {row['iscrowd']!r}, not 0 or 1", True
    if image not in rows:
        return None
    return _box_defect(box, rows[image]) or (SHARED if id in ids else None)


def _box_defect(box: list[float], image: dict[str, Any]) -> tuple[str, bool] | None:
    """What is wrong with four numbers in an image, and that it is not fatal."""
    raw, clipped = _corners(box, image)
    as_stored = raw.astype(np.float32)
    if (as_stored[2:] <= as_stored[:2]).any():
        return "a box without area, skipped", False
    if (clipped.astype(np.float32)[2:] <= clipped.astype(np.float32)[:2]).any():
        return "a box outside its image, skipped", False
    return CLIPPED if np.abs(raw - clipped).max() > CLIP_TOLERANCE else None


def _corners(box: list[float], row: dict[str, Any]) -> tuple[NDArray[np.float64], ...]:
    """xyxy corners of an xywh box: as given, and clipped to its image."""
    x, y, w, h = box
    raw = np.array((x, y, x + w, y + h), np.float64)
    return raw, raw.clip(0, (row["width"], row["height"]) * 2)


def _image_file(source: Source, row: dict[str, Any]) -> tuple[Path, bytes, int]:
    """Path and content of an image that may be read, whole, and of the size stated.

    And its EXIF orientation, 1 where the stated size says whether its boxes are of it upright.
    """
    path = source.image(row["file_name"])
    try:
        content = files.read(path)
    except FileNotFoundError as error:
        raise ValueError(f"the image is missing: {error.strerror}") from None
    except OSError as error:
        raise ValueError(f"the image cannot be read: {files.reason(error)}") from None
    try:
        sizes = images.sizes(content)
    except images.BROKEN as error:
        raise ValueError(images.fault(error)) from None
    if (row["height"], row["width"]) not in sizes:
        H, W = min(sizes)
        kind = "XML" if source.places else "JSON"
        raise ValueError(f"is {W}x{H}, the {kind} says {row['width']}x{row['height']}")
    return path, content, images.undecided(content)


def _record(row: dict[str, Any], path: Path, digest: str, truth: _Truth) -> Record:
    return Record(
        row["id"],
        path,
        row["height"],
        row["width"],
        digest,
        np.array(truth.boxes, np.float32).reshape(-1, 4),
        np.array(truth.labels, np.int64),
        np.array(truth.areas, np.float64),
        np.array(truth.crowd, np.bool_),
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    """Four finite numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all((_is_int(v) or isinstance(v, float)) and abs(v) < HUGE for v in value)
