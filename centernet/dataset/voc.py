"""Pascal VOC folders -> COCO's lists.

    Annotations/*.xml   JPEGImages/*   ImageSets/Main/{train,val,test}.txt

VOC counts pixels from 1 and its corners lie inside the box: xmin..xmax becomes xmin - 1 .. xmax.
A tool that counts from 0 is read by the same rule, so its boxes lie one pixel up and left, clipped
to the image. `difficult` objects (1 or true, nothing else) become crowds: neither trained on nor
counted as missed. Classes are the names in the annotations of all splits, sorted. Parts, masks,
`truncated` and `occluded` are not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from centernet import files
from centernet.dataset import images
from centernet.dataset.source import PHOTOGRAPHS, UNKNOWN, Links, Rows, Source, number
from centernet.dataset.split import Problem
from centernet.errors import UserError
from centernet.wording import brief

LISTS = Path("ImageSets/Main")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
DIFFICULT = ("1", "1.0", "true")
DIGITS = 9  # of a width or height
NOT_DIFFICULT = ("", "0", "0.0", "false", "unspecified")  # other words are told, and read so


def is_one(folder: Path) -> bool:
    """Whether the folder is laid out as VOC's."""
    return (folder / "Annotations").is_dir() and (folder / LISTS).is_dir()


def has(folder: Path, name: str) -> bool:
    """Whether the folder has such a split."""
    return (folder / LISTS / f"{name}.txt").exists()


@dataclass(slots=True)
class _Reading:
    """The lists of one split, while they are read."""

    images: Rows = field(default_factory=list)
    annotations: Rows = field(default_factory=list)
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(folder: Path, name: str, links: Links = ()) -> Source:
    """A split's rows; UserError for a list that is not there."""
    file = folder / LISTS / f"{name}.txt"
    stems = listed(file)
    every = [stem for one in ("train", "val", "test") if has(folder, one)
             for stem in listed(folder / LISTS / f"{one}.txt")]  # fmt: skip
    roots = {stem: _parsed(folder / "Annotations" / f"{stem}.xml") for stem in every}
    names = sorted({label for root in roots.values() for label in _labels(root)})
    found = _Reading()
    photographs = _photographs(folder / "JPEGImages")
    for id, stem in enumerate(stems, 1):
        xml, root = folder / "Annotations" / f"{stem}.xml", roots[stem]
        found.places["image", id] = f"{xml}: image {id} ({photographs.get(stem, stem)})"
        if isinstance(root, str):
            found.problems.append(Problem(found.places["image", id], root))
            continue
        try:
            row = _image(folder, root, id, photographs.get(stem, f"{stem}.jpg"))
        except ValueError as error:
            found.problems.append(Problem(found.places["image", id], str(error)))
            continue
        found.images.append(row)
        _objects(root, xml, id, names, found)
    categories: Rows = [{"id": id, "name": label} for id, label in enumerate(names, 1)]
    tree = {"images": found.images, "annotations": found.annotations, "categories": categories}
    xmls = tuple(folder / "Annotations" / f"{stem}.xml" for stem in stems)
    images_of, problems = folder / "JPEGImages", tuple(found.problems)
    return Source(file, images_of, tree, found.places, problems, (file, *xmls), links)


def listed(file: Path) -> list[str]:
    """The names in an image set; UserError where it cannot be read.

    A number behind a name (VOC's sets of a class have 1, 0 or -1 there) says nothing here.
    """
    try:
        lines = files.read_text(file, "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{file}: {reason}") from None
    there = {xml.stem for xml in (file.parents[2] / "Annotations").glob("*.xml")}
    whole = [line.strip() for line in lines if line.strip()]
    stems = [name if name in there else re.sub(r"\s+-?\d+$", "", name) for name in whole]
    for stem in stems:
        if Path(stem).name != stem or not files.is_name(stem):
            raise UserError(
                f"{file}: {brief(stem)}: names of images, without folders, are expected"
            )
    return stems


def parse(content: bytes) -> Element:
    """The root of an XML document; ValueError for what is none, or could grow as it is read."""
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ValueError("a DOCTYPE is not accepted: its entities could fill the memory")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"not XML: {error}") from None
    return builder.close()


def _parsed(file: Path) -> Element | str:
    """The annotation of an image, or what is wrong with its file."""
    try:
        root = parse(files.read(file, files.TEXT_LIMIT))
    except FileNotFoundError as error:
        return f"the annotation is missing: {error.strerror}"
    except OSError as error:
        return f"the annotation cannot be read: {files.reason(error)}"
    except ValueError as error:
        return str(error)
    return root if root.tag == "annotation" else f"not VOC: the root is {root.tag}"


def _labels(root: Element | str) -> Iterator[str]:
    """The class of every object that has one."""
    if not isinstance(root, str):
        yield from filter(None, (_text(one, "name") for one in root.iterfind("object")))


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _photographs(folder: Path) -> dict[str, str]:
    """File names by stem; of several of one stem, the first in PHOTOGRAPHS."""
    found = [file for file in folder.glob("*") if file.suffix.lower() in PHOTOGRAPHS]
    found.sort(key=lambda file: PHOTOGRAPHS.index(file.suffix.lower()), reverse=True)
    return {file.stem: file.name for file in found}


def _image(folder: Path, root: Element, id: int, name: str) -> dict[str, Any]:
    """An image's row; a size that was not written is that of the file.

    ValueError for one of so many digits that it is a mistake.
    """
    words = _text(root, "size/width"), _text(root, "size/height")
    if any(word.isdecimal() and len(word) > DIGITS for word in words):
        raise ValueError(f"a width or height of more than {DIGITS} digits")
    W, H = (int(word) if word.isdecimal() else 0 for word in words)
    if not W or not H:
        H, W = images.size(folder / "JPEGImages" / name) or UNKNOWN
    return {"id": id, "file_name": name, "width": W, "height": H}


def _objects(root: Element, xml: Path, image: int, names: list[str], found: _Reading) -> None:
    """Add the rows of an image's objects."""
    for count, one in enumerate(root.iterfind("object"), 1):
        label = _text(one, "name")
        place = f"{xml}: object {count} ({label or 'unnamed'})"
        try:
            box = [number(_text(one, f"bndbox/{corner}")) for corner in CORNERS]
        except ValueError:
            found.problems.append(Problem(place, "bndbox needs the numbers " + ", ".join(CORNERS)))
            continue
        if not label:
            found.problems.append(Problem(place, "an object needs a name"))
            continue
        id = len(found.annotations) + 1
        difficult = _text(one, "difficult").lower()
        found.places["annotation", id] = place
        found.annotations.append({
            "id": id,
            "image_id": image,
            "category_id": names.index(label) + 1,
            "bbox": [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1],
            "iscrowd": int(difficult in DIFFICULT),
        })  # fmt: skip
        if difficult not in DIFFICULT + NOT_DIFFICULT:
            rule = f"difficult is {difficult!r}, not 0 or 1; it is read as 0"
            found.problems.append(Problem(place, rule, fatal=False, note=True))
