"""What ran then, beside what runs now: code in a worktree, packages in an environment of their own.

A tracking store is not trusted. Only commits that this repository has are checked out; a recorded
patch is code from the store, and is run only by whoever says so.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from centernet.errors import UserError, one_line
from experiments import replay
from experiments.differences import TRAINS, unequal
from experiments.provenance import VARIABLES, git, patch_name, sources
from experiments.tracking.record import Recorded

COMMIT = r"[0-9a-f]{40}([0-9a-f]{24})?"
NAME, VERSION = r"[a-z0-9][a-z0-9-]*", r"[A-Za-z0-9][A-Za-z0-9.!+_-]*"
READY = ".ready"


def obstacle(then: Recorded, root: Path, *, trust: bool) -> str:
    """Why the code of then cannot be restored, and what to do; the empty string if it can."""
    commit, patch = then.identity.get("commit"), then.identity.get("patch")
    if not commit or not re.fullmatch(COMMIT, commit):
        return "it was recorded outside of git; --as-is trains with the code that is here"
    if git(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        return (
            f"its commit {commit[:12]} is not in this clone (git fetch may bring it); "
            "--as-is trains with the code that is here"
        )
    if then.identity.get("dirty") and "sources" in then.identity:
        if then.patch is not None and not trains(then.patch):
            return ""
        if then.patch is None or patch != patch_name(then.patch):
            return "its uncommitted changes were not kept; --as-is trains with what is here"
        if not trust:
            return (
                f"it had uncommitted changes: {patch} of its run is code from the store; "
                "--trust-patch runs it, --as-is trains with the code that is here"
            )
    return ""


@contextmanager
def code(then: Recorded, root: Path, folder: Path) -> Iterator[Path]:
    """The code of then, checked out below `folder` while the block runs; no `obstacle` is there."""
    commit = str(then.identity["commit"])
    tree = folder / "code"
    if git(root, "worktree", "add", "--detach", str(tree), commit) is None:
        raise UserError(f"git cannot check commit {commit[:12]} out into {tree}")
    try:
        below = git(root, "rev-parse", "--show-prefix") or ""  # of a larger repository
        if then.patch and trains(then.patch):
            apply(then.patch, tree, below)
        place = tree / below
        check(place, then)
        yield place
    finally:
        git(root, "worktree", "remove", "--force", str(tree))


def trains(patch: str) -> bool:
    """Whether a patch changes code that decides a training's bits."""
    return bool(re.search(rf"^diff --git .*\b{TRAINS}", patch, re.MULTILINE))


def apply(patch: str, tree: Path, below: str) -> None:
    """Change the files of a worktree, or of a folder in it, as a patch says; others git refuses."""
    where = [f"--directory={below}"] if below else []
    if git(tree, "apply", "--whitespace=nowarn", *where, "-", text=patch) is None:
        raise UserError("git cannot apply the recorded patch to the recorded commit")


def check(place: Path, then: Recorded) -> None:
    """UserError unless the code that trains is, file by file, what was recorded."""
    found = unequal("source", then.identity.get("sources", {}), sources(place))
    wrong = [str(one) for one in found if one.trains and "sources" in then.identity]
    if wrong:
        raise UserError(f"the restored code is not what was recorded: {wrong[0]}")


def environment(then: Recorded, folder: Path) -> Path:
    """The Python of an environment with the packages of then; made once, and kept in `folder`."""
    if "variables" not in then.identity:
        raise UserError("--restore-env: the run is of a version that recorded ten packages only")
    wanted, python = pins(then.identity["packages"]), str(then.identity["python"])
    if not re.fullmatch(r"\d+(\.\d+)*\w*", python):
        raise UserError(f"the run's Python is called {python!r}")
    name = hashlib.sha256(f"{python}\n{wanted}".encode()).hexdigest()[:16]
    home = folder / name
    executable = home / "bin" / "python"
    if not (home / READY).exists():
        shutil.rmtree(home, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        install(home, executable, python, wanted)
        (home / READY).touch()
    return executable


def pins(packages: Mapping[str, str]) -> str:
    """`name==version` lines; UserError for a name or version that could be anything else."""
    for name, version in packages.items():
        if not re.fullmatch(NAME, name) or not re.fullmatch(VERSION, version):
            raise UserError(f"the run has a package called {name!r} {version!r}")
    return "".join(f"{name}=={version}\n" for name, version in packages.items())


def install(home: Path, executable: Path, python: str, wanted: str) -> None:
    """Make an environment by uv, else by venv and pip, from wherever those are set to install."""
    if importlib.util.find_spec("uv"):
        uv = [sys.executable, "-m", "uv"]
        make = [*uv, "venv", "--quiet", "--python", python, str(home)]
        fill = [*uv, "pip", "install", "--quiet", "--python", str(executable)]
    else:
        make = [sys.executable, "-m", "venv", str(home)]
        fill = [str(executable), "-m", "pip", "install", "--quiet"]
    listing = home / "requirements.txt"
    must(make)
    listing.write_text(wanted)
    must([*fill, "--no-deps", "-r", str(listing)])


def must(command: list[str]) -> None:
    """Run a command; UserError with its last words if it fails."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise UserError(f"--restore-env: {last_line(done.stderr.decode(errors='replace'))}")


def train(
    values: dict[str, Any],
    folder: Path,
    *,
    python: Path,
    code: Path,
    variables: Mapping[str, str],
) -> Generator[dict[str, Any], None, None]:
    """`replay` in a process of its own, with the code and Python given; UserError if it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-P", str(replay.__file__)]
    task = {"values": values, "folder": str(folder), "code": str(code)}
    log, done = folder / "stderr.txt", False
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=surroundings(code, values["train.threads"], variables),
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it died at once: its status will say so
                process.stdin.write(json.dumps(task).encode())
                process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
            done = True
        finally:
            if not done:  # the caller has seen enough
                process.terminate()
    if process.returncode:
        raise UserError(f"the training of then ended: {last_line(log.read_text())}")


def surroundings(code: Path, threads: int, variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment variables, but those that results depend on as they were then."""
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    own |= {name: str(value) for name, value in variables.items() if name in VARIABLES}
    return own | {
        "PYTHONPATH": str(code),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
    }


def last_line(text: str) -> str:
    """The last words of a program that failed."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "it said nothing"
