"""Pictures: boxes on images, detections beside the truth."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from centernet.dataset import images
from centernet.dataset.split import Record, Split
from centernet.predict import Detector
from centernet.structures import Detections

SHOWN = 0.3  # detections below this score are not drawn; they are still detections
TILE = 320  # pixels, the longer side of a picture in a sheet


def colour(label: int, classes: int) -> tuple[int, int, int]:
    """A bright colour, far from those of the other classes."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label / max(classes, 1)) % 1, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def boxes_on(
    image: NDArray[np.uint8],
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    scores: Tensor | None = None,
    *,
    side: int | None = None,
) -> Image.Image:
    """image[H, W, 3] with boxes[N, 4] xyxy, class names and, where given, scores.

    side: length of the longer side of the result; by default that of the image.
    """
    picture = Image.fromarray(image)
    scale = side / max(picture.size) if side else 1.0
    picture = picture.resize([max(round(length * scale), 1) for length in picture.size])
    line = max(round(max(picture.size) / 250), 2)
    height = max(max(picture.size) / 30, 10)
    font = ImageFont.load_default(size=height)
    pen = ImageDraw.Draw(picture)
    for index, (box, label) in enumerate(
        zip((boxes * scale).tolist(), labels.tolist(), strict=True)
    ):
        tint = colour(label, len(classes))
        pen.rectangle(
            (*box[:2], max(box[2], box[0]), max(box[3], box[1])), outline=tint, width=line
        )
        text = classes[label] + (f" {scores[index]:.2f}" if scores is not None else "")
        corner = (box[0], max(box[1] - height * 1.3, 0))
        pen.rectangle(pen.textbbox(corner, text, font=font), fill=tint)
        pen.text(corner, text, fill="black", font=font)
    return picture


def detections_on(
    image: NDArray[np.uint8],
    found: Detections,
    classes: Sequence[str],
    *,
    shown: float = SHOWN,
    side: int | None = None,
) -> Image.Image:
    """The image with the detections that score at least `shown`."""
    keep = found.scores >= shown
    return boxes_on(
        image, found.boxes[keep], found.labels[keep], classes, found.scores[keep], side=side
    )


def beside_truth(detector: Detector, split: Split, *, count: int = 6) -> bytes:
    """A PNG sheet of `count` images spread over a split: truth left, detections right."""
    indices = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int))
    pairs = [_pair(detector, split.records[index], split.classes) for index in indices]
    header = 24
    width = 2 * TILE + 24
    height = header + sum(left.height + 8 for left, _ in pairs)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    pen.text((8, 4), "truth", fill="black", font=font)
    pen.text((TILE + 16, 4), f"detections (score >= {SHOWN})", fill="black", font=font)
    y = header
    for left, right in pairs:
        sheet.paste(left, (8, y))
        sheet.paste(right, (TILE + 16, y))
        y += left.height + 8
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _pair(
    detector: Detector, record: Record, classes: Sequence[str]
) -> tuple[Image.Image, Image.Image]:
    image = images.load(record.file, (record.height, record.width))
    truth = Tensor(record.boxes), Tensor(record.labels).long()
    return (
        boxes_on(image, *truth, classes, side=TILE),
        detections_on(image, detector(image), classes, side=TILE),
    )
