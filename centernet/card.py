"""The data card of a data set: its facts as JSON, and as one picture."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from centernet.dataset import images
from centernet.dataset.card import WANTED, at_network, facts
from centernet.dataset.split import Problem, Record, Split
from centernet.draw import GAP, boxes_on, legend
from centernet.errors import UserError, counted, one_line
from centernet.structures import Instances
from centernet.style import AMBER, STYLE

WIDTH = 1400  # pixels of the picture
SAMPLES = 6  # images shown
SIDE = (WIDTH - GAP) // SAMPLES - GAP  # pixels, the longer side of each
SHADES = ("#1f4e79", "#5b9bd5", "#bdd7ee")  # train, val, test
SHOWN = 30  # classes in the bar chart, the most frequent
OWN = STYLE | {"font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold"}


def data_card(
    splits: Sequence[Split],
    problems: Sequence[Problem] = (),
    *,
    height: int,
    width: int,
    letterbox: bool,
    stride: int = 4,
) -> tuple[dict[str, Any], bytes]:
    """What is in a data set, as plain JSON and as a PNG; the first split is the one that trains.

    height, width, letterbox: of the network input, and stride: of its map, that sizes are stated
    for; lost objects are stated for every stride.
    """
    found = facts(splits, problems, height=height, width=width, letterbox=letterbox, stride=stride)
    seen = at_network(splits[0], height=height, width=width, letterbox=letterbox)
    return found, picture(found, splits, seen)


def picture(card: dict[str, Any], splits: Sequence[Split], seen: list[Instances]) -> bytes:
    """Class bars, sizes against the stride, aspect ratios, centres, and some images, as a PNG."""
    boxes = np.concatenate([np.empty((0, 4)), *(one.boxes.numpy() for one in seen)])
    rows = charts(card, boxes), sample_images(splits[0])
    sheet = Image.new("RGB", (WIDTH, sum(row.height for row in rows)), "white")
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def charts(card: dict[str, Any], boxes: np.ndarray) -> Image.Image:
    """The four charts, beside each other; boxes[N, 4] in network pixels."""
    with mpl.rc_context(OWN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font does not have
        figure = Figure(figsize=(WIDTH / 100, 3.8), dpi=100)
        axes = figure.subplots(1, 4, width_ratios=(1.25, 1.2, 1, 1))
        figure.subplots_adjust(left=0.1, right=0.985, top=0.92, bottom=0.13, wspace=0.17)
        class_bars(axes[0], card)
        size_histogram(axes[1], card, boxes)
        aspect_histogram(axes[2], boxes)
        centre_map(axes[3], card, boxes)
        stream = io.BytesIO()
        figure.savefig(stream, format="raw", facecolor="white")
        W, H = figure.canvas.get_width_height()
    return Image.frombuffer("RGBA", (W, H), stream.getvalue()).convert("RGB")


def class_bars(axes: Axes, card: dict[str, Any]) -> None:
    """Boxes of each class, a shade for each split."""
    every = sorted(card["classes"], key=lambda one: -sum(one["boxes"].values()))
    rows = every[:SHOWN]
    left = np.zeros(len(rows))
    for shade, split in zip(SHADES, card["splits"], strict=False):
        counts = np.array([one["boxes"].get(split, 0) for one in rows])
        axes.barh(range(len(rows)), counts, left=left, color=shade, label=split)
        left += counts
    names = [one_line(one["name"])[:20] for one in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9 if len(rows) < 15 else 6)
    axes.invert_yaxis()
    for index, total in enumerate(left):
        axes.text(total, index, f" {int(total)}", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.legend(frameon=False, loc="lower right")
    more = f" (the first {SHOWN} of {len(every)})" if len(every) > SHOWN else ""
    axes.set_title(f"boxes of each class{more}")


def size_histogram(axes: Axes, card: dict[str, Any], boxes: np.ndarray) -> None:
    """Sizes on a log axis, against one cell and against what is wanted."""
    network, stride = card["network"], card["network"]["stride"]
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    if len(sides):
        low, high = min(sides.min(), stride) * 0.9, max(sides.max(), WANTED * stride) * 1.1
        axes.hist(sides, bins=np.geomspace(low, high, 40).tolist(), color=SHADES[1])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    top = axes.get_ylim()[1]
    for pixels, text in ((stride, "1 cell"), (WANTED * stride, f"{WANTED} cells")):
        axes.axvline(pixels, color=AMBER, linewidth=1.2, linestyle="--")
        axes.text(pixels, top, f" {text}", color=AMBER, va="top", fontsize=8)
    axes.set_xlabel(f"sqrt(w·h), pixels at {network['width']} x {network['height']}")
    axes.set_title("box sizes (train)")


def aspect_histogram(axes: Axes, boxes: np.ndarray) -> None:
    """Width over height, on a log axis."""
    sides = boxes[:, 2:] - boxes[:, :2]
    ratios = np.log2(sides[:, 0] / sides[:, 1])
    axes.hist(ratios.clip(-3, 3), bins=np.linspace(-3, 3, 37).tolist(), color=SHADES[1])
    axes.set_xticks(range(-3, 4), ["1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "8:1"])
    axes.set_xlabel("width : height, at network size")
    axes.set_title("aspect ratios (train)")


def centre_map(axes: Axes, card: dict[str, Any], boxes: np.ndarray) -> None:
    """How often a centre lies where, in the network input."""
    height, width = card["network"]["height"], card["network"]["width"]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    bins = max(round(24 * height / width), 1), 24
    counts, _, _ = np.histogram2d(
        centres[:, 1], centres[:, 0], bins=bins, range=((0, height), (0, width))
    )
    axes.imshow(counts, extent=(0, width, height, 0), cmap="viridis")
    axes.set_title("centres (train), at network size")


def sample_images(train: Split) -> Image.Image:
    """Some images with their boxes, spread over the split, and what the colours mean."""
    count = min(SAMPLES, len(train))
    indices = np.unique(np.linspace(0, len(train) - 1, count).round().astype(int)).tolist()
    tiles = [sample(train.records[index], train.classes) for index in indices]
    strip = Image.new("RGB", (WIDTH, 64), "white")
    head = legend(strip, train.classes, f"{train.name}: {count} of {counted(len(train), 'image')}")
    height = max((tile.height for tile in tiles), default=0)
    row = Image.new("RGB", (WIDTH, head.height + height + GAP), "white")
    row.paste(head)
    for index, tile in enumerate(tiles):
        row.paste(tile, (GAP + index * (SIDE + GAP), head.height))
    return row


def sample(record: Record, classes: Sequence[str]) -> Image.Image:
    """A small picture with its boxes, or a grey one for an image that cannot be read."""
    try:
        image = images.load(record.file, (record.height, record.width))
    except UserError:
        return Image.new("RGB", (SIDE, SIDE), "lightgrey")
    truth = torch.from_numpy(record.boxes), torch.from_numpy(record.labels)
    return boxes_on(image, *truth, ("",) * len(classes), side=SIDE)
