"""Why a detector's AP50 is not 100: each error has one kind; mending a kind shows what it costs.

After TIDE (Bolya et al. 2020, "A General Toolbox for Identifying Object Detection Errors"). A
detection is true or false as COCO decides at IoU 0.5. A false one is, in this order, with the IoU
of its best object of the right class (r) and of another class (o):

    localisation    0.1 <= r < 0.5
    classification  o >= 0.5
    duplicate       r >= 0.5: the object was found already, by a detection of higher score
    background      r < 0.1 and o < 0.1
    both            what is left: the wrong class, in the wrong place

and an object is `missed` if no detection found it, nor would by mending its class or place. A kind
is mended by what an oracle would do: of the first two, the best-scoring detection of each object
not yet found becomes true, and all others go away; missed objects are no longer asked for. dAP is
by how many points AP50 is then higher. The dAPs of all kinds do not add up to 100 - AP50.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from centernet.dataset.split import Record, Split
from centernet.evaluate import RECALLS, overlaps
from centernet.structures import Detections

KINDS = ("localisation", "classification", "both", "duplicate", "background", "missed")
FOREGROUND, BACKGROUND = (
    0.5,
    0.1,
)  # IoU from which a detection is true, and below which it is nothing
MOST = 100  # detections of a class in an image that COCO looks at
TRUE, IGNORED = "true", "ignored"  # ignored: in a crowd


@dataclass(frozen=True, slots=True)
class Judged:
    """Every detection with what it is, and every object with what became of it.

    scores[D], labels[D], kinds[D]: a detection's kind is one of KINDS, TRUE or IGNORED; objects[D]:
    the object that it would find if it were mended, -1 for none; classes[G], missed[G]: of the
    objects that count.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    kinds: NDArray[np.str_]
    objects: NDArray[np.int64]
    classes: NDArray[np.int64]
    missed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """AP50 in percent; of each kind of error how many there are, and what mending all would add."""

    ap50: float
    errors: dict[str, int]  # detections that score at least `score`, and missed objects
    dap: dict[str, float]  # points of AP50
    score: float


def breakdown(detections: Sequence[Detections], split: Split, *, score: float) -> Breakdown:
    """The errors of detections, one for each record of the split in its order."""
    judged = judge(detections, split)
    number = len(split.classes)
    base = mean_average_precision(judged, np.ones(len(judged.scores), np.bool_), number=number)
    counts = {
        kind: int(((judged.kinds == kind) & (judged.scores >= score)).sum()) for kind in KINDS
    } | {"missed": int(judged.missed.sum())}
    dap = {kind: mended(judged, kind, number=number) - base for kind in KINDS}
    return Breakdown(base, counts, dap, score)


def judge(detections: Sequence[Detections], split: Split) -> Judged:
    """Give each detection its kind, image by image, in the order of their ids as COCO does."""
    pairs = sorted(zip(split.records, detections, strict=True), key=lambda pair: pair[0].id)
    parts: list[Judged] = []
    start = 0  # objects of the images before
    for record, found in pairs:
        part = judge_image(found, record, start=start)
        start += len(part.classes)
        parts.append(part)
    return Judged(*(
        np.concatenate([getattr(part, name) for part in parts]) for name in Judged.__slots__
    ))  # fmt: skip


def judge_image(found: Detections, record: Record, *, start: int) -> Judged:
    """The detections and objects of one image; its objects are numbered from `start`."""
    rows = ranked(found)
    scores = found.scores.double().cpu().numpy()[rows]
    labels = found.labels.cpu().numpy()[rows]
    boxes = found.boxes.double().cpu().numpy()[rows]
    crowd = record.crowd
    classes = record.labels[~crowd]
    iou = overlaps(boxes, record.boxes[~crowd])
    same = labels[:, None] == classes
    in_crowd = overlaps(boxes, record.boxes[crowd], crowd=True)
    in_crowd *= labels[:, None] == record.labels[crowd]
    finder = matched(iou * same)
    found_by = np.flatnonzero(finder >= 0)
    kinds = np.full(len(rows), "background", dtype="U14")
    objects = np.full(len(rows), -1, np.int64)
    right, other = best(iou * same), best(iou * ~same)
    for kind, where, which in rules(right, other):
        kinds[where], objects[where] = kind, which[where]
    kinds[in_crowd.max(1, initial=0.0) >= FOREGROUND] = IGNORED
    kinds[finder[found_by]] = TRUE
    objects[np.isin(kinds, (IGNORED, TRUE)) | np.isin(objects, found_by)] = -1
    found_or_near = np.union1d(found_by, objects)
    missed = ~np.isin(np.arange(len(classes)), found_or_near)
    objects[objects >= 0] += start
    return Judged(scores, labels, kinds, objects, classes, missed)


