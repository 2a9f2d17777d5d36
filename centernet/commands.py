"""What the commands of cli.py do; imported only once one of them runs."""

import argparse
import json
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from centernet import draw
from centernet import evaluate as coco_metrics
from centernet import train as training
from centernet.config import flatten, load, parse_overrides, resolve
from centernet.dataset import coco, images
from centernet.dataset.demo import demo_folder
from centernet.dataset.split import Problem, Split, check_disjoint
from centernet.errors import UserError, one_line
from centernet.predict import Detector
from centernet.structures import Detections, Epoch
from centernet.train import choose_device

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
CHECKED = 16  # images on which an export is compared


def train(options: argparse.Namespace) -> int:
    """Train a detector, or continue; every epoch goes to the screen and the logger."""
    from centernet.logs import LOGGERS

    config = load(options.config, parse_overrides(options.set))
    if config.data.folder is None:
        demo = str(demo_folder(Path("runs")))
        config = resolve(flatten(config.model_dump()) | {"data.folder": demo})
    name = f"{Path(options.config).stem}-{Path(str(config.data.folder)).resolve().name}"
    folder: Path = options.output or Path("runs/train") / name
    print(f"{name} -> {folder}{skipped(Path(str(config.data.folder)))}", flush=True)
    best: Epoch | None = None
    with (
        LOGGERS[options.log](config, folder) as log,
        closing(training.train(config, folder)) as epochs,
    ):
        for epoch in epochs:
            log(epoch)
            best = epoch if epoch.best else best
            print(line(epoch, config.train.epochs), flush=True)
    assert best is not None, "the last epoch is always evaluated"
    weights = folder / training.BEST
    print(f"Best: epoch {best.number}, {numbers(best.metrics)}\nWeights: {weights}")
    print(f"Next: centernet predict --weights {weights} IMAGE ...")
    return 0


def skipped(folder: Path) -> str:
    """What a training leaves out of its data."""
    count = sum(len(split.problems) for split in coco.read_training(folder))
    return f" ({count} defects skipped: centernet check-data {folder})" if count else ""


def line(epoch: Epoch, epochs: int) -> str:
    """An epoch on the screen."""
    if epoch.restored:
        return f"epoch {epoch.number}/{epochs}: restored, {numbers(epoch.metrics)}"
    left = (epochs - epoch.number) * (epoch.seconds + epoch.seconds_evaluating)
    terms = ", ".join(f"{name} {value:.3f}" for name, value in epoch.losses.items())
    return (
        f"epoch {epoch.number}/{epochs}: {terms}; {numbers(epoch.metrics)}; "
        f"{epoch.images_per_second:.0f} images/s, ETA {left // 60:.0f}:{left % 60:02.0f}"
    )


def numbers(metrics: dict[str, float]) -> str:
    """The three that people look at."""
    shown = [f"{name} {metrics[name]:.1f}" for name in ("AP", "AP50", "AP75") if name in metrics]
    return ", ".join(shown) or "not evaluated"


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


def predict(options: argparse.Namespace) -> int:
    """Detect objects in images: pictures, or JSON lines."""
    detector = Detector.load(options.weights, device=choose_device(options.device).type)
    files = image_files(options.images)
    targets = picture_files(files, options.output)
    started = time.monotonic()
    for done, (file, target) in enumerate(zip(files, targets, strict=True), 1):
        image = images.load(file)
        found = detector(image)
        if options.json:
            print(json.dumps({"image": str(file), "detections": rows(detector, found, options)}))
            continue
        picture = draw.detections_on(image, found, detector.classes, shown=options.shown)
        options.output.mkdir(parents=True, exist_ok=True)
        picture.save(target)
        counts = Counter(row["class"] for row in rows(detector, found, options))
        what = ", ".join(f"{n} {one_line(name)}" for name, n in counts.most_common()) or "nothing"
        left = (time.monotonic() - started) / done * (len(files) - done)
        print(f"{file}: {what} -> {target} (ETA {left:.0f} s)", flush=True)
    return 0


def rows(
    detector: Detector, found: Detections, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Detections that score at least `--shown`, as plain JSON; boxes xyxy in pixels."""
    return [
        {
            "class": detector.classes[label],
            "score": round(score, 4),
            "box": [round(v, 2) for v in box],
        }
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
        if score >= options.shown
    ]


def image_files(paths: list[Path]) -> list[Path]:
    """Files as given, folders as the images in them."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in PHOTOGRAPHS)
            if not inside:
                raise UserError(f"{path}: no image in this folder")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return files


def picture_files(files: list[Path], folder: Path) -> list[Path]:
    """Where each file's picture goes: never on an input, never two to the same place."""
    names = Counter(file.name for file in files)
    targets = []
    for index, file in enumerate(files):
        number = f".{index}" if names[file.name] > 1 else ""
        targets.append(folder / f"{file.name}{number}.detections.png")
    return targets


def export(options: argparse.Namespace) -> int:
    """Write ONNX if its boxes are torch's."""
    from centernet.export import export as write

    detector = Detector.load(options.weights)
    files = image_files([options.images])[:CHECKED]
    parity = write(detector, options.output, [images.load(file) for file in files])
    print(
        f"{options.output}: on {parity.images} images ONNX Runtime's boxes are torch's within "
        f"{parity.boxes:.2g} px, scores within {parity.scores:.2g}"
    )
    return 0


def check_data(options: argparse.Namespace) -> int:
    """Print every defect; exit status 2 if one of them would stop a training."""
    splits = [
        coco.inspect(options.folder, name)
        for name in coco.SPLITS
        if name != "test" or (options.folder / "test.json").exists()
    ]
    console = Console()
    console.print(data_table(splits))
    problems = [problem for split in splits for problem in split.problems]
    problems += check_disjoint(splits)
    records = [record for split in splits for record in split.records]
    for record in track(records, "decoding", console=console, transient=True):
        try:
            images.load(record.file)
        except UserError as error:
            problems.append(Problem(str(record.file), str(error).partition(": ")[2]))
    for problem in problems:
        print(f"{'fatal' if problem.fatal else 'skipped'}: {problem}")
    fatal = sum(problem.fatal for problem in problems)
    print(f"{len(problems)} defects, {fatal} of them fatal")
    return 2 if fatal else 0


def data_table(splits: list[Split]) -> Table:
    """Images, boxes of each class and fingerprint, a column for each split."""
    table = Table("", *(split.name for split in splits), box=None)
    table.add_row("images", *(str(len(split)) for split in splits))
    table.add_row("boxes", *(str(split.frequencies().sum()) for split in splits))
    for index, name in enumerate(splits[0].classes):
        counts = [split.frequencies()[index] for split in splits if len(split.classes) > index]
        table.add_row(Text(f"  {one_line(name)}"), *map(str, counts))
    table.add_row("fingerprint", *(split.fingerprint for split in splits))
    return table
