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

from centernet import draw
from centernet import evaluate as coco_metrics
from centernet import train as training
from centernet.config import flatten, load, parse_overrides, resolve
from centernet.dataset import coco, images
from centernet.dataset.demo import demo_folder
from centernet.dataset.split import Problem, check_disjoint
from centernet.errors import UserError
from centernet.predict import Detector
from centernet.structures import Epoch

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
    print(f"{name} -> {folder}", flush=True)
    best: Epoch | None = None
    with (
        LOGGERS[options.log](config, folder) as log,
        closing(training.train(config, folder)) as epochs,
    ):
        for epoch in epochs:
            log(epoch)
            best = epoch if epoch.best else best
            print(line(epoch, config.train.epochs), flush=True)
    if best is None:
        raise UserError("training: AP was 0 throughout; there are no best weights")
    weights = folder / training.BEST
    print(f"Best: epoch {best.number}, {numbers(best.metrics)}\nWeights: {weights}")
    print(f"Next: centernet predict --weights {weights} IMAGE ...")
    return 0


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
    detector = Detector.load(options.weights)
    split = coco.read(options.data, options.split)
    if split.classes != detector.classes:
        ours, theirs = ", ".join(detector.classes), ", ".join(split.classes)
        raise UserError(f"{options.weights}: its classes are {ours}; the data has {theirs}")
    console = Console()
    shown = track(split.records, "evaluating", console=console, transient=True)
    found = [detector(images.load(r.file, (r.height, r.width))) for r in shown]
    table = Table("metric", "value", box=None)
    for name, value in coco_metrics.evaluate(found, split).items():
        table.add_row(name, f"{value:.2f}")
    console.print(f"{options.data}, {split.name}: {len(split)} images")
    console.print(table)
    return 0


def predict(options: argparse.Namespace) -> int:
    """Detect objects in images: pictures, or JSON lines."""
    detector = Detector.load(options.weights)
    files = image_files(options.images)
    started = time.monotonic()
    for done, file in enumerate(files, 1):
        image = images.load(file)
        found = detector(image)
        if options.json:
            print(json.dumps({"image": str(file), "detections": rows(detector, found, options)}))
            continue
        picture = draw.detections_on(image, found, detector.classes, shown=options.shown)
        options.output.mkdir(parents=True, exist_ok=True)
        target = options.output / f"{file.stem}.png"
        picture.save(target)
        counts = Counter(row["class"] for row in rows(detector, found, options))
        what = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        left = (time.monotonic() - started) / done * (len(files) - done)
        print(f"{file}: {what} -> {target} (ETA {left:.0f} s)", flush=True)
    return 0


def rows(detector: Detector, found: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
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
    """Print every defect; exit status 1 if one of them would stop a training."""
    splits = [
        coco.inspect(options.folder, name)
        for name in coco.SPLITS
        if name != "test" or (options.folder / "test.json").exists()
    ]
    console = Console()
    table = Table("split", "images", "boxes", *splits[0].classes, "fingerprint", box=None)
    for split in splits:
        counts = split.frequencies()
        table.add_row(
            split.name, str(len(split)), str(counts.sum()), *map(str, counts), split.fingerprint
        )
    console.print(table)
    problems = [problem for split in splits for problem in split.problems]
    problems += check_disjoint(splits)
    for record in track(
        [r for split in splits for r in split.records], "decoding", console=console, transient=True
    ):
        try:
            images.load(record.file)
        except UserError as error:
            problems.append(Problem(str(error).partition(": ")[0], "the image is broken"))
    for problem in problems:
        kind = "fatal" if problem.fatal else "skipped"
        console.print(f"{kind}: {problem}", highlight=False, markup=False, soft_wrap=True)
    fatal = sum(problem.fatal for problem in problems)
    console.print(f"{len(problems)} defects, {fatal} of them fatal")
    return 1 if fatal else 0
