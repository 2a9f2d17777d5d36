"""centernet evaluate: COCO numbers of a weights file on a split, and what its errors are."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from centernet import style
from centernet.breakdown import KINDS, Breakdown, breakdown
from centernet.checkpoint import write_bytes
from centernet.commands.detectors import detect_split, open_finder
from centernet.confusion import IOU, confusion
from centernet.dataset import coco
from centernet.dataset.split import Split
from centernet.errors import UserError, counted, one_line
from centernet.evaluate import Accumulated, accumulate, check_evaluator, class_rows, summary
from centernet.structures import Detections

PRECISIONS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
RECALLS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is known about a detector on a split."""

    split: Split
    accumulated: Accumulated
    numbers: dict[str, float]
    classes: list[dict[str, Any]]
    errors: Breakdown
    matrix: NDArray[np.int64]
    score: float


def evaluate(options: argparse.Namespace) -> int:
    """Print the numbers; with `--output` also write them, with charts."""
    check_evaluator(options.evaluator)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)  # now: it may not be allowed
    finder = open_finder(
        options.weights, device=options.device, flip=options.flip, scales=options.scales
    )
    split = coco.read(options.data, options.split, options.follow_links)
    if split.classes != finder.classes:
        ours, theirs = ", ".join(finder.classes), ", ".join(split.classes)
        raise UserError(f"{options.weights}: its classes are {ours}; the data has {theirs}")
    found = list(detect_split(finder, split, batch=options.batch))
    answer = assess(found, split, evaluator=options.evaluator, score=options.score)
    objects = counted(sum(row["objects"] for row in answer.classes), "object")
    print(f"{options.data}, {split.name}: {counted(len(split), 'image')}, {objects}")
    console = style.console()
    for table in (number_table(answer), class_table(answer), error_table(answer)):
        console.print()
        console.print(table)
    if options.output:
        write(options.output, answer, how=settings(options))
        print(f"\n{options.output}: metrics.json, precision-recall.png, confusion.png, errors.png")
    return 0


def assess(found: Sequence[Detections], split: Split, *, evaluator: str, score: float) -> Answer:
    """Every number about detections, one for each record of the split."""
    accumulated = accumulate(found, split, evaluator=evaluator)
    return Answer(
        split,
        accumulated,
        summary(accumulated, split.classes),
        class_rows(accumulated, split),
        breakdown(found, split, score=score),
        confusion(found, split, score=score),
        score,
    )


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on, beside the data."""
    return {
        "weights": str(options.weights),
        "evaluator": options.evaluator,
        "flip": options.flip,
        "scales": list(options.scales),
    }


def number_table(answer: Answer) -> Table:
    """The 12 COCO numbers, six a row."""
    table = plain("", "IoU .5:.95", "IoU .5", "IoU .75", "small", "medium", "large")
    table.add_row("AP", *(number(answer.numbers.get(name)) for name in PRECISIONS))
    detections = ("1 detection", "10", "100", "small", "medium", "large")
    table.add_row("", *detections, style="bold")
    table.add_row("AR", *(number(answer.numbers.get(name)) for name in RECALLS))
    return table


def class_table(answer: Answer) -> Table:
    """A row for each class."""
    shown = ("AP", "AP50", "AP75", "AR100")
    table = plain("class", *shown, "objects")
    for row in answer.classes:
        values = [number(row[name]) for name in shown]
        table.add_row(Text(one_line(row["class"])), *values, str(row["objects"]))
    return table


def error_table(answer: Answer) -> Table:
    """A row for each kind of error."""
    table = plain("error", "dAP50", f"count (score >= {answer.score:g})")
    for kind in KINDS:
        table.add_row(kind, f"{answer.errors.dap[kind]:+.1f}", str(answer.errors.errors[kind]))
    return table


def plain(first: str, *numbers: str) -> Table:
    """A table of numbers under their names."""
    table = Table(first, box=None)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def number(value: float | None) -> str:
    """A percentage; what COCO leaves undefined is a dash."""
    return "-" if value is None else f"{value:.1f}"


def write(folder: Path, answer: Answer, *, how: dict[str, Any]) -> None:
    """Put metrics.json and three charts in a folder."""
    from centernet import charts  # late: matplotlib takes a second

    split, score = answer.split, answer.score
    pictures = {
        "precision-recall.png": charts.precision_recall(answer.accumulated, split.classes),
        "confusion.png": charts.confusion_matrix(
            answer.matrix, split.classes, score=score, iou=IOU
        ),
        "errors.png": charts.error_breakdown(answer.errors),
    }
    for name, content in pictures.items():
        write_bytes(folder / name, content)
    text = json.dumps(how | as_tree(answer), indent=2, ensure_ascii=False) + "\n"
    write_bytes(folder / "metrics.json", text.encode())


def as_tree(answer: Answer) -> dict[str, Any]:
    """An answer as plain JSON."""
    split = answer.split
    return {
        "split": split.name,
        "images": len(split),
        "fingerprint": split.fingerprint,
        "metrics": answer.numbers,
        "classes": answer.classes,
        "errors": asdict(answer.errors),
        "confusion": {
            "score": answer.score,
            "iou": IOU,
            "names": [*split.classes, "background"],
            "counts": answer.matrix.tolist(),
        },
        "precision": {  # at IoU 0.5 and recalls 0, 0.01 ... 1
            name: answer.accumulated.precision[0, :, index, 0, -1].round(6).tolist()
            for index, name in enumerate(split.classes)
        },
    }
