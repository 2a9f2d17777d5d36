"""What a person sees while an epoch goes on."""

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from centernet import style
from centernet.commands import progress
from centernet.commands.steps import StepProgress
from centernet.structures import Step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock: list[float], terminal: bool, seconds: float, steps: int = 10) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with StepProgress(3, console) as shown:
        for phase in ("training", "evaluating"):
            for done in range(1, steps + 1):
                clock[0] += seconds
                shown.show(Step(2, phase, done, steps))
    return out.getvalue()


def test_what_takes_under_two_seconds_shows_nothing(clock: list[float], capsys: Any) -> None:
    assert run(clock, terminal=True, seconds=0.19) == ""
    assert run(clock, terminal=False, seconds=0.19) == "" == capsys.readouterr().out


def test_on_a_terminal_there_is_a_bar_with_an_eta_which_leaves_nothing(
    clock: list[float], capsys: Any
) -> None:
    out = run(clock, terminal=True, seconds=1.0)
    assert "epoch 2/3, training" in out and "ETA 0:0" in out and "10/10" in out
    assert out.endswith("\x1b[2K") or out.endswith("\x1b[?25h") or "\x1b[2K" in out[-40:]
    assert capsys.readouterr().out == ""


def test_a_slow_first_step_is_not_taken_for_the_pace(clock: list[float], capsys: Any) -> None:
    with StepProgress(1, Console(file=io.StringIO())) as shown:
        for done, seconds in ((1, 20), (2, 6), (3, 6)):
            clock[0] += seconds
            shown.show(Step(1, "training", done, 10))
    assert capsys.readouterr().out == "epoch 1/1, training: 3/10, ETA 0:42\n"


def test_elsewhere_a_long_epoch_says_a_line_every_half_minute(
    clock: list[float], capsys: Any
) -> None:
    assert run(clock, terminal=False, seconds=20) == ""
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch 2/3, training: 2/10, ETA 2:40"
    assert len(lines) == 10 and lines[5].startswith("epoch 2/3, evaluating: 2/10")


def test_a_table_in_a_pipe_is_not_cut_to_the_width_of_an_old_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert style.console().width == style.WIDE
    monkeypatch.setenv("COLUMNS", "20")  # a shell that exports it
    assert style.console().width == style.WIDE
    monkeypatch.setattr(sys, "stdout", None)  # closed by the shell: >&-
    style.console().print("nobody reads this")
