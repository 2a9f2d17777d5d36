"""A store that is away for a while is waited for: the same call again, until it answers."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

P = ParamSpec("P")
R = TypeVar("R")
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds between two tries


class Away(ConnectionError):
    """A store did not answer for as long as the settings wait for it (`outage_minutes`)."""


class Retry:
    """Makes a call again while what it raises says that the store is away.

    Only for calls that may be made twice: the first may have worked and its answer been lost. A
    call that creates something looks first whether it is there (`create`).
    """

    def __init__(self, *, is_away: Callable[[BaseException], bool], seconds: float) -> None:
        """is_away: whether an exception says so; seconds: how long calls are made again."""
        self.is_away, self.seconds = is_away, seconds

    def __call__(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """The call's answer; Away if the store stays away, any other exception at once."""
        attempts = Retrying(
            retry=retry_if_exception(self.is_away),
            stop=stop_after_delay(self.seconds),
            wait=wait_exponential(FIRST_WAIT, max=LONGEST_WAIT),
            reraise=True,
        )
        try:
            return attempts(call, *arguments, **named)
        except Exception as error:
            if not self.is_away(error):
                raise
            raise Away(f"no answer for {self.seconds / 60:g} minutes: {error}") from error

    def create(self, make: Callable[[], R], *, look: Callable[[], R | None]) -> R:
        """What `make` creates; where its answer was lost, what `look` finds of it."""
        tries = 0

        def attempt() -> R:
            nonlocal tries
            tries += 1
            known = look() if tries > 1 else None
            return make() if known is None else known

        return self(attempt)


class Waiting:
    """An object each of whose methods is called by a Retry."""

    def __init__(self, inner: Any, retry: Retry) -> None:
        """Wrap an object."""
        self._inner, self._retry = inner, retry

    def __getattr__(self, name: str) -> Any:
        """A method that waits, or a plain attribute."""
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            return self._retry(found, *arguments, **named)

        return call
