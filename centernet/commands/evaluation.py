"""centernet evaluate: COCO numbers of a weights file on a split."""

import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from centernet import evaluate as coco_metrics
from centernet.dataset import coco, images
from centernet.errors import UserError, one_line
from centernet.predict import Detector
from centernet.train import choose_device


def evaluate(options: argparse.Namespace) -> int:
    """Print all COCO numbers of a weights file on a split."""
    detector = Detector.load(options.weights, device=choose_device(options.device).type)
    split = coco.read(options.data, options.split)
    if split.classes != detector.classes:
        ours, theirs = ", ".join(detector.classes), ", ".join(split.classes)
        raise UserError(f"{options.weights}: its classes are {ours}; the data has {theirs}")
    console = Console()
    shown = track(split.records, "evaluating", console=console, transient=True)
    found = [detector(images.load(r.file, (r.height, r.width))) for r in shown]
    table = Table("metric", "value", box=None)
    for name, value in coco_metrics.evaluate(found, split).items():
        table.add_row(Text(one_line(name)), f"{value:.2f}")
    print(f"{options.data}, {split.name}: {len(split)} images")
    console.print(table)
    return 0
