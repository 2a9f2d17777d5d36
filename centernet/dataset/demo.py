"""The embedded data set: real handwritten digits on crops of two photographs.

Everything comes with scikit-learn: `load_digits` (UCI optical recognition, 8x8 grey) and
`load_sample_images` (china.jpg, flower.jpg). Digits and regions of the photographs are disjoint
between train, val and test, so val measures what it should.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from centernet.scratch import scratch_folder
from centernet.seed import key

CLASSES = {0: "zero", 1: "one", 4: "four"}
FREQUENCIES = (0.6, 0.25, 0.15)  # a long tail
IMAGES = {"train": 400, "val": 100, "test": 100}
HEIGHT, WIDTH = 96, 128  # pixels, not square
SIDES = (16, 48)  # pixels, of a digit, drawn on a log scale
OVERLAP = 0.1  # largest IoU of two objects
VERSION = 1  # raise it when anything here changes


def demo_folder(runs: Path) -> Path:
    """The demo data under `runs`, written first if it is not there; safe against kill -9."""
    folder = runs / f"demo-data-{VERSION}"
    if not folder.is_dir():
        runs.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".demo-data-", runs) as scratch:
            (scratch / folder.name).mkdir()
            generate(scratch / folder.name)
            try:
                (scratch / folder.name).rename(folder)
            except OSError:  # another process was faster; its files are the same
                if not folder.is_dir():
                    raise
    return folder


def generate(folder: Path, counts: Mapping[str, int] = IMAGES) -> None:
    """Write images/ and the three COCO files, of so many images: the same bytes every time."""
    from sklearn.datasets import load_digits, load_sample_images

    digits, photographs = load_digits(), load_sample_images().images
    (folder / "images").mkdir()
    for part, (split, count) in enumerate(counts.items()):
        # 3/5, 1/5 and 1/5 of the digits of a class; a third of the photographs' width each
        pools = [_share(digits.images[digits.target == digit], part) for digit in CLASSES]
        regions = [np.array_split(photo, 3, axis=1)[part] for photo in photographs]
        random = np.random.default_rng(key("demo", split))
        tree = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES.values())],
        }
        for number in range(count):
            image, boxes, labels = compose(random, pools, regions)
            _add(tree, folder, f"{split}-{number:04d}.jpg", image, boxes, labels)
        (folder / f"{split}.json").write_text(json.dumps(tree))


def _share(digits: NDArray[np.float64], part: int) -> NDArray[np.float64]:
    fifths = np.arange(len(digits)) % 5  # 0, 1, 2 to train, 3 to val, 4 to test
    chosen: NDArray[np.float64] = digits[np.maximum(fifths - 2, 0) == part]
    return chosen


def compose(
    random: np.random.Generator,
    pools: list[NDArray[np.float64]],
    regions: list[NDArray[np.uint8]],
) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]], list[int]]:
    """One picture: a crop with 1 to 6 digits; boxes xywh tight around the ink, and labels."""
    region = regions[random.integers(len(regions))]
    zoom = random.uniform(1.0, 1.5)
    h, w = int(HEIGHT * zoom), int(WIDTH * zoom)
    y, x = random.integers(region.shape[0] - h), random.integers(region.shape[1] - w)
    crop = cv2.resize(region[y : y + h, x : x + w], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    canvas = crop.astype(np.float64)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(random.integers(1, 7)):
        label = int(random.choice(len(pools), p=FREQUENCIES))
        ink = _ink(random, pools[label])
        h, w = ink.shape
        for _ in range(20):  # tries to find room
            x, y = int(random.integers(WIDTH - w)), int(random.integers(HEIGHT - h))
            if all(_iou((x, y, w, h), other) <= OVERLAP for other in boxes):
                colour = _contrast(random, canvas[y : y + h, x : x + w])
                patch = canvas[y : y + h, x : x + w]
                patch += ink[..., None] * (colour - patch)
                boxes.append((x, y, w, h))
                labels.append(label)
                break
    return canvas.round().clip(0, 255).astype(np.uint8), boxes, labels


def _ink(random: np.random.Generator, pool: NDArray[np.float64]) -> NDArray[np.float64]:
    """Opacity[h, w] of a random digit at a random scale, cropped to what is visible."""
    digit = pool[random.integers(len(pool))] / 16
    side = int(np.exp(random.uniform(*np.log(SIDES))))
    grey = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC)
    ink = ((grey - 0.2) / 0.3).clip(0, 1)  # solid strokes with soft edges
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    visible: NDArray[np.float64] = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return visible


def _contrast(random: np.random.Generator, patch: NDArray[np.float64]) -> NDArray[np.float64]:
    """A light colour on a dark patch, a dark one on a light patch."""
    low, high = (190, 256) if patch.mean() < 128 else (0, 66)
    return random.uniform(low, high, 3)


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two xywh boxes."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _add(
    tree: dict[str, list[dict[str, object]]],
    folder: Path,
    name: str,
    image: NDArray[np.uint8],
    boxes: list[tuple[int, int, int, int]],
    labels: list[int],
) -> None:
    """Write one image and its rows."""
    Image.fromarray(image).save(folder / "images" / name, quality=95)
    id = len(tree["images"]) + 1
    tree["images"].append({"id": id, "file_name": name, "width": WIDTH, "height": HEIGHT})
    for box, label in zip(boxes, labels, strict=True):
        tree["annotations"].append({
            "id": len(tree["annotations"]) + 1,
            "image_id": id,
            "category_id": label + 1,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        })  # fmt: skip
