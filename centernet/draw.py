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
from centernet.errors import one_line
from centernet.predict import Detector
from centernet.structures import Detections, Instances

SHOWN = 0.3  # lowest score drawn; what is below is still a detection
TILE = 320  # pixels, the longer side of a picture in a sheet
GAP = 8  # pixels between them


def colour(label: int, classes: int) -> tuple[int, int, int]:
    """A bright colour, far from those of the other classes."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label / max(classes, 1)) % 1, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def readable_on(tint: tuple[int, int, int]) -> str:
    """Black on what looks bright, white on what looks dark (luma of ITU-R BT.601)."""
    red, green, blue = tint
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else "white"


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
    every = list(zip((boxes * scale).tolist(), labels.tolist(), strict=True))
    for box, label in every:
        corners = (*box[:2], max(box[2], box[0]), max(box[3], box[1]))
        pen.rectangle(corners, outline=colour(label, len(classes)), width=line)
    for index, (box, label) in reversed(list(enumerate(every))):  # the best lie on top
        text = one_line(classes[label]) + (f" {scores[index]:.2f}" if scores is not None else "")
        tint, width = colour(label, len(classes)), pen.textlength(text, font=font)
        corner = (max(min(box[0], picture.width - width), 0), max(box[1] - height * 1.3, 0))
        pen.rectangle(pen.textbbox(corner, text, font=font), fill=tint)
        pen.text(corner, text, fill=readable_on(tint), font=font)
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


def batch_sheet(
    pictures: NDArray[np.uint8],
    truth: Sequence[Instances],
    heatmap: NDArray[np.float32],
    classes: Sequence[str],
    *,
    caption: str = "",
) -> Image.Image:
    """A batch as the network sees it: images with boxes, and beside each its target heatmap.

    pictures[B, H, W, 3] at network size; heatmap[B, C, h, w], 0...1: each class in its colour.
    """
    columns = 2 if len(pictures) <= 8 else 3
    tiles = [
        (
            boxes_on(image, one.boxes, one.labels, ("",) * len(classes), side=TILE),
            heatmap_on(image, peaks, side=TILE),
        )
        for image, one, peaks in zip(pictures, truth, heatmap, strict=True)
    ]
    w, h = tiles[0][0].size
    top = legend(Image.new("RGB", (columns * 2 * (w + GAP) + GAP, 64), "white"), classes, caption)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (top.width, top.height + rows * (h + GAP)), "white")
    sheet.paste(top)
    for index, pair in enumerate(tiles):
        y = top.height + index // columns * (h + GAP)
        for side, tile in enumerate(pair):
            sheet.paste(tile, (GAP + (index % columns * 2 + side) * (w + GAP), y))
    return sheet


def legend(strip: Image.Image, classes: Sequence[str], caption: str) -> Image.Image:
    """Write a caption and the classes in their colours on the strip, as far as they fit."""
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=14)
    pen.text((GAP, 8), caption, fill="black", font=font)
    x: float = GAP
    for label, name in enumerate(map(one_line, classes)):
        width = pen.textlength(name, font=font) + 28
        if x + width > strip.width:
            break
        pen.rectangle((x, 36, x + 14, 50), fill=colour(label, len(classes)))
        pen.text((x + 19, 34), name, fill="black", font=font)
        x += width + 8
    return strip


def heatmap_on(image: NDArray[np.uint8], heatmap: NDArray[np.float32], *, side: int) -> Image.Image:
    """image[H, W, 3] in dark grey under heatmap[C, h, w], 0...1, each class in its colour."""
    classes = len(heatmap)
    tints = np.array([colour(label, classes) for label in range(classes)], np.float32)
    strength = heatmap.max(0)[..., None]
    tint = tints[heatmap.argmax(0)] * strength + 110 * (strength == 1)  # a peak is pale
    H, W = image.shape[:2]
    layers = [
        Image.fromarray(layer.clip(0, 255).astype(np.uint8)).resize(
            (W, H), Image.Resampling.NEAREST
        )
        for layer in (tint, np.repeat(strength * 255, 3, 2))
    ]
    grey = Image.fromarray(image).convert("L").convert("RGB").point(lambda value: value * 0.55)
    picture = Image.composite(layers[0], grey, layers[1].convert("L"))
    scale = side / max(picture.size)
    return picture.resize([max(round(length * scale), 1) for length in picture.size])


def _pair(
    detector: Detector, record: Record, classes: Sequence[str]
) -> tuple[Image.Image, Image.Image]:
    image = images.load(record.file, (record.height, record.width))
    truth = Tensor(record.boxes), Tensor(record.labels).long()
    return (
        boxes_on(image, *truth, classes, side=TILE),
        detections_on(image, detector(image), classes, side=TILE),
    )
