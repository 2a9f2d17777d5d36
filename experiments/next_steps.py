"""The commands that a message proposes, typed as this program was: by make, or by its path."""

import os
import shlex

from centernet.shell import typed

POSITIONAL = {("register", "trial"), ("reproduce", "trial"), ("status", "study"), ("gc", "study")}


def command(verb: str, **options: object) -> str:
    """`make register TRIAL=7` where make started this program, else `experiments register 7`.

    Without make, the program is named as the shell finds it: `.venv/bin/experiments`.
    """
    words = {name: shlex.quote(str(value)) for name, value in options.items()}
    if by_make():
        return " ".join(["make", verb, *(f"{name.upper()}={word}" for name, word in words.items())])
    arguments = [
        word if (verb, name) in POSITIONAL else f"--{name} {word}" for name, word in words.items()
    ]
    return " ".join([typed("experiments"), verb, *arguments])


def first_search() -> str:
    """How a study is launched."""
    return "make search" if by_make() else f"{typed('experiments')} search --space FILE"


def option(name: str, value: object) -> str:
    """How an option is given: `TRIALS=3` to make, else `--trials 3`."""
    return f"{name.upper()}={value}" if by_make() else f"--{name} {value}"


def by_make() -> bool:
    """Whether make started this program."""
    return "MAKELEVEL" in os.environ
