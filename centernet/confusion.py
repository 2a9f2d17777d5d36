"""Which class is taken for which: true objects against detections, and the background."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from centernet.dataset.split import Record, Split
from centernet.evaluate import overlaps
from centernet.structures import Detections

IOU = 0.5  # from which a detection is of an object


def confusion(
    detections: Sequence[Detections], split: Split, *, score: float, iou: float = IOU
) -> NDArray[np.int64]:
    """Counts[C + 1, C + 1]: a row a true class, a column a detected one; the last is background.

    Detections that score at least `score` and objects are paired one to one where they overlap by
    `iou`: first those of the same class, then the rest, the highest overlap first. An object
    without a detection is in the last column, a detection without an object in the last row. A row
    so sums to the objects of its class. Crowds are left out, with the detections inside them.
    """
    classes = len(split.classes)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    for found, record in zip(detections, split.records, strict=True):
        keep = found.scores >= score
        boxes, labels = found.boxes[keep].double().cpu().numpy(), found.labels[keep].cpu().numpy()
        truth = record.labels[~record.crowd]
        pairs = paired(overlaps(boxes, record.boxes[~record.crowd]), labels[:, None] == truth, iou)
        for row, column in pairs:
            counts[truth[column], labels[row]] += 1
        alone = np.setdiff1d(np.arange(len(labels)), [row for row, _ in pairs])
        alone = alone[~inside_crowd(boxes[alone], labels[alone], record, iou)]
        missed = np.setdiff1d(np.arange(len(truth)), [column for _, column in pairs])
        np.add.at(counts, (classes, labels[alone]), 1)
        np.add.at(counts, (truth[missed], classes), 1)
    return counts


def paired(
    overlap: NDArray[np.float64], same: NDArray[np.bool_], iou: float
) -> list[tuple[int, int]]:
    """Rows and columns of overlap[D, G] paired one to one: same class first, then by overlap."""
    rows, columns = np.nonzero(overlap >= iou)
    order = np.lexsort((-overlap[rows, columns], ~same[rows, columns]))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return list(pairs.items())


def inside_crowd(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], record: Record, iou: float
) -> NDArray[np.bool_]:
    """Which boxes lie with at least `iou` of their area in a crowd of their class."""
    inside = overlaps(boxes, record.boxes[record.crowd], crowd=True)
    inside *= labels[:, None] == record.labels[record.crowd]
    return np.asarray(inside.max(1, initial=0.0) >= iou)
