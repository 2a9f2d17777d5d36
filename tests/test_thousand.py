"""1,000 objects in one image: encoded, learned, decoded, evaluated, and sorted by error."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_values

from centernet.breakdown import breakdown
from centernet.config import resolve
from centernet.confusion import confusion
from centernet.dataset.loader import Batch
from centernet.dataset.split import Record, Split
from centernet.decode import decode
from centernet.encode import encode
from centernet.evaluate import evaluate
from centernet.losses import SIZE_LOSSES
from centernet.state import make_state
from centernet.structures import Detections, Instances, Maps
from centernet.train import train_step

H, W, CLASSES = 320, 512, 10
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def crowd() -> Instances:
    """A grid of 40 x 25 boxes of 8 x 6 pixels, every third cell a centre, 100 of each class."""
    y, x = torch.meshgrid(torch.arange(25) * 12 + 5.0, torch.arange(40) * 12 + 6.0, indexing="ij")
    corner = torch.stack([x.flatten(), y.flatten()], 1)
    return Instances(
        torch.cat([corner, corner + torch.tensor([8.0, 6.0])], 1), torch.arange(1000) % 10
    )


def split_of(crowd: Instances, labels: torch.Tensor) -> Split:
    boxes, areas = crowd.boxes.numpy(), np.full(1000, 48.0)
    whole = np.zeros(1000, np.bool_)
    record = Record(1, Path("1.png"), H, W, "", boxes, labels.numpy(), areas, whole)
    names = tuple(f"class {index}" for index in range(CLASSES))
    return Split("val", names, tuple(range(1, CLASSES + 1)), (record,), (), "")


@pytest.fixture(scope="module")
def found(crowd: Instances) -> Detections:
    """What a network that answers the target finds."""
    maps = encode([crowd], classes=CLASSES, height=H, width=W, stride=4)
    answer = Maps(maps.heatmap.clamp(1e-4, 1 - 1e-4).logit(), maps.size, maps.offset)
    return decode(answer, stride=4, top_k=1000)[0]


def test_all_are_decoded(crowd: Instances, found: Detections) -> None:
    assert len(found.scores) == 1000 and (found.scores > 0.99).all()
    apart = torch.cdist(found.boxes, crowd.boxes, p=torch.inf)
    assert apart.amin(1).max() < 1e-3 and torch.equal(apart.argmin(1).sort()[0], torch.arange(1000))
    assert torch.equal(found.labels, crowd.labels[apart.argmin(1)])


def test_all_are_evaluated_and_none_is_an_error(crowd: Instances, found: Detections) -> None:
    split = split_of(crowd, crowd.labels)
    metrics = evaluate([found], split)
    assert metrics["AP"] == metrics["AP/class 9"] == metrics["AR100"] == pytest.approx(100)
    errors = breakdown([found], split, score=0.5)
    assert errors.ap50 == pytest.approx(100) and not any(errors.errors.values())
    assert all(abs(value) < 1e-6 for value in errors.dap.values())
    counts = confusion([found], split, score=0.5)
    assert np.array_equal(counts, np.diag([*[100] * CLASSES, 0]))


def test_of_one_class_coco_counts_the_best_hundred(crowd: Instances, found: Detections) -> None:
    split, same = split_of(crowd, 0 * crowd.labels), 0 * found.labels
    one = Detections(found.boxes, found.scores, same)
    assert evaluate([one], split)["AP"] == pytest.approx(100 * 11 / 101)  # recalls 0 to 0.1
    assert breakdown([one], split, score=0.5).ap50 == pytest.approx(100 * 11 / 101)
    assert confusion([one], split, score=0.5)[0, 0] == 1000


@pytest.mark.parametrize("size_loss", SIZE_LOSSES)
def test_a_step_learns_from_all(crowd: Instances, data: Path, size_loss: str) -> None:
    values = tiny_values(data) | {"data.height": H, "data.width": W, "loss.size_loss": size_loss}
    config = resolve(values)
    state = make_state(config, CLASSES, CPU)
    state.model.train()
    images = torch.randint(0, 256, (2, 3, H, W), dtype=torch.uint8)
    batch = Batch(images, crowd.boxes, crowd.labels, [1000, 0], [])
    terms = train_step(state, batch, config, 1e-3)
    assert all(term.isfinite() for term in terms.values()) and terms["gradient"] > 0
    assert all(p.isfinite().all() for p in state.model.parameters())
