"""What is typed behind `make` reaches the program as it was typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.next_steps import command

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """#!/usr/bin/env bash
printf '%s\\0' "$@" > said
"""
COMMANDS = {
    "search": {"SPACE": "--space", "DATA": "--data", "TRIALS": "--trials", "STUDY": "--study",
               "CONFIG": "--config", "HOURS": "--hours", "EPOCHS": "--epochs",
               "WORKERS": "--workers", "FINALISTS": "--finalists", "SEEDS": "--seeds"},
    "status": {"STUDY": ""},
    "report": {"STUDY": ""},
    "ui": {"PORT": "--port"},
    "register": {"TRIAL": "", "STUDY": "--study", "DATA": "--data"},
    "models": {"MODEL": "--model"},
    "rollback": {"WHY": "--why", "TO": "--to", "MODEL": "--model"},
    "serve": {"MODEL": "--weights", "PORT": "--port"},
    "reproduce": {"TRIAL": "", "STUDY": "--study", "EPOCHS": "--epochs", "DATA": "--data"},
}  # fmt: skip
ODD = (
    'a 5" screen', "it's", "costs $5, $HOME, $(id), $$", "`touch owned`", "; touch owned #", "a\\b\\",
    "#", "%", "ü ß", "*", "-", "a=b", "two\nlines", "!",
)  # fmt: skip


def test_a_next_step_is_typed_as_the_program_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    assert command("register", trial="7.2", data="a b") == "make register TRIAL=7.2 DATA='a b'"
    monkeypatch.delenv("MAKELEVEL")
    monkeypatch.setenv("PATH", "/nowhere")
    typed = command("register", trial="7.2", data="a b").split()
    assert typed[1:] == ["register", "7.2", "--data", "'a", "b'"]
    done = subprocess.run([*typed[:1], "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: experiments")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert command("ui", port=1) == "experiments ui --port 1"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile beside a program that only writes down its arguments."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "requirements.lock").touch()
    program = tmp_path / ".venv" / "bin" / "experiments"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_value_reaches_the_program_as_typed(clone: Path, command: str) -> None:
    options = COMMANDS[command]
    environment = {k: v for k, v in os.environ.items() if k not in COMMANDS["search"]}
    for text in ODD:
        words = ["make", command, *(f"{name}={text}" for name in options)]
        subprocess.run(words, cwd=clone, env=environment, check=True, capture_output=True)
        arguments = (clone / "said").read_text().split("\0")[:-1]
        wanted = [word for option in options.values() for word in (option, text) if word]
        assert arguments[0] == command and sorted(arguments[1:]) == sorted(wanted)
    assert not (clone / "owned").exists()
