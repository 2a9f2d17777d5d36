"""What each command of `centernet` takes, and what its --help says."""

import argparse
from collections.abc import Callable
from pathlib import Path

from centernet.arguments import (
    FORMATS,
    add_batch,
    add_config,
    add_device,
    add_links,
    add_training,
    add_weights,
    fraction,
    positive,
    scales,
)  # fmt: skip


def train_options(train: argparse.ArgumentParser) -> None:
    """What `centernet train` takes."""
    train.description = """\
Train a detector on a data folder and keep the weights of the highest val AP.
Typed again, the same command goes on where the training was."""
    train.epilog = """\
For example:
  centernet train --config light --data FOLDER --set train.epochs=20"""
    add_training(train)
    train.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="for weights and curves (default: runs/train/CONFIG-DATA)",
    )
    train.add_argument(
        "--log",
        choices=("tensorboard", "wandb", "none"),
        default="tensorboard",
        help="where the curves go (default: %(default)s)",
    )


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
    evaluate.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=FORMATS)
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
    add_links(evaluate)
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
  centernet predict --weights model.onnx --json photos/ > boxes.jsonl"""
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
        help="for pictures and videos, NAME.detections.png or .mp4; what has such a name there and "
        "is no SOURCE is replaced (default: %(default)s)",
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
        metavar="SCORE",
        help="lowest score drawn or printed (default: 0.3; with --json 0, which is all)",
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


def overfit_options(overfit: argparse.ArgumentParser) -> None:
    """What `centernet overfit` takes."""
    overfit.description = """\
Train on 8 images, not augmented, until AP50 on them is above 90; if it does not
get there, say what is in the way: the data, a loss, the learning rate, decoding.
Exit status 1 if it did not."""
    overfit.epilog = """\
For example:
  centernet overfit --config light --data FOLDER"""
    add_training(overfit)
    overfit.add_argument(
        "--steps",
        type=positive,
        default=300,
        metavar="N",
        help="give up after so many (default: %(default)s)",
    )


def check_options(check: argparse.ArgumentParser) -> None:
    """What `centernet check-data` takes."""
    check.description = """\
Print what is in a data folder (classes, box sizes against the stride, a better
input size, objects that share a cell, near-duplicates) and every defect of it.
Exit status 2 if one of them would stop a training."""
    check.epilog = """\
For example:
  centernet check-data FOLDER --config light --output card"""
    check.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help=FORMATS,
    )
    add_links(check)
    check.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for the card as JSON and as a picture"
    )
    check.add_argument(
        "--config",
        default="default",
        metavar="NAME",
        help="preset or YAML file: its input size and stride (default: %(default)s)",
    )
    for side in ("height", "width"):
        check.add_argument(
            f"--{side}",
            type=positive,
            metavar="N",
            help=f"{side} of the network's input in pixels (default: the config's)",
        )


def convert_options(convert: argparse.ArgumentParser) -> None:
    """What `centernet convert` takes."""
    convert.description = """\
Write a Pascal VOC or YOLO folder as COCO: images/, train.json, val.json, test.json.
The images are linked, not copied, where the disk allows; the training commands
take either folder, and find the same objects in both."""
    convert.epilog = """\
For example:
  centernet convert VOCdevkit/VOC2012 --output voc2012"""
    convert.add_argument("folder", type=Path, metavar="FOLDER", help="Pascal VOC or YOLO data")
    add_links(convert)
    convert.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a folder that is not there yet",
    )


def batch_options(batch: argparse.ArgumentParser) -> None:
    """What `centernet draw-batch` takes."""
    batch.description = """\
Draw a batch as the network sees it: augmented images with their boxes, and the
heatmaps that it should answer with."""
    batch.epilog = """\
For example:
  centernet draw-batch --config light --data FOLDER --output batch.png"""
    add_training(batch)
    batch.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .png file")
    batch.add_argument(
        "--epoch",
        type=positive,
        default=1,
        metavar="N",
        help="its first batch is drawn (default: %(default)s)",
    )


def config_options(config: argparse.ArgumentParser) -> None:
    """What `centernet config` takes."""
    config.description = """\
Print every field of a config with its value, meaning and bounds, as a YAML file that
--config takes. A field's path, such as optim.lr, is its name for --set and in search
spaces."""
    config.epilog = """\
For example:
  centernet config | grep sigma
  centernet config --config light --set optim.lr=1.0e-3 > mine.yaml"""
    add_config(config)


Add = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[str, Add]] = {
    "train": ("train a detector, or go on training it", train_options),
    "overfit": ("learn 8 images by heart, or say what is in the way", overfit_options),
    "evaluate": ("COCO numbers on a split, and its errors", evaluate_options),
    "predict": ("detect objects in images and videos", predict_options),
    "export": ("write a detector as ONNX, checked against torch", export_options),
    "check-data": ("what is in a data folder, and every defect of it", check_options),
    "convert": ("write a Pascal VOC or YOLO folder as COCO", convert_options),
    "config": ("every field of a config, and what it means", config_options),
    "draw-batch": ("draw a batch as the network sees it", batch_options),
}
