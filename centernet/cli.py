"""centernet train | overfit | evaluate | predict | export | check-data | convert | draw-batch"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from centernet.errors import UserError, one_line


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if it succeeded, 2 for a mistake in what it was given."""
    options = parser().parse_args(arguments)
    try:
        if sys.stderr.isatty():
            print("loading PyTorch ...", end="\r", file=sys.stderr, flush=True)
        from centernet import commands  # late: it imports torch

        return int(getattr(commands, options.command.replace("-", "_"))(options))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # Python flushes it at exit
        return 0
    except (UserError, OSError) as error:  # an OSError names its file: full disk, no right to it
        print(f"centernet: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("centernet: interrupted; the same command continues", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="centernet",
        description="Train and use CenterNet detectors. For studies, see experiments --help.",
        allow_abbrev=False,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a detector, or continue its training")
    add_config(train)
    train.add_argument(
        "--output", type=Path, help="folder for weights and logs (default: runs/train/CONFIG-DATA)"
    )
    train.add_argument(
        "--log",
        choices=("tensorboard", "wandb", "none"),
        default="tensorboard",
        help="where the curves go (default: tensorboard)",
    )

    overfit = commands.add_parser(
        "overfit", help="learn 8 images by heart, or say what is in the way"
    )
    overfit.add_argument("--data", type=Path, help="COCO data folder (default: the config's)")
    add_config(overfit)
    overfit.add_argument(
        "--steps", type=positive, default=300, help="give up after so many (default: 300)"
    )

    evaluate = commands.add_parser("evaluate", help="COCO mAP on val (or another split)")
    add_weights(evaluate)
    evaluate.add_argument("--data", type=Path, required=True, help="data folder")
    add_device(evaluate)
    evaluate.add_argument("--split", default="val", choices=("train", "val", "test"))

    predict = commands.add_parser("predict", help="detect objects in images")
    add_weights(predict)
    add_device(predict)
    predict.add_argument("images", nargs="+", type=Path, help="image files or folders")
    predict.add_argument("--output", type=Path, default=Path("runs/predict"), help="for pictures")
    predict.add_argument("--json", action="store_true", help="print boxes, write no pictures")
    predict.add_argument(
        "--shown", type=float, default=0.3, help="lowest score drawn or printed (default: 0.3)"
    )

    export = commands.add_parser("export", help="write ONNX, checked against torch on real images")
    add_weights(export)
    export.add_argument("--images", type=Path, required=True, help="folder of images to check on")
    export.add_argument("--output", type=Path, required=True, help="the .onnx file")

    add_data_commands(commands)
    return root


def add_data_commands(commands: Any) -> None:
    """What looks at data, and changes its format."""
    check = commands.add_parser(
        "check-data", help="what is in a data folder, and every defect of it"
    )
    check.add_argument(
        "folder", type=Path, help="COCO (images/, train.json, ...), Pascal VOC or YOLO"
    )
    check.add_argument("--output", type=Path, help="folder for the card as JSON and as a picture")
    check.add_argument("--config", default="default", help="whose network size (default: default)")
    check.add_argument("--height", type=int, help="pixels of the network input, if another")
    check.add_argument("--width", type=int, help="likewise")

    convert = commands.add_parser("convert", help="write a Pascal VOC or YOLO folder as COCO")
    convert.add_argument("folder", type=Path, help="Pascal VOC or YOLO data folder")
    convert.add_argument("--output", type=Path, required=True, help="a new folder")

    batch = commands.add_parser("draw-batch", help="draw a batch as the network sees it")
    add_config(batch)
    batch.add_argument("--output", type=Path, required=True, help="the .png file")
    batch.add_argument("--epoch", type=positive, default=1, help="whose first batch (default: 1)")


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


def add_config(command: argparse.ArgumentParser) -> None:
    """The options that make a config."""
    command.add_argument(
        "--config", default="default", help="preset or YAML file (default: default)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a config field: --set optim.lr=1.0e-3 --set data.folder=FOLDER",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """The option that says where the network runs."""
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """The option that names a trained model."""
    command.add_argument(
        "--weights", type=Path, required=True, help="best.safetensors of a training"
    )


if __name__ == "__main__":
    sys.exit(main())
