"""What a search looks like on the screen: a live table on a terminal, a line a step elsewhere."""

import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from centernet.config import Config
from centernet.dataset.split import Split, passed_over
from centernet.errors import one_line, without_passwords
from centernet.shell import typed
from centernet.structures import Epoch
from centernet.wording import written
from experiments import study
from experiments.budget import Budget
from experiments.label import Label
from experiments.next_steps import command
from experiments.objective import Progress
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.study.finals import labels

ROWS = 20  # trials shown; older ones scroll away
STYLES = {
    "COMPLETE": "green",
    "PRUNED": "yellow",
    "FAIL": "red",
    "RUNNING": "bold cyan",
    "WAITING": "dim",
}


def short(path: str) -> str:
    """`targets.sigma_divisor` -> `sigma_divisor`."""
    return path.rpartition(".")[2]


def number(value: object) -> str:
    """A parameter's value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else written(value)


def percent(value: float | None) -> str:
    """An AP, or nothing yet."""
    return "" if value is None else f"{value:.1f}"


def duration(seconds: float) -> str:
    """`95` -> `1:35`."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Screen:
    """Progress of a study, shown as it comes."""

    def __init__(
        self,
        console: Console,
        *,
        budget: Budget,
        known: Iterable[Progress],
        began: float | None = None,
    ) -> None:
        """known: the trials that were finished before; began: when, by the clock; default: now."""
        self.console, self.budget = console, budget
        self.rows = {progress.trial: progress for progress in known}
        self.before = set(self.rows)  # not run now, so not in the pace
        self.began = time.time() if began is None else began
        self.trouble = ""
        self.live = Live(console=console, refresh_per_second=4, get_renderable=self.render)

    def __enter__(self) -> "Screen":
        """Start drawing."""
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last table on the screen."""
        if self.console.is_terminal:
            self.live.stop()

    def follow(self, events: Iterator[Progress]) -> None:
        """Show every event."""
        for progress in events:
            self.take(progress)
            if not self.console.is_terminal:
                self.console.print(self.line(progress), highlight=False, soft_wrap=True)

    def take(self, progress: Progress) -> None:
        """Note where a trial is."""
        self.rows[progress.trial] = progress
        if progress.state in ("WAITING", "FAIL"):
            self.trouble = f"{progress.name.words}: {progress.reason}"

    @property
    def best(self) -> Progress | None:
        """The complete trial of the highest AP."""
        done = [row for row in self.rows.values() if row.state == "COMPLETE"]
        return max(done, key=lambda row: (row.value or 0.0, -row.trial), default=None)

    @property
    def now(self) -> list[Progress]:
        """The trials of this session."""
        return [row for row in self.rows.values() if row.trial not in self.before]

    def pace(self) -> float:
        """Epochs a minute, of all workers together."""
        epochs = sum(row.epoch.number for row in self.now if row.epoch)
        return 60 * epochs / max(time.time() - self.began, 1.0)

    def left(self) -> float | None:
        """Seconds to the end at the pace so far; unknown before the first epoch of this session."""
        now = self.now
        epochs = sum(row.epoch.number for row in now if row.epoch)
        seconds = time.time() - self.began
        if not epochs:
            return None
        shares = []
        if self.budget.trials:
            done = sum(1.0 if over(row) else share(row) for row in now)
            rest = self.budget.trials - len(self.before) - done
            shares.append(rest / done * seconds if done else math.inf)
        if self.budget.epochs:
            used = sum(row.epoch.number for row in self.rows.values() if row.epoch)
            shares.append((self.budget.epochs - used) / epochs * seconds)
        if self.budget.hours:
            shares.append(self.budget.hours * 3600 - seconds)
        return max(min(shares), 0.0) if shares else None

    def line(self, row: Progress) -> str:
        """One event as a line of a log."""
        epoch, name = row.epoch, row.name.words
        values = " ".join(f"{short(path)}={number(value)}" for path, value in row.params.items())
        if row.state == "WAITING":
            return f"{name}: interrupted ({row.reason}); it goes on from its checkpoint"
        if row.state != "RUNNING":
            why = f" ({row.reason})" if row.reason else ""
            return f"{name}: {row.state}, best AP {percent(row.value) or '-'}{why}"
        if epoch is None:
            return f"{name}: {values}"
        left = self.left()
        ap = f", AP {percent(epoch.metrics['AP'])}" if "AP" in epoch.metrics else ""
        return (
            f"{name}: epoch {epoch.number}/{row.epochs}{ap}, "
            f"{epoch.images_per_second:.0f} images/s, ETA {duration(left or 0)}"
        )

    def render(self) -> Group:
        """The live table."""
        best = self.best
        rows = list(self.rows.values())
        done, left = sum(map(over, rows)), self.left()
        foot = f"{done} trials of {self.budget}, {duration(time.time() - self.began)} so far"
        if left is not None:
            foot += f", {self.pace():.3g} epochs a minute, about {duration(left)} to go"
        lines = [Text(foot, "dim")]
        if best is not None:
            text = f"best so far: {best.name.words}: AP {percent(best.value)}"
            lines.insert(0, Text(text))
        if self.trouble:
            lines.append(Text(f"last trouble: {self.trouble}", "red"))
        several = any(row.worker for row in rows)
        shown = table(rows[-ROWS:], best=best.trial if best else None, workers=several)
        return Group(shown, *lines)


def session(console: Console, trials: Sequence[Any], session: dict[str, Any]) -> Screen:
    """The screen of a search that another process is at; session: what it noted of itself."""
    began, budget = session["began"], Budget(**session["budget"])
    complete = [trial for trial in trials if trial.datetime_complete is not None]
    before = [trial for trial in complete if trial.datetime_complete.timestamp() < began]
    screen = Screen(console, budget=budget, known=map(row, before), began=began)
    for trial in trials:
        if trial.state.name != "WAITING" or trial.intermediate_values:
            screen.take(row(trial))
    return screen


def over(row: Progress) -> bool:
    """Whether a trial has used what it will use."""
    return row.state not in ("RUNNING", "WAITING")


def share(row: Progress) -> float:
    """How much of its epochs a trial has behind it."""
    return row.epoch.number / row.epochs if row.epoch else 0.0


def table(rows: list[Progress], *, best: int | None, workers: bool = False) -> Table:
    """Trials with their state, epoch, AP, best AP so far and sampled values; the best starred."""
    paths = list(dict.fromkeys(path for row in rows for path in row.params))
    shown = Table(box=None, pad_edge=False, header_style="bold")
    own = ("worker",) if workers else ()
    for heading in ("trial", "state", *own, "epoch", "AP", "best", *map(short, paths)):
        shown.add_column(heading, justify="left" if heading == "state" else "right")
    for row in rows:
        epoch = row.epoch
        shown.add_row(
            f"{row.name}{'*' if row.trial == best else ' '}",
            Text(row.state, STYLES.get(row.state, "")),
            *([str(row.worker) if row.state == "RUNNING" else ""] if workers else []),
            f"{epoch.number}/{row.epochs}" if epoch else "",
            percent(epoch.metrics.get("AP") if epoch else None),
            percent(row.value),
            *(number(row.params.get(path, "")) for path in paths),
        )
    return shown


def row(trial: Any, label: Label | None = None) -> Progress:
    """One of Optuna's trials as a row of the table; label: what it is called, if by no number."""
    curve = trial.intermediate_values
    best, last = max(curve.values(), default=None), max(curve, default=None)
    epoch = None
    if last is not None:
        epoch = Epoch(last, {}, {"AP": curve[last]}, 0.0, 0.0, 0.0, 0.0, "", curve[last] == best)
    return Progress(
        trial.number,
        trial.params,
        trial.state.name,
        trial.user_attrs.get(study.EPOCHS, 0),
        epoch,
        best,
        trial.user_attrs.get(study.REASON, ""),
        label=label,
    )


