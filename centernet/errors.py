"""The one exception that a user caused and can mend; command lines print it as one line, exit 2."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

HIDDEN = "password|passwd|pwd|token|secret|signature|api_?key"  # what the names of secrets end in


class UserError(Exception):
    """A mistake in a command, file or data set: names the place, the rule, what came, what may."""

    def __init__(self, message: str) -> None:
        """Torch's loader workers put their traceback around a message; ours is its end."""
        _, wrapped, own = message.rpartition(f"{__name__}.{type(self).__name__}: ")
        super().__init__(own.strip() if wrapped else message)


def without_passwords(text: str) -> str:
    """`text` with the passwords of the URLs in it as ***."""
    text = re.sub(r"(\w://[^\s/:]*):[^\s]+@", r"\1:***@", text)
    return re.sub(rf"(?i)({HIDDEN})=('[^']*'|[^\s&;]+)", r"\1=***", text)


def one_line(text: str) -> str:
    """`text` on one line, without passwords, control characters made visible."""
    text = re.sub(r"\s*[\r\n]+\s*", "; ", without_passwords(text).strip())
    return "".join(c if unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things: `1 image`, `2 images`, `0 boxes`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of `known`, else the empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
