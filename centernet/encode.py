"""Instances -> Maps: a Gaussian at each centre, for the whole batch, on the training device.

Targets of Objects as Points (Zhou et al. 2019, section 3): the heatmap of a class is the maximum
over its objects of exp(-d² / 2σ²) around the centre's cell; size and offset live at that cell.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from centernet.structures import Instances, Maps

CHUNK = 1 << 24  # Gaussian values rendered at once: 64 MiB


def sigma_area(size: Tensor, *, sigma_divisor: float, min_overlap: float) -> Tensor:
    """sqrt(w·h) / sigma_divisor for size[N, 2], in cells: the same along both axes, [N, 1]."""
    return size.prod(1, keepdim=True).sqrt() / sigma_divisor


def sigma_ellipse(size: Tensor, *, sigma_divisor: float, min_overlap: float) -> Tensor:
    """w / sigma_divisor along x and h / sigma_divisor along y, [N, 2].

    TTFNet (Liu et al. 2020) has w·alpha / 6 with alpha 0.54: a divisor of 11.1.
    """
    return size / sigma_divisor


def sigma_overlap(size: Tensor, *, sigma_divisor: float, min_overlap: float) -> Tensor:
    """The published rule (CornerNet's radius, as the CenterNet code has it): (2·radius + 1) / 6.

    The smallest of three radii, for one corner moved in and one out, both in, both out. The
    quadratic formula's denominators are those of the published code: 2 where 2a would be exact,
    so a corner moved by the radius keeps less overlap than `min_overlap`.
    """
    w, h = size.ceil().unbind(1)  # the published code takes whole cells
    total, area, o = w + h, w * h, min_overlap

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (b + (b * b - 4 * a * c).clamp(min=0).sqrt()) / 2

    radius = torch.stack([
        root(1, total, area * (1 - o) / (1 + o)),
        root(4, 2 * total, (1 - o) * area),
        root(4 * o, -2 * o * total, (o - 1) * area),
    ]).amin(0).floor().clamp(min=0)  # fmt: skip
    return (2 * radius[:, None] + 1) / 6


SIGMA_RULES: dict[str, Callable[..., Tensor]] = {
    "area": sigma_area,
    "overlap": sigma_overlap,
    "ellipse": sigma_ellipse,
}


def encode(
    instances: list[Instances],
    *,
    classes: int,
    height: int,
    width: int,
    stride: int = 4,
    sigma_rule: str = "area",
    sigma_divisor: float = 6.0,
    min_overlap: float = 0.7,
    regression: str = "centre",
) -> Maps:
    """Target maps of a batch; boxes in pixels of the height x width network input.

    Objects without area, or whose centre lies outside, are dropped. Size and offset are regressed
    at the `centre`'s cell (the paper), or by every cell under the `gaussian`, weighted by it
    (after TTFNet, Liu et al. 2020): a cell serves the object that is highest there, and the
    weights of an object sum to 1. Where two objects tie, the smaller one has the cell; both
    heatmaps have their peak.
    """
    h, w, images = height // stride, width // stride, len(instances)
    objects = on_the_map(instances, h=h, w=w, stride=stride)
    sigma = SIGMA_RULES[sigma_rule](
        objects.size, sigma_divisor=sigma_divisor, min_overlap=min_overlap
    )
    heatmap = objects.size.new_zeros(images * classes, h * w)
    highest = objects.size.new_zeros(images, h * w)
    parts = torch.split(torch.arange(len(sigma), device=sigma.device), max(CHUNK // (h * w), 1))
    for part in parts:
        rendered = gaussians(objects.cell[part], sigma[part], h=h, w=w).flatten(1)
        image, label = objects.image[part, None], objects.label[part, None]
        heatmap.scatter_reduce_(0, (image * classes + label).expand_as(rendered), rendered, "amax")
        highest.scatter_reduce_(0, image.expand_as(rendered), rendered, "amax")

    owners, cells, weights = [], [], []
    for part in parts:
        rendered = gaussians(objects.cell[part], sigma[part], h=h, w=w).flatten(1)
        wanted = rendered == 1 if regression == "centre" else rendered > 0
        mine, at = (wanted & (rendered == highest[objects.image[part]])).nonzero(as_tuple=True)
        owners.append(part[mine])
        cells.append(at)
        weights.append(rendered[mine, at])
    planes = regress(
        objects, torch.cat(owners), torch.cat(cells), torch.cat(weights), images=images, h=h, w=w
    )
    size, offset, mask, label = torch.split(planes, [2, 2, 1, 1], 1)
    return Maps(heatmap.view(images, classes, h, w), size, offset, mask, label.long())


class Objects(NamedTuple):
    """The objects of a batch: image[N], label[N]; cell, centre and size[N, 2] in cells."""

    image: Tensor
    label: Tensor
    cell: Tensor
    centre: Tensor
    size: Tensor


def on_the_map(instances: list[Instances], *, h: int, w: int, stride: int) -> Objects:
    """Those with an area, whose centre lies in the h x w map."""
    device = instances[0].boxes.device
    boxes = torch.cat([one.boxes for one in instances]).float() / stride
    label = torch.cat([one.labels for one in instances])
    counts = torch.tensor([len(one.labels) for one in instances], device=device)
    image = torch.repeat_interleave(torch.arange(len(instances), device=device), counts)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    limit = torch.tensor((w, h), device=device)
    keep = (size > 0).all(1) & (centre >= 0).all(1) & (centre < limit).all(1)
    return Objects(image[keep], label[keep], centre[keep].floor(), centre[keep], size[keep])


def regress(
    objects: Objects, owner: Tensor, at: Tensor, weight: Tensor, *, images: int, h: int, w: int
) -> Tensor:
    """Planes[B, 6, h, w] of size, offset, weight and label: owner[M] at cell at[M]."""
    index = objects.image[owner] * h * w + at
    first = smallest_of_each(index, objects.size.prod(1)[owner])
    owner, at, weight = owner[first], at[first], weight[first]
    total = torch.zeros_like(objects.size[:, 0]).index_add_(0, owner, weight)
    offset = objects.centre[owner] - torch.stack([at % w, at // w], 1)
    planes = objects.size.new_zeros(images * h * w, 6)
    others = torch.stack([weight / total[owner], objects.label[owner].float()], 1)
    planes[index[first]] = torch.cat([objects.size[owner], offset, others], 1)
    return planes.view(images, h, w, 6).permute(0, 3, 1, 2)


def gaussians(cell: Tensor, sigma: Tensor, *, h: int, w: int) -> Tensor:
    """[N, h, w]: a Gaussian around each cell[N, 2] (x, y), cut off at 3 sigma.

    sigma[N, 1], or [N, 2] along x and y.
    """
    x = torch.arange(w, device=cell.device) - cell[:, :1]
    y = torch.arange(h, device=cell.device) - cell[:, 1:]
    sigma = sigma.clamp(min=0.01)  # the square of a tiny one is 0; such a Gaussian is its peak
    reach = (3 * sigma + 1e-4).floor()  # the published window: radius = floor(3 sigma)
    scale = -1 / (2 * sigma.square())
    along_x = torch.exp(x.square() * scale[:, :1]) * (x.abs() <= reach[:, :1])
    along_y = torch.exp(y.square() * scale[:, -1:]) * (y.abs() <= reach[:, -1:])
    return along_y[:, :, None] * along_x[:, None, :]


def smallest_of_each(index: Tensor, area: Tensor) -> Tensor:
    """Positions, one for each distinct value of index[N]: that of the smallest area[N]."""
    by_area = area.argsort(stable=True)
    order = by_area[index[by_area].argsort(stable=True)]
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
