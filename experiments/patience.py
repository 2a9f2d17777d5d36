"""A store that is away for a while is waited for: the same call again, until it answers."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar


class Away(ConnectionError):
    """A store that does not answer."""


P = ParamSpec("P")
R = TypeVar("R")
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds between two tries


def patient(
    call: Callable[P, R], *, transient: Callable[[Exception], bool], seconds: float
) -> Callable[P, R]:
    """The call, tried again for up to `seconds` while what it raises is `transient`.

    Only for calls that may be made twice: the first may have worked and its answer been lost. What
    is transient to the end raises Away.
    """

    @wraps(call)
    def tried(*arguments: P.args, **named: P.kwargs) -> R:
        until, wait = time.monotonic() + seconds, FIRST_WAIT
        while True:
            try:
                return call(*arguments, **named)
            except Exception as error:
                if not transient(error):
                    raise
                if time.monotonic() + wait > until:
                    raise Away(f"no answer for {seconds / 60:g} minutes: {error}") from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    return tried


class Patient:
    """An object all of whose methods are `patient`."""

    def __init__(
        self, inner: Any, *, transient: Callable[[Exception], bool], seconds: float
    ) -> None:
        """Wrap an object."""
        self._inner, self._transient, self._seconds = inner, transient, seconds

    def __getattr__(self, name: str) -> Any:
        """A method that waits, or a plain attribute."""
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        return patient(found, transient=self._transient, seconds=self._seconds)
