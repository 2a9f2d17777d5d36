"""What an evaluation says beyond AP: kinds of errors, confusion, curves, another evaluator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from centernet import charts
from centernet.breakdown import KINDS, breakdown
from centernet.commands.evaluation import assess, write
from centernet.confusion import confusion
from centernet.dataset.split import Record, Split
from centernet.evaluate import accumulate, class_rows, evaluate
from centernet.structures import Detections

Row = tuple[list[float], int]  # box, label
Found = tuple[list[float], int, float]  # box, label, score
PLACE, NEAR, FAR = [10.0, 10, 30, 50], [10.0, 10, 30, 26], [60.0, 60, 80, 90]  # IoU of NEAR: 0.4


def record(id: int, truth: list[Row], crowd: list[Row] | None = None) -> Record:
    rows = truth + (crowd or [])
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    sizes = boxes[:, 2:] - boxes[:, :2]
    is_crowd = np.arange(len(rows)) >= len(truth)
    labels = np.array([label for _, label in rows], np.int64)
    return Record(
        id, Path(f"{id}.png"), 100, 120, "", boxes, labels, sizes.prod(1).astype(float), is_crowd
    )


def split_of(records: list[Record], classes: int = 2) -> Split:
    names = tuple(f"class {index}" for index in range(classes))
    return Split("val", names, tuple(range(1, classes + 1)), tuple(records), (), "")


def detections(rows: list[Found]) -> Detections:
    boxes, labels, scores = (list(part) for part in zip(*rows, strict=True)) if rows else ([],) * 3
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long()
    )


# one image with the error, one with an object of each class that is found at score 0.5
ERRORS: dict[str, tuple[list[Row], list[Found], float]] = {
    "localisation": ([(PLACE, 0)], [(NEAR, 0, 0.9)], (51 / 101 / 2 + 1) / 2),
    "classification": ([(PLACE, 0)], [(PLACE, 1, 0.9)], (51 / 101 + 1 / 2) / 2),
    "duplicate": ([(PLACE, 0)], [(PLACE, 0, 0.95), (PLACE, 0, 0.9)], ((51 + 50 * 2 / 3) / 101 + 1) / 2),
    "background": ([], [(FAR, 0, 0.9)], (1 / 2 + 1) / 2),
    "missed": ([(PLACE, 0)], [], (51 / 101 + 1) / 2),
}  # fmt: skip
RIGHT = [(PLACE, 0, 0.5), (FAR, 1, 0.5)]


@pytest.mark.parametrize("kind", ERRORS)
def test_each_kind_of_error_is_known_and_mending_it_alone_mends_all(kind: str) -> None:
    truth, found, ap = ERRORS[kind]
    split = split_of([record(7, truth), record(3, [(PLACE, 0), (FAR, 1)])])
    result = breakdown([detections(found), detections(RIGHT)], split, score=0.3)
    assert result.ap50 == pytest.approx(100 * ap)
    assert result.errors == dict.fromkeys(KINDS, 0) | {kind: 1}
    expected = dict.fromkeys(KINDS, 0.0) | {kind: 100 - result.ap50}
    assert result.dap == pytest.approx(expected, abs=1e-9)


def test_a_wrong_class_in_a_wrong_place_goes_and_its_object_stays_missed() -> None:
    split = split_of([record(7, [(PLACE, 0)]), record(3, [(PLACE, 0), (FAR, 1)])])
    result = breakdown([detections([(NEAR, 1, 0.9)]), detections(RIGHT)], split, score=0.3)
    assert result.errors == dict.fromkeys(KINDS, 0) | {"both": 1, "missed": 1}
    assert result.dap["both"] == pytest.approx(25) and result.dap["missed"] > 24
    weak = breakdown([detections([(NEAR, 1, 0.2)]), detections(RIGHT)], split, score=0.3)
    assert weak.errors["both"] == 0  # it counts for AP, not as an error that people see


def test_of_two_that_could_be_mended_only_one_becomes_true() -> None:
    split = split_of([record(7, [(PLACE, 0)])], classes=1)
    both = [detections([(NEAR, 0, 0.9), ([10.0, 10, 30, 28], 0, 0.8)])]
    result = breakdown(both, split, score=0.3)
    assert result.errors["localisation"] == 2
    assert result.dap["localisation"] == pytest.approx(100)


def random_case(seed: int) -> tuple[list[Detections], Split]:
    """Truth with crowds and empty images; detections moved, relabelled, doubled, with equal scores."""
    random = np.random.default_rng(seed)
    records, found = [], []
    for id in random.permutation(12):
        corners = random.uniform(0, 60, (random.integers(0, 6), 2))
        boxes = np.hstack((corners, corners + random.uniform(6, 60, corners.shape)))
        rows = [(box.tolist(), int(random.integers(0, 3))) for box in boxes]
        crowds = int(random.integers(0, 2)) if rows else 0
        records.append(record(int(id) + 1, rows[crowds:], rows[:crowds]))
        own: list[Found] = []
        for box, label in rows * 2:
            moved = np.array(box) + random.normal(0, 3, 4) * random.integers(0, 3)
            moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
            other = label if random.random() < 0.7 else int(random.integers(0, 3))
            own.append((moved.tolist(), other, round(random.random(), 1)))
        own += [([1.0, 1, 20, 20], int(random.integers(0, 3)), round(random.random(), 1))] * 2
        found.append(detections(own))
    return found, split_of(records, classes=4)  # nothing is of the last class


@pytest.mark.parametrize("seed", range(6))
def test_the_breakdown_starts_from_cocos_ap50_and_gives_every_error_a_kind(seed: int) -> None:
    found, split = random_case(seed)
    result = breakdown(found, split, score=0.0)
    assert result.ap50 == pytest.approx(evaluate(found, split)["AP50"], abs=1e-9)
    assert all(gain >= -1e-9 for gain in result.dap.values())


@pytest.mark.parametrize("seed", range(6))
def test_confusion_rows_sum_to_objects_and_columns_to_detections(seed: int) -> None:
    found, split = random_case(seed)
    counts = confusion(found, split, score=0.3)
    objects = [row["objects"] for row in class_rows(accumulate(found, split), split)]
    assert counts[:-1].sum(1).tolist() == objects and counts[-1, -1] == 0
    shown = sum(int((one.scores >= 0.3).sum()) for one in found)
    assert shown - 12 <= counts[:, :-1].sum() <= shown  # less those inside a crowd


def test_confusion_prefers_the_right_class_and_knows_the_background() -> None:
    split = split_of(
        [record(1, [(PLACE, 0)], crowd=[([0.0, 60, 50, 100], 1)]), record(2, [(FAR, 1)])]
    )
    found = [
        detections([
            (PLACE, 1, 0.9), ([10.0, 10, 30, 48], 0, 0.8), (FAR, 1, 0.7), ([5.0, 65, 20, 90], 1, 0.6)
        ]),
        detections([(FAR, 1, 0.2)]),
    ]  # fmt: skip
    assert confusion(found, split, score=0.3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 2, 0]]


def test_the_area_of_a_curve_is_the_ap50_of_its_class() -> None:
    found, split = random_case(1)
    accumulated = accumulate(found, split)
    rows = class_rows(accumulated, split)
    known = [row["AP50"] for row in rows if row["AP50"] is not None]
    assert np.mean(known) == pytest.approx(100 * accumulated.stats[1])
    for index, row in enumerate(rows[:3]):
        curve = accumulated.precision[0, :, index, 0, -1]
        assert 100 * curve.mean() == pytest.approx(row["AP50"])
    assert rows[3] == {"class": "class 3", "objects": 0} | dict.fromkeys(
        ("AP", "AP50", "AP75", "AR100")
    )


@pytest.mark.parametrize("seed", [*range(4), None])
def test_faster_coco_eval_finds_what_pycocotools_finds(seed: int | None) -> None:
    pytest.importorskip("faster_coco_eval")
    found, split = random_case(seed or 0)
    if seed is None:
        found = [detections([]) for _ in found]
    ours, theirs = (
        accumulate(found, split, evaluator=name) for name in ("pycocotools", "faster-coco-eval")
    )
    assert np.abs(ours.stats - theirs.stats).max() < 1e-9
    assert np.abs(ours.precision - theirs.precision).max() < 1e-9
    assert np.abs(ours.recall - theirs.recall).max() < 1e-9


def test_numbers_and_charts_are_written_whatever_the_classes_are_called(tmp_path: Path) -> None:
    found, split = random_case(2)
    names = ("a$b$", "血小板", "x" * 200, "new\nline")
    odd = Split(split.name, names, split.category_ids, split.records, (), "")
    answer = assess(found, odd, evaluator="pycocotools", score=0.3)
    write(tmp_path, answer, how={"flip": False})
    tree: dict[str, Any] = json.loads((tmp_path / "metrics.json").read_text())
    assert tree["metrics"] == pytest.approx(evaluate(found, odd))
    assert [row["class"] for row in tree["classes"]] == list(names)
    for name in ("precision-recall", "confusion", "errors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_matrix_of_many_classes_fits_a_picture() -> None:
    names = [f"class {index}" for index in range(60)]
    content = charts.confusion_matrix(np.eye(61, dtype=np.int64), names, score=0.3, iou=0.5)
    assert content.startswith(b"\x89PNG") and len(content) < 2**20
