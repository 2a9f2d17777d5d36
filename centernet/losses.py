"""(Maps, Maps) -> scalar: focal loss on the heatmap, L1 or GIoU on size, L1 on offset."""

from collections.abc import Callable

import torch
from torch import Tensor

from centernet.structures import Maps

CLAMP = 1e-4  # keeps log finite; in float32 only: in half precision 1 - 1e-4 is 1


def focal(logits: Tensor, target: Tensor, *, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Penalty-reduced focal loss of logits[B, C, h, w] against target[B, C, h, w], a scalar.

    Peaks of the target are exactly 1; the sum is divided by their count, or by 1 without any.
    Equation 1 of Objects as Points, computed in float32 whatever the network's precision.
    """
    p = logits.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
    peak = target == 1
    near_one = (1 - p).pow(alpha) * p.log()
    near_zero = (1 - target).pow(beta) * p.pow(alpha) * (1 - p).log()
    return -torch.where(peak, near_one, near_zero).sum() / peak.sum().clamp(min=1)


def l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of [B, 2, h, w] over both components at the cells of the mask."""
    difference = (predicted.float() - target).abs() * mask
    return difference.sum() / (2 * mask.sum()).clamp(min=1)


def size_l1(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """The paper's size loss, in cells."""
    return l1(predicted.size, target.size, mask)


def size_giou(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """Mean of 1 - GIoU (Rezatofighi et al. 2019) of the boxes at the cells of the mask."""
    ours, theirs = _corners(predicted), _corners(target)
    inner = (torch.minimum(ours[1], theirs[1]) - torch.maximum(ours[0], theirs[0])).clamp(min=0)
    outer = torch.maximum(ours[1], theirs[1]) - torch.minimum(ours[0], theirs[0])
    intersection, hull = inner.prod(1), outer.prod(1)
    union = (ours[1] - ours[0]).prod(1) + (theirs[1] - theirs[0]).prod(1) - intersection
    giou = intersection / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return ((1 - giou) * mask[:, 0]).sum() / mask.sum().clamp(min=1)


def _corners(maps: Maps) -> tuple[Tensor, Tensor]:
    """Top-left and bottom-right corner[B, 2, h, w] of each cell's box, from that cell, in cells."""
    size = maps.size.float()
    positive = size + (size.clamp(min=1e-3) - size).detach()  # a clamp that lets gradients pass
    half = positive / 2
    return maps.offset.float() - half, maps.offset.float() + half


SIZE_LOSSES: dict[str, Callable[[Maps, Maps, Tensor], Tensor]] = {"l1": size_l1, "giou": size_giou}


def losses(
    predicted: Maps,
    target: Maps,
    *,
    heatmap_weight: float = 1.0,
    size_weight: float = 0.1,
    offset_weight: float = 0.1,
    size_loss: str = "l1",
    focal_alpha: float = 2.0,
    focal_beta: float = 4.0,
) -> dict[str, Tensor]:
    """The three terms, unweighted, and their weighted sum `total`: scalars in float32."""
    assert target.mask is not None, "a target has a mask"
    terms = {
        "heatmap": focal(predicted.heatmap, target.heatmap, alpha=focal_alpha, beta=focal_beta),
        "size": SIZE_LOSSES[size_loss](predicted, target, target.mask),
        "offset": l1(predicted.offset, target.offset, target.mask),
    }
    total = (
        heatmap_weight * terms["heatmap"]
        + size_weight * terms["size"]
        + offset_weight * terms["offset"]
    )
    return terms | {"total": total}
