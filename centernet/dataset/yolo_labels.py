"""A line of a YOLO label -> class and box, whatever else the line says.

    class cx cy w h                        a box
    class cx cy w h x y [v] x y [v] ...    and keypoints, where data.yaml has kpt_shape
    class cx cy w h [confidence] [id]      and what a detector or a tracker writes
    class x1 y1 x2 y2 x3 y3 ...            a polygon, read as the box around it

Only kpt_shape says so; without it, all lines of a split together tell a polygon from numbers
behind a box: those have whole numbers (ids, visibilities) at the same places in every line.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from centernet.dataset.source import number

TOLERANCE = 0.01  # beyond 0...1: rounding; more is a mistake
NEARLY_ALL = 0.9  # of lines that could be boxes: polygons by chance are less than half of it
BEHIND = "numbers behind the box (a confidence, a track id, keypoints) are not read"
UNSURE = (
    "is read as a polygon, but may be a box with numbers behind it (keypoints need kpt_shape in "
    "data.yaml)"
)


class Layout(NamedTuple):
    """What the lines of a split are: boxes and what stands behind them, or also polygons."""

    polygons: bool = True
    keypoints: int = 0  # numbers of all keypoints, by kpt_shape; 0 where that is not given
    note: str = ""  # what people should know of those lines that are no plain box


def layout(lines: Iterable[str], *, keypoints: int = 0) -> Layout:
    """What these lines of a split are; keypoints: how many numbers kpt_shape asks for."""
    if keypoints:
        return Layout(polygons=False, keypoints=keypoints)
    rows = [numbers_of(line) for line in lines if len(line.split()) > 5]
    rows = [row for row in rows if row]
    longer = [row for row in rows if len(row) > 5]
    if not rows:
        return Layout()
    could_be = sum(is_box(row[:4]) for row in longer)
    if not longer or (all(map(has_whole_tail, longer)) and could_be):
        return Layout(polygons=False, note=BEHIND)
    return Layout(note=UNSURE if could_be >= NEARLY_ALL * len(longer) else "")


def numbers_of(line: str) -> list[float]:
    """The numbers behind a line's class; none where a word is no number."""
    try:
        return [number(word) for word in line.split()[1:]]
    except ValueError:
        return []


def is_box(numbers: Sequence[float]) -> bool:
    """Whether cx cy w h are a box in its image."""
    cx, cy, w, h = numbers
    inside = all(
        middle - side / 2 >= -TOLERANCE and middle + side / 2 <= 1 + TOLERANCE
        for middle, side in ((cx, w), (cy, h))
    )
    return inside and w > 0 and h > 0


def has_whole_tail(row: Sequence[float]) -> bool:
    """Whether a confidence and a whole id, or keypoints with whole visibilities, end a line."""
    tail = row[4:]
    whole = tail[1:] if len(tail) == 2 else tail[2::3] if len(tail) % 3 == 0 else []
    return bool(whole) and all(value.is_integer() and value >= 0 for value in whole)


def row(
    line: str, *, classes: int, layout: Layout
) -> tuple[int, tuple[float, float, float, float]]:
    """Class and xyxy box in fractions of a label's line; ValueError names the rule it breaks."""
    first, *rest = line.split()
    try:
        label, numbers = number(first), [number(word) for word in rest]
    except ValueError:
        raise ValueError("needs numbers: class cx cy w h, or class and a polygon") from None
    if label not in range(classes):
        raise ValueError(f"unknown class {first}, names has 0 to {classes - 1}")
    check_count(len(numbers), layout)
    outline = numbers if layout.polygons else numbers[:4]
    if not all(math.isfinite(n) and -TOLERANCE <= n <= 1 + TOLERANCE for n in outline):
        raise ValueError("a number outside 0...1: boxes are fractions of their image")
    if not layout.keypoints and not all(map(may_be_behind, numbers[len(outline) :])):
        raise ValueError("a number behind the box is no confidence, track id or visibility")
    if len(outline) == 4:
        cx, cy, w, h = outline
        return int(label), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    x, y = outline[::2], outline[1::2]
    return int(label), (min(x), min(y), max(x), max(y))


def check_count(count: int, layout: Layout) -> None:
    """ValueError where a line of this layout has no such number of numbers behind its class."""
    wanted = "class cx cy w h, or class and a polygon"
    if layout.keypoints:
        right = count == 4 or 0 <= count - 4 - layout.keypoints <= 2  # with a confidence, an id
        wanted = f"class cx cy w h and {layout.keypoints} numbers of keypoints by kpt_shape"
    elif layout.polygons:
        right = count == 4 or (count >= 6 and count % 2 == 0)
    else:
        right = count >= 4
    if not right:
        raise ValueError(f"needs {wanted}, got {count + 1} words")


def may_be_behind(value: float) -> bool:
    """Whether it is a fraction of the image or of certainty, or counts something."""
    return -TOLERANCE <= value <= 1 + TOLERANCE or (value.is_integer() and value >= 0)
