"""experiments search | lint | status | reproduce | report | gc | ui
| register | models | rollback | predict | serve"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from centernet.arguments import FORMATS
from centernet.cli import INTERRUPTED, leave
from centernet.errors import UserError, one_line
from centernet.options import add_sources

DATA_HELP = f"{FORMATS} (default: the embedded demo data)"
STUDY_HELP = "default: the study searched last"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if it succeeded, 1 if a comparison failed, 2 for a user's mistake."""
    options = parser().parse_args(arguments)
    try:
        if sys.stderr.isatty():
            print("loading PyTorch and MLflow ...", end="\r", file=sys.stderr, flush=True)
        from experiments import commands  # late: it imports torch and MLflow

        return int(getattr(commands, options.command)(options))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # Python flushes it at exit
        return 0
    except (UserError, OSError) as error:  # an OSError names its file: full disk, no right to it
        print(f"experiments: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="experiments",
        description="Tune, track, promote and reproduce CenterNet detectors.",
        allow_abbrev=False,
    )
    root.add_argument(
        "--settings", type=Path, default=Path("mlflow.yaml"), help="default: mlflow.yaml"
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    search_options(commands.add_parser("search", help="launch a study, or continue it"))
    study_commands(commands)
    model_commands(commands)
    return root


def search_options(search: argparse.ArgumentParser) -> None:
    """What `experiments search` takes."""
    search.add_argument("--space", type=Path, required=True, help="search space (YAML)")
    search.add_argument("--data", type=Path, help=DATA_HELP)
    total = search.add_argument_group("budget", "totals of the study; default: the space's")
    total.add_argument("--trials", type=positive, help="finished trials")
    total.add_argument("--epochs", type=positive, help="sum over trials")
    total.add_argument("--hours", type=hours, help="of searching, by the clock")
    total.add_argument(
        "--until-plateau", action="store_true", help="stop when trials no longer beat the noise"
    )
    finals = search.add_argument_group("finals", "the best trials and the default config, again")
    finals.add_argument("--finalists", type=natural, help="0: none; default: the space's, else 3")
    finals.add_argument("--seeds", type=positive, help="of each; default: the space's, else 3")
    workers = search.add_argument_group("workers", "trials beside each other, each in a process")
    workers.add_argument("--workers", type=positive, help="default: 1, or one for each GPU share")
    workers.add_argument("--gpus", type=gpus, metavar="0,1", help="GPUs to use; default: all")
    workers.add_argument("--per-gpu", type=positive, default=1, help="trials sharing a GPU")
    search.add_argument(
        "--warm-start",
        action="append",
        default=[],
        metavar="STUDY",
        help="begin a new study with this one's best points too",
    )
    search.add_argument("--study", help="default: the names of space and data: weights-vehicles")
    search.add_argument("--config", help="preset or file to start from; default: the space's")
    search.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a config field"
    )


def study_commands(commands: Any) -> None:
    """What can be done with a study, or a question."""
    lint = commands.add_parser("lint", help="what is unwise about a search space")
    lint.add_argument("space", type=Path, help="search space (YAML)")
    lint.add_argument("--config", help="preset or file to start from; default: the space's")

    status = commands.add_parser("status", help="the trials of a study")
    status.add_argument("study", nargs="?", help=STUDY_HELP)
    status.add_argument(
        "--check", action="store_true", help="compare Optuna with MLflow; exit status 1 if unequal"
    )

    reproduce_options(
        commands.add_parser("reproduce", help="train a trial again and compare it, bit by bit")
    )

    report = commands.add_parser("report", help="a study on one page: charts, tables, what it cost")
    report.add_argument("study", nargs="?", help=STUDY_HELP)

    gc = commands.add_parser("gc", help="delete the weights of trials that are not among the best")
    gc.add_argument("study", nargs="?", help=STUDY_HELP)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    ui = commands.add_parser("ui", help="the MLflow UI, on 127.0.0.1")
    ui.add_argument("--port", type=int, help="default: ui_port of mlflow.yaml")


def reproduce_options(reproduce: argparse.ArgumentParser) -> None:
    """What `experiments reproduce` takes."""
    reproduce.description = (
        "Train a trial again and compare every epoch. Exit status: 0 if it is IDENTICAL or "
        "EQUIVALENT, 1 if it DIVERGED (with --check-only: if something stays that differs)."
    )
    reproduce.add_argument(
        "trial", help="number, MLflow run id, models:/NAME@ALIAS or models:/NAME/VERSION"
    )
    reproduce.add_argument("--study", help=STUDY_HELP)
    reproduce.add_argument("--epochs", type=positive, help="compare only so many, from the first")
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
    reproduce.add_argument("--data", type=Path, help="where its data lies now, if it moved")
    reproduce.add_argument("--threads", type=positive, help="default: as many as then")
    reproduce.add_argument("--workers", type=int, help="loader processes; changes no result")


def model_commands(commands: Any) -> None:
    """What can be done with registered models."""
    register = commands.add_parser("register", help="register a trial's model as the champion")
    register.add_argument("trial", type=int)
    register.add_argument("--study", help=STUDY_HELP)
    register.add_argument("--data", type=Path, help="where its data lies now, if it moved")

    models = commands.add_parser("models", help="registered versions, and what decided about them")
    rollback = commands.add_parser("rollback", help="move the champion back to an earlier version")
    rollback.add_argument("--to", type=positive, metavar="VERSION", help="default: the one before")
    rollback.add_argument("--why", required=True, metavar="TEXT", help="kept with the versions")
    for command in (models, rollback):
        command.add_argument("--model", help="default: that of the study searched last")

    predict = commands.add_parser(
        "predict", help="detect objects in images and videos with the champion"
    )
    add_sources(predict)

    serve = commands.add_parser("serve", help="MLflow's scoring server, on 127.0.0.1")
    serve.add_argument("--port", type=int, help="default: serve_port of mlflow.yaml")
    for command in (predict, serve):
        command.add_argument(
            "--weights", metavar="MODEL", help="models:/NAME@ALIAS or models:/NAME/VERSION"
        )


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0."""
    return 0 if text == "0" else positive(text)


def hours(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of hours above 0, got {text!r}")
    return value


def gpus(text: str) -> str:
    """Indices of GPUs, separated by commas."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"indices separated by commas, got {text!r}")
    return text


def program() -> NoReturn:
    """What is typed."""
    leave(main())


if __name__ == "__main__":
    program()