def rules(
    right: tuple[NDArray[np.float64], NDArray[np.int64]],
    other: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.int64]]]:
    """Kind, which detections are of it, and the objects they would find; later ones overrule."""
    (r, right_object), (o, other_object) = right, other
    none = np.full(len(r), -1, np.int64)
    yield "both", np.maximum(r, o) >= BACKGROUND, none
    yield "duplicate", r >= FOREGROUND, none
    yield "classification", o >= FOREGROUND, other_object
    yield "localisation", (r >= BACKGROUND) & (r < FOREGROUND), right_object


def best(iou: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The highest of iou[D, G] for each detection, and the object it is with."""
    if iou.shape[1] == 0:
        return np.zeros(len(iou)), np.full(len(iou), -1, np.int64)
    return iou.max(1), iou.argmax(1)


def ranked(found: Detections) -> NDArray[np.int64]:
    """Rows of detections, best first, at most MOST of each class."""
    scores, labels = found.scores.double().cpu().numpy(), found.labels.cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    place = np.zeros(len(order), np.int64)  # among those of its class
    for label in np.unique(labels):
        own = labels[order] == label
        place[own] = np.arange(own.sum())
    return order[place < MOST]


def matched(iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """The detection that finds each object, -1 for none: iou[D, G], best detection first.

    COCO's rule: in turn, each takes the free object that it overlaps most, of equals the last.
    """
    iou = iou.copy()
    finder = np.full(iou.shape[1], -1, np.int64)
    for row in np.flatnonzero(iou.max(1, initial=0.0) >= FOREGROUND):
        chosen = iou.shape[1] - 1 - int(iou[row, ::-1].argmax())
        if iou[row, chosen] >= FOREGROUND:
            finder[chosen] = row
            iou[:, chosen] = 0.0
    return finder


def mended(judged: Judged, kind: str, *, number: int) -> float:
    """AP50 in percent once all errors of a kind are mended."""
    if kind == "missed":
        keep = np.ones(len(judged.scores), np.bool_)
        asked = judged.classes[~judged.missed]
        return mean_average_precision(judged, keep, number=number, asked=asked)
    wrong = np.flatnonzero(judged.kinds == kind)
    wrong = wrong[np.argsort(-judged.scores[wrong], kind="stable")]
    _, first = np.unique(judged.objects[wrong], return_index=True)
    right = wrong[first][judged.objects[wrong[first]] >= 0]
    keep = judged.kinds != kind
    keep[right] = True
    labels, kinds = judged.labels.copy(), judged.kinds.copy()
    labels[right], kinds[right] = judged.classes[judged.objects[right]], TRUE
    changed = Judged(judged.scores, labels, kinds, judged.objects, judged.classes, judged.missed)
    return mean_average_precision(changed, keep, number=number)


def mean_average_precision(
    judged: Judged,
    keep: NDArray[np.bool_],
    *,
    number: int,
    asked: NDArray[np.int64] | None = None,
) -> float:
    """AP50 in percent of the detections to keep: the mean over classes with an object asked for."""
    totals = np.bincount(judged.classes if asked is None else asked, minlength=number)
    use = keep & (judged.kinds != IGNORED)
    values = []
    for label in np.flatnonzero(totals):
        own = np.flatnonzero(use & (judged.labels == label))
        own = own[np.argsort(-judged.scores[own], kind="stable")]
        values.append(average_precision(judged.kinds[own] == TRUE, int(totals[label])))
    return 100 * float(np.mean(values)) if values else 0.0


def average_precision(true: NDArray[np.bool_], total: int) -> float:
    """COCO's AP (0...1) of one class: true[D] best first, of `total` objects."""
    hits = np.cumsum(true)
    precision = hits / np.arange(1, len(true) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(hits / total, RECALLS, side="left")  # where each recall is reached
    return float(np.append(highest, 0.0)[np.minimum(first, len(true))].mean())
