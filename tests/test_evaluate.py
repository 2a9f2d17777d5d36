from pathlib import Path
from typing import Any

import pytest
import torch

from centernet.breakdown import breakdown
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


IDS = {  # of images, annotations and categories
    "from 0": lambda n: n,
    "negative": lambda n: -n - 1,
    "of 64 bits": lambda n: (n * 0x9E3779B97F4A7C15 + 5) % 2**64,
    "one beyond 2^63": lambda n: 2**63 + 12345 if n == 1 else n,
    "of 128 bits": lambda n: 2**127 + n,
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("evaluator", ["pycocotools", "faster-coco-eval"])
def test_no_number_depends_on_what_ids_a_data_set_has(
    kind: str, evaluator: str, data: Path, edit: Any
) -> None:
    if evaluator == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")

    def renumber(tree: dict[str, Any]) -> None:
        for key, names in (("images", ("image_id",)), ("categories", ("category_id",))):
            old = {row["id"]: number(n) for n, row in enumerate(tree[key])}
            for row in tree[key]:
                row["id"] = old[row["id"]]
            for row in tree["annotations"]:
                row.update({name: old[row[name]] for name in names})
        for n, row in enumerate(tree["annotations"]):
            row["id"] = number(n)

    number = IDS[kind]
    split, plain = coco.read(edit(renumber, "val"), "val"), coco.read(data, "val")

    def numbers(split: Split) -> tuple[dict[str, float], object]:
        by_name = {
            record.file.name: found
            for record, found in zip(split.records, perfect(split), strict=True)
        }
        found = [nothing() if name[-5] in "1357" else one for name, one in by_name.items()]
        whole = evaluate(found, split, evaluator=evaluator)
        return whole, breakdown(found, split, score=0.3).errors

    metrics, errors = numbers(split)
    expected, expected_errors = numbers(plain)
    assert errors == expected_errors and 20 < expected["AP"] < 80
    assert {split.records[n].id for n in range(8)} == {number(n) for n in range(8)}
    assert metrics == pytest.approx(expected)
