"""The identity of code, environment and hardware: what a result depends on beside its config."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch", "torchvision", "numpy", "albumentations", "opencv-python-headless", "pillow",
    "pycocotools", "timm", "optuna", "mlflow",
)  # fmt: skip


def identity(*, threads: int | None) -> dict[str, Any]:
    """Plain JSON: code, packages, Python, hardware, threads."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": packages(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": threads or os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
    }


@cache
def packages() -> dict[str, str]:
    """Versions of what results depend on."""
    return {found.name: found.version for found in map(distribution, PACKAGES)}


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`name: then -> now` for what changed, packages one by one."""
    a = {**then, **then.get("packages", {})}
    b = {**now, **now.get("packages", {})}
    names = (name for name in a | b if name != "packages")
    return [
        f"{name}: {a.get(name)} -> {b.get(name)}" for name in names if a.get(name) != b.get(name)
    ]


def diff() -> str:
    """Uncommitted changes to tracked files, as a patch."""
    return git("diff", "HEAD", "--", ".", ":!mlflow.yaml") or ""  # which may hold a password


@cache  # what this process runs is what lay there when it began
def git(*arguments: str) -> str | None:
    """What git says about this project; none outside of a repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def cpu_model() -> str:
    """The processor's name, as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    parts = {
        line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if ":" in line
    }
    return " ".join(
        f"{name} {parts[key]}"
        for name, key in (("", "model name"), ("family", "cpu family"), ("model", "model"))
        if key in parts
    ).strip()
