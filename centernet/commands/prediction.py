"""centernet predict: pictures, or JSON lines."""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from centernet import draw
from centernet.dataset import images
from centernet.errors import UserError, one_line
from centernet.predict import Detector
from centernet.structures import Detections
from centernet.train import choose_device

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


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
