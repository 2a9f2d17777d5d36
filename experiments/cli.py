"""experiments search | lint | status | reproduce | report | gc | ui
| register | models | rollback | predict | serve"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from centernet.arguments import (
    FORMATS,
    Parser,
    command,
    port,
    positive,
    whole,
    within,
    words,
)
from centernet.cli import INTERRUPTED, check_folder, leave, prepare, said
from centernet.errors import UserError, one_line
from centernet.options import add_sources
from experiments.label import Label, parse

DATA_HELP = f"{FORMATS} (default: the embedded demo data)"
STUDY_HELP = "default: the study searched last"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if it succeeded, 1 if a comparison failed, 2 for a user's mistake."""
    options = parser().parse_args(arguments)
    try:
        check_folder()
        if sys.stderr.isatty():
            print("loading PyTorch and MLflow ...", end="\r", file=sys.stderr, flush=True)
        from experiments import commands  # late: it imports torch and MLflow

        return int(getattr(commands, options.command)(options))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # Python flushes it at exit
        return 0
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        text = mistake(error, options.settings)
        if text is None:
            raise
        print(f"experiments: {one_line(text)}", file=sys.stderr)
        return 2


def mistake(error: Exception, file: Path) -> str | None:
    """What a user can mend of an error: what was given, a file, what MLflow refuses; else none."""
    if isinstance(error, UserError | OSError):  # the latter: full disk, no right to a file
        return said(error)
    from experiments.settings import load
    from experiments.tracking import refusal  # late: it imports MLflow

    text = refusal(error)
    return None if text is None else f"MLflow at {load(file).tracking_uri}: {text}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = Parser(
        prog="experiments",
        description="Tune, track, promote and reproduce CenterNet detectors. For one training, and "
        "for what to do with its weights, see centernet --help.",
        epilog="Each command has its own --help. Exit status: 0 done, 1 a comparison failed, 2 a "
        "mistake in what was given (named in one line), 130 interrupted.",
        allow_abbrev=False,
    )
    root.add_argument(
        "--settings",
        type=Path,
        default=Path("mlflow.yaml"),
        metavar="FILE",
        help="default: mlflow.yaml",
    )
    commands = root.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )

    search_options(command(commands, "search", "launch a study, or continue it"))
    study_commands(commands)
    model_commands(commands)
    return root


def search_options(search: argparse.ArgumentParser) -> None:
    """What `experiments search` takes."""
    search.description = """\
Launch a study, or continue it: trials, finals, and the best model to the registry.
Ctrl-C or a kill loses nothing; the same command goes on."""
    search.epilog = """\
For example:
  experiments search --space search_spaces/weights.yaml --data FOLDER --trials 20"""
    search.add_argument(
        "--space", type=Path, required=True, metavar="FILE", help="search space (YAML)"
    )
    search.add_argument("--data", type=Path, metavar="FOLDER", help=DATA_HELP)
    total = search.add_argument_group("budget", "totals of the study; default: the space's")
    total.add_argument("--trials", type=positive, metavar="N", help="finished trials")
    total.add_argument("--epochs", type=whole(1, 10**9), metavar="N", help="sum over trials")
    total.add_argument("--hours", type=hours, metavar="X", help="of searching, by the clock")
    total.add_argument(
        "--until-plateau", action="store_true", help="stop when trials no longer beat the noise"
    )
    finals = search.add_argument_group("finals", "the best trials and the default config, again")
    finals.add_argument(
        "--finalists",
        type=whole(0, 1000),
        metavar="N",
        help="0: none; default: the space's, else 3",
    )
    finals.add_argument(
        "--seeds", type=whole(1, 1000), metavar="N", help="of each; default: the space's, else 3"
    )
    workers = search.add_argument_group("workers", "trials beside each other, each in a process")
    workers.add_argument(
        "--workers", type=whole(1, 1024), metavar="N", help="default: 1, or one for each GPU share"
    )
    workers.add_argument("--gpus", type=gpus, metavar="0,1", help="GPUs to use; default: all")
    workers.add_argument(
        "--per-gpu", type=whole(1, 64), default=1, metavar="N", help="trials sharing a GPU"
    )
    search.add_argument(
        "--warm-start",
        action="append",
        default=[],
        metavar="STUDY",
        help="begin a new study with this one's best points too",
    )
    search.add_argument(
        "--study", metavar="NAME", help="default: the names of space and data: weights-vehicles"
    )
    search.add_argument(
        "--config", metavar="NAME", help="preset or file to start from; default: the space's"
    )
    search.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a config field"
    )


