"""What no weights may hold: NaN and infinite numbers, with which a network finds nothing."""

import torch
from torch import Tensor

from centernet.errors import UserError


def refuse_not_finite(tensor: Tensor, name: str, source: str) -> None:
    """UserError that names file and tensor, if one of its numbers is NaN or infinite."""
    bad = ~torch.isfinite(tensor)
    if bad.any():
        count = f"{int(bad.sum())} of its {tensor.numel()} numbers are NaN or infinite"
        raise UserError(f"{source}: unusable weights: {name}: {count}")
