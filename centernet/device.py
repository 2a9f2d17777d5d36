"""Where a network runs."""

import torch

from centernet.errors import UserError


def choose_device(name: str, *, asked: str = "train.device") -> torch.device:
    """`auto` is CUDA where there is one; UserError, naming `asked`, where CUDA is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{asked}: cuda is not available here; use auto or cpu")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if name == "auto" else name)
