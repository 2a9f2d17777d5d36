"""Keyed randomness: every draw depends on what it is for, never on what was drawn before."""

import os
import re
from hashlib import blake2b

import cv2
import torch

from centernet.errors import UserError


def key(*parts: int | str) -> int:
    """A 32-bit seed for (seed, purpose, epoch, sample ...): the same parts, the same draw."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator started from `key(*parts)`."""
    return torch.Generator().manual_seed(key(*parts))


def cores() -> int:
    """CPUs for this process: those it may use, divided by the processes that torchrun started."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (own or 1) // from_torchrun("LOCAL_WORLD_SIZE", least=1, default="1"))


def from_torchrun(name: str, *, least: int, default: str = "") -> int:
    """A whole number from `least` that torchrun put into the environment; UserError if none is."""
    text = os.environ.get(name) or default
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        came = repr(text[:40]) if text else "nothing"
        rule = f"expected a whole number from {least}, as torchrun sets it, got {came}"
        raise UserError(f"{name} (environment): {rule}")
    return int(text)


def set_up(*, threads: int, deterministic: bool, cudnn_benchmark: bool) -> None:
    """Make results repeatable for a thread count; deterministic mode also on CUDA, bit for bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's condition for it
    cv2.setNumThreads(0)  # loader workers are the parallelism
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = cudnn_benchmark and not deterministic
    torch.use_deterministic_algorithms(deterministic)
