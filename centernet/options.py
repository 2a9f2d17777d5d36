"""What the commands that use a detector take; no command here imports torch."""

import argparse
from pathlib import Path


def evaluate_options(evaluate: argparse.ArgumentParser) -> None:
    """What `centernet evaluate` takes."""
    evaluate.description = """\
Print the 12 COCO numbers of a detector on a split, each class's AP, and what its
errors cost: by how many points AP50 would rise without those of a kind (TIDE,
Bolya et al. 2020). With --output also written as metrics.json, precision-recall
curves, a confusion matrix (at IoU 0.5) and a chart of the errors."""
    evaluate.epilog = """\
For example:
  centernet evaluate --weights best.safetensors --data FOLDER --flip --output report"""
    add_weights(evaluate)
    evaluate.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="COCO, Pascal VOC or YOLO"
    )
    evaluate.add_argument(
        "--split",
        default="val",
        choices=("train", "val", "test"),
        help="images to evaluate on (default: %(default)s)",
    )
    evaluate.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for numbers and charts (default: none)"
    )
    evaluate.add_argument(
        "--score",
        type=fraction,
        default=0.3,
        help="lowest score in the confusion matrix and in the number of errors; AP counts every "
        "detection (default: %(default)s)",
    )
    evaluate.add_argument(
        "--flip", action="store_true", help="average the heatmaps with those of the mirrored image"
    )
    evaluate.add_argument(
        "--scales",
        type=scales,
        default=(1.0,),
        metavar="S,S,...",
        help="sizes of the network's input, times the trained one, merged by NMS: 0.75,1,1.25 "
        "(default: 1)",
    )
    evaluate.add_argument(
        "--evaluator",
        choices=("pycocotools", "faster-coco-eval"),
        default="pycocotools",
        help="who computes AP; both find the same (default: %(default)s)",
    )
    add_batch(evaluate)
    add_device(evaluate)


def predict_options(predict: argparse.ArgumentParser) -> None:
    """What `centernet predict` takes."""
    predict.description = """\
Detect objects in images and videos: write pictures (.png) and videos (.mp4) with
boxes, or print JSON lines. What cannot be read is named in a line, the rest is
done, and the exit status is 2."""
    predict.epilog = """\
For example:
  centernet predict --weights best.safetensors street.jpg photos/ "more/**/*.png" drive.mp4
  centernet predict --weights model.onnx --json --shown 0 photos/ > boxes.jsonl"""
    add_weights(predict)
    add_sources(predict)


def add_sources(predict: argparse.ArgumentParser) -> None:
    """What to detect objects in, and what to make of them."""
    predict.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help='image, video, folder of them, or pattern in quotes ("*.jpg", "photos/**/*.png")',
    )
    predict.add_argument(
        "--output",
        type=Path,
        default=Path("runs/predict"),
        metavar="FOLDER",
        help="for pictures and videos (default: %(default)s)",
    )
    predict.add_argument(
        "--json",
        action="store_true",
        help="print a JSON line for each image or frame (boxes: x1, y1, x2, y2 in pixels), and "
        "write no pictures",
    )
    predict.add_argument(
        "--shown",
        type=fraction,
        default=0.3,
        metavar="SCORE",
        help="lowest score drawn or printed; 0 shows all (default: %(default)s)",
    )
    add_batch(predict)
    add_device(predict)


def export_options(export: argparse.ArgumentParser) -> None:
    """What `centernet export` takes."""
    export.description = """\
Write a detector as an ONNX file, and keep it only if ONNX Runtime finds torch's
boxes on real images (within 0.1 pixels, scores within 0.001).

  images[B, 3, height, width] uint8, RGB
    -> boxes[B, K, 4] x1, y1, x2, y2 in pixels of the network's input
       scores[B, K], best first; 0 is no detection
       labels[B, K], index into the classes

Normalisation, decoding and NMS are in the graph, B is free; classes, size and
letterbox are in the metadata. centernet predict and evaluate read the file."""
    export.epilog = """\
For example:
  centernet export --weights best.safetensors --images FOLDER/images --output model.onnx"""
    export.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="best.safetensors of a training"
    )
    export.add_argument(
        "--images", required=True, metavar="FOLDER", help="images to compare on: the first 16"
    )
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .onnx file")


def add_device(command: argparse.ArgumentParser) -> None:
    """The option that says where the network runs."""
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the network runs; auto: on a GPU if there is one (default: %(default)s)",
    )


def add_batch(command: argparse.ArgumentParser) -> None:
    """The option that says how many images the network gets at once."""
    command.add_argument(
        "--batch",
        type=positive,
        default=8,
        metavar="N",
        help="images at a time; changes no result (default: %(default)s)",
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """The option that names a trained model."""
    command.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="FILE",
        help="best.safetensors of a training, or the .onnx file of an export",
    )


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    return within(text, 0, 1)


def scales(text: str) -> tuple[float, ...]:
    """`0.75,1,1.25`."""
    return tuple(within(part, 0.25, 4) for part in text.split(","))


def within(text: str, low: float, high: float) -> float:
    """A number between two."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"a number from {low} to {high}, got {text!r}")
    return value
