"""Necks by name: features of a backbone, finest first -> one map[B, channels, h, w].

A neck ends at `stride`, also where that is finer than the backbone's finest feature.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from centernet.layers import bilinear, convolution, enlarge

WIDEST = 4  # times the neck's channels, at its coarse levels


def widths(channels: int, levels: int) -> list[int]:
    """Width of each level, finest first: coarse ones are wider, as cells are few there."""
    return [channels * min(2**level, WIDEST) for level in range(levels)]


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al. 2017) down to its finest level.

    From the coarsest feature on: a 3x3 convolution to the next level's width, upsample, add that
    level through a 1x1 convolution; a last 3x3 convolution.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        strides: Sequence[int],
        *,
        channels: int,
        stride: int,
        deformable: bool,
    ) -> None:
        """One lateral convolution for each feature, one step down between two of them."""
        super().__init__()
        own = widths(channels, len(inputs))
        self.lateral = nn.ModuleList(convolution(a, b, 1) for a, b in zip(inputs, own, strict=True))
        self.down = nn.ModuleList(
            convolution(b, a, 3, deformable=deformable) for a, b in pairwise(own)
        )
        self.last = convolution(channels, channels, 3, deformable=deformable)
        self.factors = [coarse / fine for fine, coarse in pairwise(strides)]
        self.finer = finer(channels, strides[0], stride, deformable=deformable)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Merge features, finest first."""
        levels = [layer(x) for layer, x in zip(self.lateral, features, strict=True)]
        merged: Tensor = levels.pop()
        for level, down, factor in reversed(
            list(zip(levels, self.down, self.factors, strict=True))
        ):
            merged = level + interpolate(down(merged), scale_factor=factor, mode="nearest")
        last: Tensor = self.finer(self.last(merged))
        return last


class Deconvolutions(nn.Module):
    """The paper's ResNet neck: 4x4 transposed convolutions from the coarsest feature, no shortcuts.

    All `channels` wide (published: 256); with deformable convolutions, one before each, narrowing
    to `channels` (published: 256, 128, 64).
    """

    def __init__(
        self,
        inputs: Sequence[int],
        strides: Sequence[int],
        *,
        channels: int,
        stride: int,
        deformable: bool,
    ) -> None:
        """One transposed convolution for each doubling of the map; a plain one if there is none."""
        super().__init__()
        count = doublings(strides[-1], stride)
        own = widths(channels, count)[::-1] if deformable else [channels] * count
        steps: list[nn.Module] = []
        width = inputs[-1]
        for outputs in own:
            if deformable:
                steps.append(convolution(width, outputs, 3, deformable=True))
            steps.append(transposed(outputs if deformable else width, outputs))
            width = outputs
        self.steps = nn.Sequential(*steps or [convolution(width, channels, 3)])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Upsample the coarsest."""
        found: Tensor = self.steps(features[-1])
        return found


class Aggregation(nn.Module):
    """Iterative deep aggregation (Yu et al. 2018), the paper's neck of DLA-34: `DLAUp`.

    Every level is merged into all finer ones again and again; where a feature has its level's
    width, as DLA-34's do with 64 channels, this is the published network.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        strides: Sequence[int],
        *,
        channels: int,
        stride: int,
        deformable: bool,
    ) -> None:
        """Merge the coarsest two, then three, ... levels; at last the results of it."""
        super().__init__()
        own = [channels * 2**level for level in range(len(inputs))]
        self.lateral = nn.ModuleList(
            nn.Identity() if a == b else convolution(a, b, 1)
            for a, b in zip(inputs, own, strict=True)
        )
        self.rounds = nn.ModuleList()
        now = list(own)
        for level in reversed(range(len(own) - 1)):
            coarser = now[level + 1 :]  # the round before left all of them at one stride
            factors = [strides[level + 1] // strides[level]] * len(coarser)
            self.rounds.append(Merge(coarser, own[level], factors, deformable=deformable))
            now[level:] = [own[level]] * len(now[level:])
        results = own[:-1] or own
        factors = [coarse // strides[0] for coarse in strides[1 : len(results)]]
        self.merge = Merge(results[1:], own[0], factors, deformable=deformable)
        self.finer = finer(channels, strides[0], stride, deformable=deformable)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Merge features, finest first."""
        levels = [layer(x) for layer, x in zip(self.lateral, features, strict=True)]
        results: list[Tensor] = []
        coarser = [levels.pop()]
        for merge in self.rounds:
            coarser = merge(levels.pop(), coarser)
            results.insert(0, coarser[-1])
        first, *others = results or coarser
        last: Tensor = self.finer(self.merge(first, others)[-1])
        return last


class Merge(nn.Module):
    """One iterative aggregation: coarser maps, one after the other, into the finest."""

    def __init__(
        self, inputs: Sequence[int], channels: int, factors: Sequence[int], *, deformable: bool
    ) -> None:
        """inputs and factors: width of each coarser map, and how much finer the finest is."""
        super().__init__()
        self.project = nn.ModuleList(
            convolution(width, channels, 3, deformable=deformable) for width in inputs
        )
        self.enlarge = nn.ModuleList(enlarge(channels, factor) for factor in factors)
        self.node = nn.ModuleList(
            convolution(channels, channels, 3, deformable=deformable) for _ in inputs
        )

    def forward(self, finest: Tensor, coarser: list[Tensor]) -> list[Tensor]:
        """The finest map as it was, and after each merge."""
        found = [finest]
        for x, project, up, node in zip(
            coarser, self.project, self.enlarge, self.node, strict=True
        ):
            found.append(node(up(project(x)) + found[-1]))
        return found


class Double(nn.Module):
    """A map of half the stride: each cell four times, then a 3x3 convolution."""

    def __init__(self, channels: int, *, deformable: bool) -> None:
        """One convolution."""
        super().__init__()
        self.convolution = convolution(channels, channels, 3, deformable=deformable)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, h, w] -> [B, C, 2h, 2w]."""
        found: Tensor = self.convolution(interpolate(x, scale_factor=2.0, mode="nearest"))
        return found


def finer(channels: int, finest: int, stride: int, *, deformable: bool) -> nn.Sequential:
    """From the finest feature's stride to the wanted one; nothing where they are the same."""
    steps = range(doublings(finest, stride))
    return nn.Sequential(*(Double(channels, deformable=deformable) for _ in steps))


def doublings(coarse: int, fine: int) -> int:
    """How often a map of stride `coarse` is doubled to have stride `fine`."""
    return int(math.log2(coarse / fine))


def transposed(inputs: int, outputs: int) -> nn.Sequential:
    """A 4x4 transposed convolution that doubles a map, batch norm, ReLU.

    It begins as the published one does: nearly zero, and where the width stays bilinear.
    """
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    nn.init.normal_(layer.weight, std=0.001)
    if inputs == outputs:
        with torch.no_grad():
            layer.weight[range(inputs), range(inputs)] = bilinear(2)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


NECKS: dict[str, Callable[..., nn.Module]] = {
    "pyramid": Pyramid,
    "deconv": Deconvolutions,
    "dla_up": Aggregation,
}
