"""centernet train | overfit | evaluate | predict | export | check-data | convert | draw-batch"""

import argparse
import os
import signal
import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from centernet import files, options
from centernet.arguments import Parser, command
from centernet.errors import UserError, one_line

INTERRUPTED = 130  # exit status


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if it succeeded, 2 for a mistake in what it was given."""
    given = parser().parse_args(arguments)
    try:
        check_folder()
        if sys.stderr.isatty():
            print("loading PyTorch ...", end="\r", file=sys.stderr, flush=True)
        from centernet import commands  # late: it imports torch

        return int(getattr(commands, given.command.replace("-", "_"))(given))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # Python flushes it at exit
        return 0
    except (UserError, OSError) as error:  # an OSError names its file: full disk, no right to it
        print(f"centernet: {one_line(said(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("centernet: interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


def said(error: Exception) -> str:
    """The file and what is wrong with it, where the system knows both."""
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{files.reason(error)}"
    return str(error)


def check_folder() -> None:
    """UserError where the folder that the command was typed in is no more."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the current folder was deleted; cd to one that is there") from None


def prepare() -> None:
    """What both programs begin with."""
    open_streams()
    os.environ["MPLBACKEND"] = "agg"  # charts are files; a name that is none stops matplotlib
    if not sys.warnoptions:  # python -W or PYTHONWARNINGS: a developer wants to see them
        warnings.simplefilter("ignore")  # torch's, Albumentations', Pillow's: no user can mend them


def open_streams() -> None:
    """Give a program its three standard streams, where `2>&-` closed one: to nowhere.

    Else Python has none, what is printed to it goes elsewhere, and the next file that is opened
    takes its number, so that another program's words end in that file. A character that a screen
    does not know is written as its code.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = Parser(
        prog="centernet",
        description="Train and use CenterNet detectors. For studies of many trainings, see "
        "experiments --help.",
        epilog="Each command has its own --help. Exit status: 0 done, 2 a mistake in what was "
        "given (named in one line), 130 interrupted.",
        allow_abbrev=False,
    )
    commands = root.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for name, (summary, add) in options.COMMANDS.items():
        add(command(commands, name, summary))
    return root


def program() -> NoReturn:
    """What is typed."""
    prepare()
    leave(main())


def leave(status: int) -> NoReturn:
    """End the program; one that was interrupted is ended at once by another Ctrl-C."""
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    program()
