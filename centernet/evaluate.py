"""(Detections, truth) -> COCO mAP, by pycocotools, in pixels of the original images."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centernet.dataset.split import Split
from centernet.structures import Detections

NUMBERS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def evaluate(detections: Sequence[Detections], split: Split) -> dict[str, float]:
    """The 12 COCO numbers and `AP/<class>` for each class, in percent.

    detections: one for each record of the split, in its order, in original pixels. A number that
    COCO leaves undefined (no object of that size or class) is left out.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        truth = ground_truth(split)
        rows = results(detections, split)
        coco_eval = COCOeval(truth, load_results(truth, rows), "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    metrics = dict(zip(NUMBERS, coco_eval.stats, strict=True))
    precision = coco_eval.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all sizes
    for index, name in enumerate(split.classes):
        values = precision[:, :, index]
        valid = values[values > -1]
        metrics[f"AP/{name}"] = float(valid.mean()) if valid.size else -1.0
    return {name: 100 * float(value) for name, value in metrics.items() if value > -1}


def ground_truth(split: Split) -> COCO:
    """The split as pycocotools wants it."""
    annotations = [
        {
            "image_id": record.id,
            "category_id": split.category_ids[label],
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for record in split.records
        for box, label, area, crowd in zip(
            record.boxes.astype(np.float64), record.labels, record.areas, record.crowd, strict=True
        )
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": record.id} for record in split.records],
        "annotations": [row | {"id": id} for id, row in enumerate(annotations, 1)],
        "categories": [
            {"id": id, "name": name}
            for id, name in zip(split.category_ids, split.classes, strict=True)
        ],
    }
    coco.createIndex()
    return coco


def results(detections: Sequence[Detections], split: Split) -> list[dict[str, object]]:
    """Detections as rows of a COCO results file: boxes xywh."""
    rows: list[dict[str, object]] = []
    for found, record in zip(detections, split.records, strict=True):
        boxes = found.boxes.double().cpu().numpy()
        sizes = boxes[:, 2:] - boxes[:, :2]
        for box, size, score, label in zip(
            boxes, sizes, found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            rows.append({
                "image_id": record.id,
                "category_id": split.category_ids[label],
                "bbox": [*box[:2].tolist(), *size.tolist()],
                "score": score,
            })  # fmt: skip
    return rows


def load_results(truth: COCO, rows: list[dict[str, object]]) -> COCO:
    """`loadRes`, which fails on an empty list."""
    if rows:
        return truth.loadRes(rows)
    empty = COCO()
    empty.dataset = truth.dataset | {"annotations": []}
    empty.createIndex()
    return empty
