"""The identity of code, packages and hardware: what a result depends on beside config and data."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from centernet.seed import cores, key

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("centernet/**/*.py", "centernet/**/*.yaml", "experiments/**/*.py")
OWN = "centernet-experiments"  # this project, as its packages see it
DIFF = ("diff", "--binary", "--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/")
LARGEST = 2**20  # bytes of a patch that is kept
# environment variables that change what a CPU or GPU computes
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "OMP_THREAD_LIMIT",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


def identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON: code, packages, hardware, and how a config of these values uses them."""
    from centernet.device import choose_device

    seed = values["train.seed"]
    return {
        **code(ROOT),
        "python": platform.python_version(),
        "packages": packages(),
        **hardware(),
        "device": choose_device(values["train.device"]).type,
        "mode": "deterministic" if values["train.deterministic"] else "fast",
        "threads": values["train.threads"] or cores(),
        "pretrained": pretrained(values.get("model.pretrained")),  # older configs have none
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "seed": seed,
        "keys": {"init": key(seed, "init"), "epoch 1": key(seed, "epoch", 1)},
    }


def pretrained(value: object) -> str | None:
    """SHA-256 of the file of initial weights; none where they are no file, or not here.

    Those of a package are known by its version, and downloaded ones by their name.
    """
    file = Path(str(value))
    return hashlib.sha256(file.read_bytes()).hexdigest() if value and file.is_file() else None


@cache  # what this process runs is what lay there when it began
def code(root: Path) -> dict[str, Any]:
    """The commit, what was not committed (the name of its patch), a digest of every source file."""
    changes = patch(root)
    return {
        "commit": git(root, "rev-parse", "HEAD"),
        "dirty": bool(changes),
        "patch": patch_name(changes) if 0 < len(changes) <= LARGEST else None,
        "sources": sources(root),
    }


def sources(root: Path) -> dict[str, str]:
    """SHA-256 of each source file of both packages."""
    files = sorted(file for pattern in SOURCES for file in root.glob(pattern) if file.is_file())
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


@cache
def patch(root: Path) -> str:
    """What was not committed of the source files, new ones too, as `git apply` takes it.

    Only files of `SOURCES` that git does not ignore: no settings, no data, no notes.
    """
    wanted = [f":(glob){pattern}" for pattern in SOURCES]
    new = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *wanted) or ""
    parts = [git(root, *DIFF, "--relative", "HEAD", "--", *wanted)]
    for name in filter(None, new.split("\0")):
        parts.append(git(root, *DIFF, "--no-index", "/dev/null", name, differs=True))
    return "".join(part + "\n" for part in parts if part)


def patch_name(text: str) -> str:
    """The artifact that a patch is kept as."""
    return f"code-{hashlib.sha256(text.encode()).hexdigest()[:12]}.patch"


@cache
def packages() -> dict[str, str]:
    """Version of every installed package by its normalised name, without this project's own.

    What a package brings along inside its own folder is not installed: Ray puts such on the path
    of its workers.
    """
    found: dict[str, str] = {}
    installed = Path(sysconfig.get_path("purelib"))
    places = [one for one in sys.path if installed not in Path(one).parents]
    for one in distributions(path=places):
        name = re.sub(r"[-_.]+", "-", one.metadata["Name"] or "").lower()
        if name and name != OWN:
            found.setdefault(name, one.version)  # the first on the path is the one imported
    return dict(sorted(found.items()))


@cache
def hardware() -> dict[str, Any]:
    """Processor, GPU, and the libraries that decide how they are used."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu_model(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # instructions that torch uses
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
    }


def git(root: Path, *arguments: str, differs: bool = False, text: str | None = None) -> str | None:
    """What git says about a folder, without the last newline; none where it fails.

    `differs`: status 1 is no failure, `diff --no-index` says so; `text` goes to its input.
    """
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, input=(text or "").encode(), capture_output=True, check=False, timeout=60
        )
        answer = done.stdout.decode()  # as bytes: the ends of lines stay as they are
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return answer.removesuffix("\n") if done.returncode in (0, int(differs)) else None


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
