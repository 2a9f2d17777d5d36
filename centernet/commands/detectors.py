"""A weights file as what finds objects, whichever program runs it, and a split through it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from centernet.commands.progress import progress
from centernet.dataset import images
from centernet.dataset.split import Split
from centernet.device import choose_device
from centernet.errors import UserError
from centernet.onnx_runtime import OnnxDetector
from centernet.predict import Detector, Finder
from centernet.structures import Detections
from centernet.tta import Augmented


def open_finder(
    weights: Path, *, device: str, flip: bool = False, scales: tuple[float, ...] = (1.0,)
) -> Finder:
    """The detector of a .safetensors or .onnx file; UserError if it is neither."""
    if weights.suffix.lower() == ".onnx":
        if flip or scales != (1.0,):
            rule = "--flip and --scales need the .safetensors file: an ONNX file is of one size"
            raise UserError(f"{weights}: {rule}")
        return OnnxDetector.load(weights, device=device)
    detector = Detector.load(weights, device=choose_device(device, asked="--device").type)
    only = detector.model.backbone.size
    if only and scales != (1.0,):
        rule = "its backbone sees every image at {} x {}; leave out --scales"
        raise UserError(f"{weights}: {rule.format(*only)}")
    if flip or scales != (1.0,):
        return Augmented(detector, flip=flip, scales=scales)
    return detector


def detect_split(finder: Finder, split: Split, *, batch: int) -> Iterator[Detections]:
    """Detections of each record, `batch` images at a time; says how long it will take."""
    records = progress(split.records, total=len(split), what="evaluating")
    while part := list(islice(records, batch)):
        pictures = [images.load(one.file, (one.height, one.width)) for one in part]
        yield from finder.batch(pictures)
