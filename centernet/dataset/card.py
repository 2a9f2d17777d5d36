"""The data card: what is in a data set, as the network will see it. Plain JSON, no pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from centernet.dataset import duplicates
from centernet.dataset.split import Problem, Record, Split
from centernet.encode import on_the_map
from centernet.geometry import fit, to_network
from centernet.structures import Instances

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LISTED = 200  # pairs of near-duplicates that are named; all are counted
SEARCHED = 20_000  # images; near-duplicates of more are not looked for
STRIDES = (2, 4, 8)  # pixels of a cell, that lost objects are counted for: those of model.stride
WANTED = 4  # cells on the shorter side of a box, for
SHARE = 0.05  # all boxes but these
STEP = 32  # pixels; the network input's sides are multiples
LIMITS = (64, 4096)  # pixels of a side
RULE = (
    f"the smallest size, in steps of {STEP} and of the median image's shape and at most its size, "
    f"at which all but {SHARE:.0%} of the boxes have {WANTED} cells on their shorter side"
)


def facts(
    splits: Sequence[Split],
    problems: Sequence[Problem],
    *,
    height: int,
    width: int,
    letterbox: bool,
    stride: int,
) -> dict[str, Any]:
    """The card of some splits, the first of which trains, at a network input of height x width."""
    train = splits[0]
    seen = [at_network(split, height=height, width=width, letterbox=letterbox) for split in splits]
    sides = np.concatenate([one.boxes.numpy() for one in seen[0]]) if seen[0] else np.empty((0, 4))
    return {
        "network": {
            "height": height,
            "width": width,
            "resize": "letterbox" if letterbox else "stretch",
            "stride": stride,
        },
        "splits": {split.name: of_split(split) for split in splits},
        "classes": classes(splits),
        "imbalance": imbalance(train),
        "boxes": sizes(sides[:, 2:] - sides[:, :2], stride=stride),
        "lost": {
            split.name: {
                str(one): lost(instances, height=height, width=width, stride=one) for one in STRIDES
            }
            for split, instances in zip(splits, seen, strict=True)
        },
        "suggested": suggested(train, stride=stride),
        "duplicates": near_duplicates(splits),
        "defects": [
            {"place": one.place, "rule": one.rule, "fatal": one.fatal, "kind": one.kind}
            for one in problems
        ],
    }


def at_network(split: Split, *, height: int, width: int, letterbox: bool) -> list[Instances]:
    """The objects that are trained on, in pixels of the network input."""
    found = []
    for record in split.records:
        placement = fit((record.height, record.width), (height, width), letterbox=letterbox)
        boxes = torch.from_numpy(record.boxes[~record.crowd])
        labels = torch.from_numpy(record.labels[~record.crowd])
        found.append(Instances(to_network(boxes, placement), labels))
    return found


def of_split(split: Split) -> dict[str, Any]:
    """Counts, sizes and the fingerprint."""
    images = np.array([(record.height, record.width) for record in split.records])
    H, W = np.median(images, axis=0).astype(int).tolist() if len(images) else (0, 0)
    return {
        "images": len(split),
        "boxes": int(split.frequencies().sum()),
        "crowds": int(sum(record.crowd.sum() for record in split.records)),
        "empty_images": sum(not len(record.labels) for record in split.records),
        "boxes_at_most": max((len(record.labels) for record in split.records), default=0),
        "boxes_given_twice": sum(map(repeated, split.records)),
        "median_height": H,
        "median_width": W,
        "fingerprint": split.fingerprint,
    }


def repeated(record: Record) -> int:
    """Boxes that are there once more, with the same class."""
    rows = np.column_stack([record.labels, record.boxes])
    return len(rows) - len(np.unique(rows, axis=0))


def classes(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """Boxes of each class of the first split, in each split, and their usual size there."""
    train = splits[0]
    objects = [
        (record.boxes[~record.crowd], record.labels[~record.crowd]) for record in train.records
    ]
    boxes = np.concatenate([np.empty((0, 4)), *(boxes for boxes, _ in objects)])
    labels = np.concatenate([np.empty(0, np.int64), *(labels for _, labels in objects)])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    total = max(len(labels), 1)
    return [
        {
            "name": name,
            "boxes": {
                split.name: int(split.frequencies()[index])
                for split in splits
                if len(split.classes) > index
            },
            "share": round(float((labels == index).sum()) / total, 4),
            "median_side": quantiles(sides[labels == index], (0.5,))[0],
        }
        for index, name in enumerate(train.classes)
    ]


def imbalance(train: Split) -> float | None:
    """Boxes of the most frequent class for each of the rarest; none if a class has no box."""
    counts = train.frequencies()
    return round(float(counts.max() / counts.min()), 2) if counts.min() else None


def sizes(sides: NDArray[Any], *, stride: int) -> dict[str, Any]:
    """Sizes of training boxes, sides[N, 2], in network pixels and in cells."""
    root = np.sqrt(sides.prod(1))
    aspect = sides[:, 0] / sides[:, 1]
    return {
        "quantiles": list(QUANTILES),
        "side_pixels": quantiles(root),
        "side_cells": quantiles(root / stride),
        "aspect": quantiles(aspect),
        "below_a_cell": int((sides.min(1) < stride).sum()) if len(sides) else 0,
        "below_wanted": int((sides.min(1) < WANTED * stride).sum()) if len(sides) else 0,
        "count": len(sides),
    }


def lost(instances: list[Instances], *, height: int, width: int, stride: int) -> dict[str, int]:
    """Objects that share their centre's cell, by `encode`'s rule, at this size.

    of_class: with another of their class: one peak is all that both have; of_any: with any other:
    the smaller one has the cell's size and offset.
    """
    if not instances:
        return {"of_class": 0, "of_any": 0, "outside": 0}
    objects = on_the_map(instances, h=height // stride, w=width // stride, stride=stride)
    image, label = objects.image[:, None], objects.label[:, None]
    cell = objects.cell.long()
    count = len(objects.label)
    return {
        "of_class": count - len(torch.unique(torch.cat([image, label, cell], 1), dim=0)),
        "of_any": count - len(torch.unique(torch.cat([image, cell], 1), dim=0)),
        "outside": sum(len(one.labels) for one in instances) - count,
    }


def suggested(train: Split, *, stride: int) -> dict[str, Any]:
    """The network input that RULE asks for."""
    boxes = [record.boxes[~record.crowd] for record in train.records]
    shorter = np.concatenate(
        [(one[:, 2:] - one[:, :2]).min(1) for one in boxes if len(one)] or [[]]
    )
    if not len(shorter):
        return {"height": None, "width": None, "rule": RULE}
    shape = np.median([(record.height, record.width) for record in train.records], axis=0)
    scale = min(WANTED * stride / float(np.quantile(shorter, SHARE)), 1.0)
    steps = np.ceil((shape * scale).round(3) / STEP) * STEP
    height, width = steps.clip(*LIMITS).astype(int).tolist()
    return {"height": height, "width": width, "rule": RULE}


def near_duplicates(splits: Sequence[Split]) -> dict[str, Any]:
    """Counts of near-duplicate pairs, and the nearest of them, those across splits first."""
    if sum(map(len, splits)) > SEARCHED:
        return {"searched": False, "within": None, "across": None, "pairs": []}
    found = duplicates.search(splits, listed=LISTED)
    return {
        "searched": True,
        "bits": duplicates.NEAR,
        "within": found.within,
        "across": found.across,
        "pairs": [
            {
                "images": [
                    {"split": split, "id": record.id, "file": record.file.name}
                    for split, record in (pair.left, pair.right)
                ],
                "bits": pair.bits,
                "mirrored": pair.mirrored,
            }
            for pair in found.nearest
        ],
    }


def quantiles(values: NDArray[Any], at: Sequence[float] = QUANTILES) -> list[float | None]:
    """Of values[N]; none where there is no value."""
    if not len(values):
        return [None] * len(at)
    return [round(float(value), 2) for value in np.quantile(values, at)]
