from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from centernet.augment import Augmenter
from centernet.config import Config
from centernet.dataset import coco
from centernet.dataset.loader import (
    Batch,
    Draw,
    Order,
    Samples,
    in_order,
    resample,
    sampling_weights,
    training_loader,
)
from centernet.dataset.split import Split
from centernet.errors import UserError


def batches(split: Split, workers: int, *, epochs: int = 2, cache_mb: int = 64) -> list[Batch]:
    augmenter = Augmenter(**Config().augment.model_dump())
    samples = Samples(
        split, height=64, width=96, letterbox=True, cache_mb=cache_mb, augmenter=augmenter
    )
    order = Order(split, batch_size=8, balance=0.5, seed=3)
    loader = training_loader(samples, order, workers=workers)
    found = []
    for order.epoch in range(1, epochs + 1):
        found += list(loader)
    return found


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a.images, b.images)
        and all(
            torch.equal(x.boxes, y.boxes) and torch.equal(x.labels, y.labels)
            for x, y in zip(a.instances, b.instances, strict=True)
        )
        for a, b in zip(ours, theirs, strict=True)
    )


def test_batches_are_the_same_bits_with_0_1_and_2_workers_and_without_a_cache(data: Path) -> None:
    split = coco.read(data, "train")
    reference = batches(split, 0)
    assert same(reference, batches(split, 1))
    assert same(reference, batches(split, 2))
    assert same(reference, batches(split, 0, cache_mb=0))


def test_epochs_differ_and_an_epoch_does_not_depend_on_those_before(data: Path) -> None:
    split = coco.read(data, "train")
    both = batches(split, 0)
    assert not same(both[:3], both[3:])
    samples = Samples(split, height=64, width=96, letterbox=True, cache_mb=0,
                      augmenter=Augmenter(**Config().augment.model_dump()))  # fmt: skip
    order = Order(split, batch_size=8, balance=0.5, seed=3)
    order.epoch = 2
    assert same(both[3:], list(training_loader(samples, order, workers=0)))


def test_without_balance_an_epoch_is_a_permutation(data: Path) -> None:
    split = coco.read(data, "train")
    order = Order(split, batch_size=7, balance=0, seed=1)
    drawn = [draw.index for batch in order for draw in batch]
    assert sorted(drawn) == list(range(24))
    assert sum(1 for _ in order) == len(order)


def test_balancing_draws_images_of_rare_classes_more_often(data: Path) -> None:
    split = coco.read(data, "train")
    counts = split.frequencies()
    rare = int(counts.argmin())
    weights = sampling_weights(split, balance=1.0)
    for record, weight in zip(split.records, weights.tolist(), strict=True):
        expected = counts.max() / counts[record.labels].min()
        assert weight == expected
    assert torch.equal(sampling_weights(split, balance=0.0), torch.ones(24, dtype=torch.float64))

    def drawn(balance: float) -> int:
        found: Counter[int] = Counter()
        order = Order(split, batch_size=8, balance=balance, seed=0)
        for order.epoch in range(1, 41):
            for batch in order:
                for draw in batch:
                    found.update(split.records[draw.index].labels.tolist())
        return found[rare]

    assert drawn(1.0) > 1.1 * drawn(0.0)


def test_a_balanced_epoch_draws_each_image_as_often_as_its_weight_asks_give_or_take_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weights = torch.rand(50, generator=generator, dtype=torch.float64) * 4 + 0.1
        drawn = resample(weights, generator, torch.arange(50))
        counts = torch.bincount(drawn, minlength=50)
        assert counts.sum() == 50
        assert ((counts - 50 * weights / weights.sum()).abs() < 1).all()


def test_evaluation_sees_every_image_once_unaugmented_in_order(data: Path) -> None:
    split = coco.read(data, "val")
    samples = Samples(split, height=96, width=128, letterbox=True, cache_mb=64)
    found = list(in_order(samples, batch_size=3))
    assert [len(batch.instances) for batch in found] == [3, 3, 2]
    for record, instances in zip(
        split.records, [i for b in found for i in b.instances], strict=True
    ):
        assert torch.equal(instances.boxes, torch.from_numpy(record.boxes))


def test_an_image_lost_while_training_is_one_line_with_workers_too(own_data: Path) -> None:
    split = coco.read(own_data, "train")
    for record in split.records:
        record.file.unlink()
    for workers in (0, 1):
        with pytest.raises(UserError) as error:
            batches(split, workers, epochs=1)
        assert "\n" not in str(error.value) and str(error.value).endswith("no such file")


def test_a_thousand_objects_and_none_at_all_pass_through(data: Path) -> None:
    split = coco.read(data, "train")
    corners = np.random.default_rng(0).uniform(0, (120, 88), (1000, 2)).astype(np.float32)
    counts = {0: 1000, 1: 0}
    records = [
        replace(
            split.records[index],
            boxes=np.hstack([corners, corners + 8])[:count],
            labels=np.zeros(count, np.int64),
            areas=np.full(count, 64.0),
            crowd=np.zeros(count, bool),
        )
        for index, count in counts.items()
    ]
    values = Config().augment.model_dump() | {"mosaic_p": 0.5, "cutout_p": 0.5}
    samples = Samples(replace(split, records=tuple(records)), height=96, width=128, letterbox=True,
                      cache_mb=64, augmenter=Augmenter(**values))  # fmt: skip
    (plain,) = in_order(samples, batch_size=2)
    assert plain.counts == [1000, 0]
    for seed in range(4):
        for index in (0, 1):
            image, instances, _ = samples[Draw(index, seed)]
            assert image.shape == (3, 96, 128)
            assert instances.boxes.shape == (len(instances.labels), 4)
    alone = replace(split, records=(records[1],) * 2)
    samples = Samples(alone, height=96, width=128, letterbox=True, cache_mb=0,
                      augmenter=Augmenter(**values))  # fmt: skip
    order = Order(alone, batch_size=2, balance=0, seed=0)
    (batch,) = training_loader(samples, order, workers=0)
    assert batch.counts == [0, 0] and batch.boxes.shape == (0, 4)


@pytest.mark.parametrize("side", [0.0, 2.5e-4, 3e-3, 0.5])
def test_boxes_as_thin_as_float32_can_tell_pass_through(data: Path, side: float) -> None:
    split = coco.read(data, "train")
    corners = np.random.default_rng(0).uniform(0, (120, 88), (50, 2)).astype(np.float32)
    boxes = np.hstack([corners, np.nextafter(corners, np.float32(999)) + np.float32(side)])
    record = replace(
        split.records[0], boxes=boxes, labels=np.zeros(50, np.int64), crowd=np.zeros(50, bool)
    )
    samples = Samples(replace(split, records=(record,)), height=60, width=52, letterbox=True,
                      cache_mb=64, augmenter=Augmenter(**Config().augment.model_dump()))  # fmt: skip
    for seed in range(5):
        _, instances, _ = samples[Draw(0, seed)]
        boxes = instances.boxes
        assert instances.labels.shape == (len(boxes),) and (boxes[:, 2:] > boxes[:, :2]).all()


def test_batches_with_defaults_are_what_they_were(data: Path) -> None:
    """Another digest is another training: a change that wants one says so in CHANGELOG.md."""
    import hashlib

    found = hashlib.sha256()
    for batch in batches(coco.read(data, "train"), 0):
        for part in (batch.images, batch.boxes, batch.labels):
            found.update(part.numpy().tobytes())
    assert found.hexdigest()[:16] == "df6a1e64ce1207fc"