def rows(holder: study.Study) -> list[Progress]:
    """The trials of a study, or of its finals, as rows of the table."""
    names = labels(holder)
    return [row(trial, names[trial.number]) for trial in holder.get_trials(deepcopy=False)]


def nearer(text: str) -> str:
    """A path, or the URI of an SQLite file, as it is typed in this folder."""
    return re.sub(rf"^(sqlite:///)?{re.escape(str(Path.cwd()))}/", r"\1", text)


def introduction(
    name: str,
    space: SearchSpace,
    base: Config,
    splits: tuple[Split, Split],
    own: Settings,
    budget: Budget,
    workers: int,
) -> str:
    """What will run, and where it is logged."""
    train, val = splits
    skipped = passed_over(problem for split in splits for problem in split.problems)
    check = f"{typed('centernet')} check-data"
    note = f" ({skipped}: {check})" if skipped else ""
    classes = ", ".join(train.classes[:8]) + (" ..." if len(train.classes) > 8 else "")
    size = f"{base.data.width}x{base.data.height} px"
    methods = f"{space.sampler['name']} sampler, {space.pruner['name']} pruner"
    beside = f", {workers} workers" if workers > 1 else ""
    return (
        f"Study    {name}: {budget}, {methods}{beside}\n"
        f"Varies   {', '.join(space.parameters)}\n"
        f"Data     {nearer(str(base.data.folder))}: {len(train)} train, {len(val)} val images, "
        f"{one_line(classes)}{note}\n"
        f"Model    {base.model.backbone}, {size}, {base.train.epochs} epochs a trial\n"
        f"Logged   {nearer(without_passwords(own.tracking_uri))} ({command('ui')})\n"
    )
