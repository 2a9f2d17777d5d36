"""(Maps, Maps) -> scalars: focal loss on the heatmap, L1 or an IoU on size, L1 on offset.

Each term is a sum over the objects; `losses` divides it by their count, which several processes
may first add up.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, smooth_l1_loss

from centernet.structures import Maps

CLAMP = 1e-4  # keeps log finite; in float32 only: in half precision 1 - 1e-4 is 1


def clamped(logits: Tensor, target: Tensor, *, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Penalty-reduced focal loss of logits[B, C, h, w] against target[B, C, h, w], a sum.

    Equation 1 of Objects as Points; peaks of the target are exactly 1. Computed in float32 whatever
    the network's precision. A cell beyond the clamp, |logit| > 9.2, has no gradient.
    """
    p = logits.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
    near_one = (1 - p).pow(alpha) * p.log()
    near_zero = (1 - target).pow(beta) * p.pow(alpha) * (1 - p).log()
    return -torch.where(target == 1, near_one, near_zero).sum()


def from_logits(logits: Tensor, target: Tensor, *, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """As `clamped`, without a clamp: log p = logsigmoid(logit). Every cell keeps its gradient."""
    logits = logits.float()
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
    near_one = (alpha * log_not_p).exp() * log_p
    near_zero = (1 - target).pow(beta) * (alpha * log_p).exp() * log_not_p
    return -torch.where(target == 1, near_one, near_zero).sum()


HEATMAP_LOSSES: dict[str, Callable[..., Tensor]] = {"clamped": clamped, "logits": from_logits}


def l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Absolute differences of [B, 2, h, w], the mean of both components, weighted by the mask."""
    return ((predicted.float() - target).abs() * mask).sum() / 2


def size_l1(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """The paper's size loss, in cells."""
    return l1(predicted.size, target.size, mask)


def size_smooth_l1(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """Quadratic below a difference of one cell (Girshick 2015)."""
    difference = smooth_l1_loss(predicted.size.float(), target.size, reduction="none")
    return (difference * mask).sum() / 2


def size_giou(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) of the boxes at the cells of the mask."""
    iou, union, hull = overlap(corners(predicted), corners(target))
    area = hull.prod(1)
    giou = iou - (area - union) / area.clamp(min=1e-6)
    return ((1 - giou) * mask[:, 0]).sum()


def size_diou(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al. 2020): IoU less the squared distance of the centres."""
    return ((1 - distance_iou(predicted, target)) * mask[:, 0]).sum()


def size_ciou(predicted: Maps, target: Maps, mask: Tensor) -> Tensor:
    """1 - CIoU (Zheng et al. 2020): DIoU less the difference of the aspect ratios."""
    iou, _, _ = overlap(corners(predicted), corners(target))
    w, h = positive(predicted.size).unbind(1)
    w_true, h_true = positive(target.size).unbind(1)
    v = 4 / math.pi**2 * (torch.atan(w_true / h_true) - torch.atan(w / h)).square()
    weight = (v / (1 - iou + v).clamp(min=1e-6)).detach()
    return ((1 - distance_iou(predicted, target) + weight * v) * mask[:, 0]).sum()


def distance_iou(predicted: Maps, target: Maps) -> Tensor:
    """DIoU[B, h, w] of each cell's boxes."""
    iou, _, hull = overlap(corners(predicted), corners(target))
    apart = (predicted.offset.float() - target.offset).square().sum(1)
    return iou - apart / hull.square().sum(1).clamp(min=1e-6)


Corners = tuple[Tensor, Tensor]


def overlap(ours: Corners, theirs: Corners) -> tuple[Tensor, Tensor, Tensor]:
    """IoU[B, h, w] of boxes, area[B, h, w] of their union, sides[B, 2, h, w] of their hull."""
    inner = (torch.minimum(ours[1], theirs[1]) - torch.maximum(ours[0], theirs[0])).clamp(min=0)
    hull = torch.maximum(ours[1], theirs[1]) - torch.minimum(ours[0], theirs[0])
    intersection = inner.prod(1)
    union = (ours[1] - ours[0]).prod(1) + (theirs[1] - theirs[0]).prod(1) - intersection
    return intersection / union.clamp(min=1e-6), union, hull


def corners(maps: Maps) -> Corners:
    """Top-left and bottom-right corner[B, 2, h, w] of each cell's box, from that cell, in cells."""
    half = positive(maps.size) / 2
    return maps.offset.float() - half, maps.offset.float() + half


def positive(size: Tensor) -> Tensor:
    """Sizes of at least a thousandth of a cell; a clamp that lets gradients pass."""
    size = size.float()
    return size + (size.clamp(min=1e-3) - size).detach()


SIZE_LOSSES: dict[str, Callable[[Maps, Maps, Tensor], Tensor]] = {
    "l1": size_l1,
    "smooth_l1": size_smooth_l1,
    "giou": size_giou,
    "diou": size_diou,
    "ciou": size_ciou,
}


class Counts(NamedTuple):
    """What the sums are divided by: peaks of the heatmap, objects that have cells; scalars."""

    peaks: Tensor
    objects: Tensor

    @classmethod
    def of(cls, target: Maps) -> "Counts":
        """Of a batch's target."""
        assert target.mask is not None, "a target has a mask"
        return cls((target.heatmap == 1).sum(), target.mask.sum())


def losses(
    predicted: Maps,
    target: Maps,
    *,
    counts: Counts | None = None,
    heatmap_weight: float = 1.0,
    size_weight: float = 0.1,
    offset_weight: float = 0.1,
    heatmap: str = "clamped",
    size_loss: str = "l1",
    focal_alpha: float = 2.0,
    focal_beta: float = 4.0,
) -> dict[str, Tensor]:
    """The three terms, unweighted, and their weighted sum `total`: scalars in float32.

    Means over the objects, of which there are `counts` (default: those of the target), and over
    the stacks of an hourglass.
    """
    peaks, objects = (count.clamp(min=1) for count in counts or Counts.of(target))
    focal = partial(HEATMAP_LOSSES[heatmap], alpha=focal_alpha, beta=focal_beta)
    answers = (predicted, *predicted.early)
    found = [sums(one, target, focal=focal, size=SIZE_LOSSES[size_loss]) for one in answers]
    of_heatmap, of_size, of_offset = (sum(term) / len(found) for term in zip(*found, strict=True))
    terms = {
        "heatmap": of_heatmap / peaks,
        "size": of_size / objects,
        "offset": of_offset / objects,
    }
    total = (
        heatmap_weight * terms["heatmap"]
        + size_weight * terms["size"]
        + offset_weight * terms["offset"]
    )
    return terms | {"total": total}


def sums(
    predicted: Maps, target: Maps, *, focal: Callable[..., Tensor], size: Callable[..., Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Heatmap, size and offset loss of one answer, summed over the objects."""
    assert target.mask is not None and target.label is not None, "a target has a mask and labels"
    own = replace(predicted, size=own_size(predicted.size, target.label))
    return (
        focal(own.heatmap, target.heatmap),
        size(own, target, target.mask),
        l1(own.offset, target.offset, target.mask),
    )


def own_size(size: Tensor, label: Tensor) -> Tensor:
    """[B, 2, h, w]: of class-specific size[B, 2C, h, w], the planes of each cell's label."""
    if size.shape[1] == 2:
        return size
    return size.gather(1, torch.cat([2 * label, 2 * label + 1], 1))
