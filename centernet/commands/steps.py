"""How far an epoch is: a bar on a terminal, elsewhere a line now and then."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from centernet.structures import Epoch, Step

SHORT = 2.0  # seconds; what takes less shows nothing
SELDOM = 30.0  # seconds between two lines


class StepProgress:
    """Shows the steps of one phase after the other; an epoch ends the last."""

    def __init__(self, epochs: int, console: Console | None = None) -> None:
        """`epochs` are all that the training has."""
        self.epochs, self.console = epochs, console or Console()
        self.began = self.first = self.said = time.monotonic()
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> "StepProgress":
        """Nothing is shown before it takes a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self.end()

    def show(self, event: Step | Epoch) -> None:
        """Take note of a step, or of an epoch's end."""
        if isinstance(event, Epoch):
            self.end()
            return
        now = time.monotonic()
        if event.done == 1:
            self.first = now  # the pace is of the steps behind it: loader workers have started
        pace = (now - self.first) / (event.done - 1) if event.done > 1 else now - self.began
        left = pace * (event.total - event.done)
        if now - self.began + left > SHORT:
            text = f"epoch {event.epoch}/{self.epochs}, {event.phase}"
            eta = f"ETA {left // 60:.0f}:{left % 60:02.0f}"
            if self.console.is_terminal:
                self._draw(event, text, eta)
            elif now - self.said > SELDOM:
                print(f"{text}: {event.done}/{event.total}, {eta}", flush=True)
                self.said = now
        if event.done == event.total:
            self.end()

    def _draw(self, step: Step, text: str, eta: str) -> None:
        if self.bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[eta]}"),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task(text, total=step.total, eta=eta)
            self.bar.start()
        self.bar.update(self.task, description=text, completed=step.done, eta=eta)

    def end(self) -> None:
        """A phase is over; the next begins now."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        self.began = self.said = time.monotonic()
