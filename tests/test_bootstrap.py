"""AP of drawn sets: the fast one is pycocotools' on sets that are really drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from centernet.bootstrap import average_precision, draws, match
from centernet.dataset.split import Record, Split
from centernet.evaluate import evaluate
from centernet.structures import Detections

CLASSES = 3


def a_split(images: int, seed: int) -> Split:
    """Images with 0 to 5 objects, some of them crowds; the last class is rare."""
    chance = np.random.default_rng(seed)
    records = []
    for index in range(images):
        count = int(chance.integers(0, 6))
        corners = chance.uniform(0, 80, (count, 2))
        boxes = np.concatenate((corners, corners + chance.uniform(8, 40, (count, 2))), 1)
        labels = chance.choice(CLASSES, count, p=(0.6, 0.37, 0.03))
        crowd = chance.uniform(size=count) < 0.15
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        id = 1000 - 7 * index  # not in the order of the records
        records.append(
            Record(id, None, 100, 120, str(index), boxes.astype(np.float32), labels, areas, crowd)  # type: ignore[arg-type]
        )
    names = tuple(f"c{i}" for i in range(CLASSES))
    return Split("test", names, (1, 2, 5), tuple(records), (), "f")


def detected(split: Split, seed: int, *, scores: int) -> list[Detections]:
    """Boxes near the truth and elsewhere; few different `scores`, so that many are equal."""
    chance = np.random.default_rng(seed)
    found = []
    for record in split.records:
        near = record.boxes + chance.normal(0, 2.5, record.boxes.shape)
        near = np.concatenate((near, near + chance.normal(0, 1, near.shape)))
        count = int(chance.integers(0, 8))
        corners = chance.uniform(0, 80, (count, 2))
        boxes = np.concatenate((near, np.concatenate((corners, corners + 20), 1)))
        labels = np.concatenate((record.labels, record.labels, chance.integers(0, CLASSES, count)))
        values = chance.integers(1, scores + 1, len(boxes)) / scores
        order = np.argsort(-values, kind="stable")
        found.append(
            Detections(
                torch.from_numpy(boxes[order]).float(),
                torch.from_numpy(values[order]),
                torch.from_numpy(labels[order]),
            )
        )
    return found


def by_pycocotools(detections: list[Detections], split: Split, counts: NDArray[np.int32]) -> float:
    """AP of the set in which each image, in the order of ids, really lies so often."""
    order = sorted(range(len(split)), key=lambda index: split.records[index].id)
    drawn = [index for index, count in zip(order, counts, strict=True) for _ in range(count)]
    records = tuple(replace(split.records[i], id=new) for new, i in enumerate(drawn, 1))
    return evaluate([detections[i] for i in drawn], replace(split, records=records)).get(
        "AP", float("nan")
    )


@pytest.mark.parametrize("scores", [2, 5, 1000])
def test_the_fast_ap_is_pycocotools_on_sets_that_are_really_drawn(scores: int) -> None:
    split = a_split(14, seed=scores)
    found = detected(split, seed=scores, scores=scores)
    counts = draws(len(split), count=8, seed=1)
    counts[0] = 1  # the set itself
    fast = average_precision(match(found, split), counts)
    slow = [by_pycocotools(found, split, row) for row in counts]
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
    assert fast[0] == pytest.approx(evaluate(found, split)["AP"], abs=1e-9)
    assert len(set(fast.round(6))) > 4


def test_sets_without_an_object_or_a_detection_are_undefined_or_zero() -> None:
    split = a_split(6, seed=0)
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.long))
    silent = match([nothing] * len(split), split)
    counts = draws(len(split), count=5, seed=0)
    assert (average_precision(silent, counts) == 0).all()
    empty = np.zeros((1, len(split)), np.int32)
    found = match(detected(split, 0, scores=3), split)
    assert np.isnan(average_precision(found, empty)).all()


def test_every_set_holds_as_many_images_as_there_are_and_a_seed_gives_the_same_sets() -> None:
    counts = draws(30, count=50, seed=3)
    assert counts.shape == (50, 30) and (counts.sum(1) == 30).all()
    assert (counts == draws(30, count=50, seed=3)).all()
    assert (counts != draws(30, count=50, seed=4)).any()
