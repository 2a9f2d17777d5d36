from pathlib import Path

import pytest
import torch

from centernet.dataset import coco
from centernet.dataset.split import Split
from centernet.evaluate import NUMBERS, evaluate
from centernet.structures import Detections


def perfect(split: Split) -> list[Detections]:
    return [
        Detections(torch.from_numpy(r.boxes), torch.ones(len(r.labels)), torch.from_numpy(r.labels))
        for r in split.records
    ]


def nothing() -> Detections:
    return Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.long))


def test_the_truth_scores_100_and_nothing_scores_0(data: Path) -> None:
    split = coco.read(data, "val")
    metrics = evaluate(perfect(split), split)
    assert metrics["AP"] == metrics["AP75"] == metrics["AP/one"] == pytest.approx(100)
    assert "APl" not in metrics  # no large object: undefined, not 0
    assert set(metrics) <= {*NUMBERS, *(f"AP/{name}" for name in split.classes)}
    empty = evaluate([nothing() for _ in split.records], split)
    assert empty["AP"] == empty["AR100"] == 0


def test_wrong_labels_and_wrong_places_cost(data: Path) -> None:
    split = coco.read(data, "val")
    wrong = [Detections(d.boxes, d.scores, (d.labels + 1) % 3) for d in perfect(split)]
    assert evaluate(wrong, split)["AP"] < 20
    shifted = [Detections(d.boxes + 6, d.scores, d.labels) for d in perfect(split)]
    assert evaluate(shifted, split)["AP"] < evaluate(perfect(split), split)["AP"] - 30


def test_crowds_are_neither_missed_nor_false(data: Path, edit: object) -> None:
    folder = edit(lambda tree: [row.update(iscrowd=1) for row in tree["annotations"][:3]], "val")  # type: ignore[operator]
    split = coco.read(folder, "val")
    without = [
        Detections(d.boxes[~torch.from_numpy(r.crowd)], d.scores[~torch.from_numpy(r.crowd)],
                   d.labels[~torch.from_numpy(r.crowd)])
        for d, r in zip(perfect(split), split.records, strict=True)
    ]  # fmt: skip
    assert evaluate(without, split)["AP"] == pytest.approx(100)
    assert evaluate(perfect(split), split)["AP"] == pytest.approx(100)