def study_commands(commands: Any) -> None:
    """What can be done with a study, or a question."""
    lint = command(commands, "lint", "what is unwise about a search space")
    lint.add_argument("space", type=Path, metavar="FILE", help="search space (YAML)")
    lint.add_argument(
        "--config", metavar="NAME", help="preset or file to start from; default: the space's"
    )

    status = command(commands, "status", "the trials of a study")
    status.add_argument("study", nargs="?", metavar="STUDY", help=STUDY_HELP)
    status.add_argument(
        "--check", action="store_true", help="compare Optuna with MLflow; exit status 1 if unequal"
    )

    reproduce_options(
        command(commands, "reproduce", "train a trial again and compare it, bit by bit")
    )

    report = command(commands, "report", "a study on one page: charts, tables, what it cost")
    report.add_argument("study", nargs="?", metavar="STUDY", help=STUDY_HELP)

    gc = command(commands, "gc", "delete the weights of trials that are not among the best")
    gc.add_argument("study", nargs="?", metavar="STUDY", help=STUDY_HELP)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    ui = command(commands, "ui", "the MLflow UI, on 127.0.0.1")
    ui.add_argument("--port", type=port, metavar="N", help="default: ui_port of mlflow.yaml")


def reproduce_options(reproduce: argparse.ArgumentParser) -> None:
    """What `experiments reproduce` takes."""
    reproduce.description = """\
Train a trial again and compare every epoch. Exit status: 0 if it is IDENTICAL or
EQUIVALENT, 1 if it DIVERGED (with --check-only: if something stays that differs)."""
    reproduce.epilog = """\
For example:
  experiments reproduce 7
  experiments reproduce models:/NAME@champion --check-only"""
    reproduce.add_argument(
        "trial",
        metavar="TRIAL",
        help="number, 7.2 for trial 7, seed 2 of the finals, MLflow run id, models:/NAME@ALIAS or "
        "models:/NAME/VERSION",
    )
    reproduce.add_argument("--study", metavar="NAME", help=STUDY_HELP)
    reproduce.add_argument(
        "--epochs", type=whole(1, 100_000), metavar="N", help="compare only so many, from the first"
    )
    reproduce.add_argument(
        "--check-only", action="store_true", help="only say what differs now; train nothing"
    )
    here = reproduce.add_argument_group("restored", "by default: code, threads and device")
    here.add_argument(
        "--restore-env", action="store_true", help="install the packages of then, beside these"
    )
    here.add_argument(
        "--trust-patch", action="store_true", help="run uncommitted code that the run recorded"
    )
    here.add_argument(
        "--as-is", action="store_true", help="train with the code that is here: is it the same?"
    )
    reproduce.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where its data lies now, if it moved"
    )
    reproduce.add_argument(
        "--threads", type=whole(1, 1024), metavar="N", help="default: as many as then"
    )
    reproduce.add_argument(
        "--workers", type=whole(0, 256), metavar="N", help="loader processes; changes no result"
    )


def model_commands(commands: Any) -> None:
    """What can be done with registered models."""
    register = command(commands, "register", "register a trial's model as the champion")
    register.add_argument(
        "trial",
        type=numbered,
        metavar="TRIAL",
        help="its number, 7.2 for trial 7, seed 2 of finals",
    )
    register.add_argument("--study", metavar="NAME", help=STUDY_HELP)
    register.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where its data lies now, if it moved"
    )

    models = command(commands, "models", "registered versions, and what decided about them")
    rollback = command(commands, "rollback", "move the champion back to an earlier version")
    rollback.add_argument(
        "--to", type=whole(1, 2**31 - 1), metavar="VERSION", help="default: the one before"
    )
    rollback.add_argument(
        "--why", type=words, required=True, metavar="TEXT", help="kept with the versions"
    )
    for one in (models, rollback):
        one.add_argument("--model", metavar="NAME", help="default: that of the study searched last")

    predict = command(commands, "predict", "detect objects in images and videos with the champion")
    predict.epilog = """\
For example:
  experiments predict street.jpg photos/
  experiments predict --weights models:/NAME/3 --json photos/ > boxes.jsonl"""
    add_sources(predict)

    serve = command(commands, "serve", "MLflow's scoring server, on 127.0.0.1")
    serve.add_argument("--port", type=port, metavar="N", help="default: serve_port of mlflow.yaml")
    for one, also in ((predict, "a weights file, "), (serve, "")):
        one.add_argument(
            "--weights",
            metavar="MODEL",
            help=f"{also}models:/NAME@ALIAS or models:/NAME/VERSION (default: the champion of the "
            "study searched last)",
        )


def numbered(text: str) -> Label:
    """The number of a trial, or of a final."""
    label = parse(text)
    if label is None:
        raise argparse.ArgumentTypeError(f"a trial (7) or a final (7.2), got {text!r}")
    return label


def hours(text: str) -> float:
    """A number of hours above 0, at most about ten years."""
    value = within(text, 0, 100_000)
    if value == 0:
        raise argparse.ArgumentTypeError(f"a number of hours above 0, got {text!r}")
    return value


def gpus(text: str) -> str:
    """Indices of GPUs, separated by commas."""
    indices = text.split(",")
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text) or len(set(indices)) < len(indices):
        short = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"indices, each once, with commas between, got {short!r}")
    return text


def program() -> NoReturn:
    """What is typed."""
    prepare()
    leave(main())


if __name__ == "__main__":
    program()
