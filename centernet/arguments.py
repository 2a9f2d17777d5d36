"""Arguments that several commands share, and what their values may be."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from centernet.errors import did_you_mean, one_line

FORMATS = "data folder: COCO (images/, train.json, ...), Pascal VOC or YOLO"


class Parser(argparse.ArgumentParser):
    """argparse's, which says in one line what is wrong, and where the help is."""

    def error(self, message: str) -> NoReturn:
        """Exit status 2."""
        print(f"{self.prog}: {one_line(message)} ({self.prog} --help)", file=sys.stderr)
        sys.exit(2)

    def parse_known_args(  # type: ignore[override]  # of its overloads only this one is called
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but nothing may be left over: a command knows its own options best."""
        given = list(sys.argv[1:] if args is None else args)
        if not {"-h", "--help"} & set(given):
            for one in self._options_among(given):  # first: argparse would miss what it replaces
                self._refuse_unknown(one)
        found, left = super().parse_known_args(given, namespace)
        for one in left:
            if one != "--":
                self._refuse_unknown(one)
                self.error(f"what is {one or repr('')}?")
        return found, []

    def _options_among(self, given: list[str]) -> Iterator[str]:
        """The options that are for this parser: those before a command, and before `--`."""
        known = {option: action for action in self._actions for option in action.option_strings}
        words = iter(given)
        for one in words:
            if is_option(one):
                yield one
                if one in known and known[one].nargs is None:
                    next(words, None)  # its value, whatever that looks like
            elif one == "--" or self._subparsers:
                return

    def _refuse_unknown(self, word: str) -> None:
        """Exit status 2 if it is an option, and none of this parser's."""
        known = [option for action in self._actions for option in action.option_strings]
        name = word.partition("=")[0]
        if is_option(word) and name not in known:
            self.error(f"there is no option {name}{did_you_mean(name, known)}")


def is_option(word: str) -> bool:
    """Whether argparse would take it for an option: no number, and no text of several words."""
    return re.fullmatch(r"--\S+|-[^-\s\d.]\S*", word.partition("=")[0]) is not None


def command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """A command whose help begins with the line that the list of commands shows."""
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    added.description = f"{summary[0].upper()}{summary[1:]}."
    return added


def add_training(command: argparse.ArgumentParser) -> None:
    """The options that make the config of a training, and name its data."""
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"{FORMATS} (default: the config's, or the embedded demo data)",
    )
    add_config(command)


def add_config(command: argparse.ArgumentParser) -> None:
    """The options that make a config."""
    command.add_argument(
        "--config",
        default="default",
        metavar="NAME",
        help="preset or YAML file (default: %(default)s)",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a config field, such as optim.lr=1.0e-3; may be given more than once",
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


def add_batch(command: argparse.ArgumentParser) -> None:
    """The option that says how many images the network gets at once."""
    command.add_argument(
        "--batch",
        type=positive,
        default=8,
        metavar="N",
        help="images at a time; changes no result (default: %(default)s)",
    )


def add_links(command: argparse.ArgumentParser) -> None:
    """The option that says where symbolic links in a data folder may lead to."""
    command.add_argument(
        "--follow-links",
        action="append",
        default=[],
        metavar="FOLDER",
        help="read images that are symlinks into this folder, outside the data folder (DVC, "
        "git-annex, cp -rs); / for all; may be given more than once",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """The option that says where the network runs."""
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the network runs; auto: on a GPU if there is one (default: %(default)s)",
    )


MOST = 1_000_000  # of anything that is counted


def whole(least: int, most: int, what: str = "a whole number") -> Callable[[str], int]:
    """The type of an argument: a whole number within bounds, in the digits 0 to 9."""

    def number(text: str) -> int:
        digits = re.fullmatch(r"0*([0-9]{1,18})", text)
        if digits is None or not least <= int(digits[1]) <= most:
            short = text if len(text) <= 40 else f"{text[:40]}..."
            raise argparse.ArgumentTypeError(f"{what} from {least} to {most}, got {short!r}")
        return int(digits[1])

    return number


positive = whole(1, MOST)
port = whole(1, 65535, "a port")


def words(text: str) -> str:
    """A text that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("needs some words")
    return text.strip()


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    return within(text, 0, 1)


def scales(text: str) -> tuple[float, ...]:
    """`0.75,1,1.25`."""
    return tuple(within(part, 0.25, 4) for part in text.split(","))


def within(text: str, low: float, high: float) -> float:
    """A number between two."""
    try:
        value = float(text) if re.fullmatch(r"[0-9.eE+-]+", text) else float("nan")
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        short = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"a number from {low} to {high}, got {short!r}")
    return value
