"""centernet train | overfit | evaluate | predict | export | check-data | convert | draw-batch"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from centernet.errors import UserError, one_line
from centernet.options import evaluate_options, export_options, positive, predict_options


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
        print(f"centernet: {one_line(said(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("centernet: interrupted; the same command continues", file=sys.stderr)
        return 130


def said(error: Exception) -> str:
    """The file and what is wrong with it, where the system knows both."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="centernet",
        description="Train and use CenterNet detectors. For studies of many trainings,\n"
        "see experiments --help.",
        epilog="Each command has its own --help. Exit status: 0 done, 1 overfit does\n"
        "not, 2 a mistake in what was given (named in one line), 130 interrupted.",
        allow_abbrev=False,
        formatter_class=layout,
    )
    commands = root.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    train_options(command(commands, "train", "train a detector, or go on training it"))
    overfit_options(command(commands, "overfit", "learn 8 images by heart, or say what fails"))
    evaluate_options(command(commands, "evaluate", "COCO numbers on a split, and its errors"))
    predict_options(command(commands, "predict", "detect objects in images and videos"))
    export_options(command(commands, "export", "write a detector as ONNX, checked against torch"))
    data_commands(commands)
    return root


def layout(prog: str) -> argparse.HelpFormatter:
    """Descriptions as they are written, and room for the longest command."""
    formatter = argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)
    formatter._action_max_length = 14  # argparse forgets that commands are indented
    return formatter


def command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """A command whose help begins with the line that the list of commands shows."""
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, allow_abbrev=False,
        formatter_class=layout,
    )  # fmt: skip
    added.description = f"{summary[0].upper()}{summary[1:]}."
    return added


def train_options(train: argparse.ArgumentParser) -> None:
    """What `centernet train` takes."""
    train.description = """\
Train a detector on a data folder and keep the weights of the highest val AP.
Typed again, the same command goes on where the training was."""
    train.epilog = """\
For example:
  centernet train --config light --set data.folder=FOLDER --set train.epochs=20"""
    add_config(train)
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


def overfit_options(overfit: argparse.ArgumentParser) -> None:
    """What `centernet overfit` takes."""
    overfit.description = """\
Train on 8 images until nearly every object of theirs is found (AP50 above 90).
If that does not happen, say what is in the way, with exit status 1: a first test
of a data folder and a config."""
    overfit.epilog = """\
For example:
  centernet overfit --data FOLDER --config light"""
    overfit.add_argument(
        "--data", type=Path, metavar="FOLDER", help="data (default: the config's data.folder)"
    )
    add_config(overfit)
    overfit.add_argument(
        "--steps",
        type=positive,
        default=300,
        metavar="N",
        help="give up after so many (default: %(default)s)",
    )


def data_commands(commands: Any) -> None:
    """What looks at data, and changes its format."""
    check = command(commands, "check-data", "say what is in a data folder, and every defect of it")
    check.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="COCO (images/, train.json, val.json), Pascal VOC or YOLO",
    )
    check.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for the card as JSON and as a picture"
    )
    check.add_argument(
        "--config", default="default", help="whose network size (default: %(default)s)"
    )
    check.add_argument(
        "--height", type=int, metavar="N", help="pixels of the network's input, if others"
    )
    check.add_argument("--width", type=int, metavar="N", help="likewise")

    convert = command(commands, "convert", "write a Pascal VOC or YOLO folder as COCO")
    convert.add_argument("folder", type=Path, metavar="FOLDER", help="Pascal VOC or YOLO")
    convert.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new one")

    batch = command(commands, "draw-batch", "draw a batch as the network sees it")
    add_config(batch)
    batch.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .png file")
    batch.add_argument(
        "--epoch",
        type=positive,
        default=1,
        metavar="N",
        help="whose first batch (default: %(default)s)",
    )


def add_config(command: argparse.ArgumentParser) -> None:
    """The options that make a config."""
    command.add_argument(
        "--config", default="default", help="preset or YAML file (default: %(default)s)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a config field, such as optim.lr=1.0e-3; may be given more than once",
    )


if __name__ == "__main__":
    sys.exit(main())
