"""(Detections, truth) -> COCO's numbers, in pixels of the original images.

pycocotools is the reference. faster-coco-eval, where installed, is the same computation in C++.
"""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centernet.dataset.split import Split
from centernet.errors import UserError
from centernet.structures import Detections

NUMBERS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads the precision


@dataclass(frozen=True, slots=True)
class Accumulated:
    """What COCO computes before it takes means; -1 where a class has no object of that size.

    precision[T, R, C, A, M]: at IoU thresholds 0.5 ... 0.95, recalls 0 ... 1, classes, areas (all,
    small, medium, large) and detections an image (1, 10, 100); recall[T, C, A, M]; stats[12]: the
    values of NUMBERS.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    stats: NDArray[np.float64]


def evaluate(
    detections: Sequence[Detections], split: Split, *, evaluator: str = "pycocotools"
) -> dict[str, float]:
    """The 12 COCO numbers and `AP/<class>` for each class, in percent.

    detections: one for each record of the split, in its order, in original pixels. A number that
    COCO leaves undefined (no object of that size or class) is left out.
    """
    return summary(accumulate(detections, split, evaluator=evaluator), split.classes)


def accumulate(
    detections: Sequence[Detections], split: Split, *, evaluator: str = "pycocotools"
) -> Accumulated:
    """Precision and recall of detections, by one of EVALUATORS."""
    return EVALUATORS[evaluator](detections, split)


def check_evaluator(name: str) -> None:
    """UserError where it is not installed."""
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        raise UserError(f"--evaluator {name}: not installed: pip install {name}")


def summary(found: Accumulated, classes: Sequence[str]) -> dict[str, float]:
    """The numbers of `evaluate`."""
    metrics = dict(zip(NUMBERS, found.stats, strict=True))
    for index, name in enumerate(classes):
        metrics[f"AP/{name}"] = mean(found.precision[:, :, index, 0, -1])
    return {name: 100 * float(value) for name, value in metrics.items() if value > -1}


def class_rows(found: Accumulated, split: Split) -> list[dict[str, Any]]:
    """A row for each class: AP, AP50, AP75 and AR100 in percent (None: undefined), and objects."""
    rows = []
    objects = split.frequencies()
    for index, name in enumerate(split.classes):
        precision = found.precision[:, :, index, 0, -1]
        values = {
            "AP": mean(precision),
            "AP50": mean(precision[0]),
            "AP75": mean(precision[5]),
            "AR100": mean(found.recall[:, index, 0, -1]),
        }
        percent = {key: 100 * value if value > -1 else None for key, value in values.items()}
        rows.append({"class": name, **percent, "objects": int(objects[index])})
    return rows


def mean(values: NDArray[np.float64]) -> float:
    """The mean of those that are defined; -1 if none is."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def overlaps(
    boxes: NDArray[np.float64], others: NDArray[Any], *, crowd: bool = False
) -> NDArray[np.float64]:
    """IoU[D, G] of boxes[D, 4] with others[G, 4] xyxy, as pycocotools computes it.

    crowd: the others are groups; then it is the share of a box that lies in one.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    xywh = [np.hstack((b[:, :2], b[:, 2:] - b[:, :2])) for b in (boxes, others.astype(np.float64))]
    return np.asarray(mask.iou(*xywh, [int(crowd)] * len(others)), np.float64)


def by_pycocotools(detections: Sequence[Detections], split: Split) -> Accumulated:
    """The reference."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        truth = ground_truth(split)
        return accumulated(COCOeval(truth, load_results(truth, results(detections, split)), "bbox"))


def by_faster_coco_eval(detections: Sequence[Detections], split: Split) -> Accumulated:
    """The same in C++."""
    faster = importlib.import_module("faster_coco_eval")  # an extra, without types
    with contextlib.redirect_stdout(io.StringIO()):
        truth = faster.COCO(ground_truth(split).dataset)
        found = load_results(truth, results(detections, split))
        return accumulated(faster.COCOeval_faster(truth, found, "bbox"))


def accumulated(coco_eval: Any) -> Accumulated:
    """What either of the two computes."""
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    found = coco_eval.eval
    return Accumulated(
        np.asarray(found["precision"], np.float64),
        np.asarray(found["recall"], np.float64),
        np.asarray(coco_eval.stats, np.float64)[: len(NUMBERS)],
    )


EVALUATORS: dict[str, Callable[[Sequence[Detections], Split], Accumulated]] = {
    "pycocotools": by_pycocotools,
    "faster-coco-eval": by_faster_coco_eval,
}


def image_ids(split: Split) -> list[int]:
    """1, 2, ... for the records of a split, in the order of their ids.

    pycocotools sorts images by NumPy, which holds no whole number beyond 64 bits, and turns those
    below and above 2^63 together into fractions: so neither of the two sees an id of a user.
    """
    order = sorted(range(len(split.records)), key=lambda index: split.records[index].id)
    ids = [0] * len(order)
    for id, index in enumerate(order, 1):
        ids[index] = id
    return ids


def ground_truth(split: Split) -> COCO:
    """The split as pycocotools wants it: images by `image_ids`, classes by their label + 1."""
    ids = image_ids(split)
    annotations = [
        {
            "image_id": id,
            "category_id": int(label) + 1,
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for id, record in zip(ids, split.records, strict=True)
        for box, label, area, crowd in zip(
            record.boxes.astype(np.float64), record.labels, record.areas, record.crowd, strict=True
        )
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": id} for id in ids],
        "annotations": [row | {"id": id} for id, row in enumerate(annotations, 1)],
        "categories": [{"id": id, "name": name} for id, name in enumerate(split.classes, 1)],
    }
    coco.createIndex()
    return coco


def results(detections: Sequence[Detections], split: Split) -> list[dict[str, object]]:
    """Detections as rows of a COCO results file for `ground_truth`: boxes xywh."""
    rows: list[dict[str, object]] = []
    for found, id in zip(detections, image_ids(split), strict=True):
        boxes = found.boxes.double().cpu().numpy()
        sizes = boxes[:, 2:] - boxes[:, :2]
        for box, size, score, label in zip(
            boxes, sizes, found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            rows.append({
                "image_id": id,
                "category_id": label + 1,
                "bbox": [*box[:2].tolist(), *size.tolist()],
                "score": score,
            })  # fmt: skip
    return rows


def load_results(truth: Any, rows: list[dict[str, object]]) -> Any:
    """`loadRes`, which fails on an empty list."""
    if rows:
        return truth.loadRes(rows)
    empty = type(truth)()
    empty.dataset = truth.dataset | {"annotations": []}
    empty.createIndex()
    return empty
