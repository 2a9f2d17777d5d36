"""What a backbone is: a network cut where its map is halved, one feature from each part."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of RGB in 0...1
IMAGENET_RGB: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PROBE = 64  # pixels a side of the image that finds the strides
COARSEST = 32  # pixels a cell of the coarsest feature: what images are a multiple of
Size = tuple[int, int]  # height and width of images, in pixels


class Backbone(nn.Module):
    """`stages` applied one after the other, each one's output a feature.

    channels and strides: of the features; mean and std: of the images it expects, in 0...1;
    kept: which outputs are features, the others being finer than anybody asked for, coarser than
    images are a multiple of, or early;
    early: how many of the first outputs, in a stack of hourglasses, are features like the last
    one's, that a training supervises too;
    size: of the only images that the network itself takes, if it does not take any.
    """

    size: Size | None = None

    def __init__(
        self,
        stages: nn.Module,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        finest: int,
        early: int = 0,
        channels_last: bool = False,
        normalisation: Normalisation = IMAGENET_RGB,
    ) -> None:
        """Wrap stages whose outputs have these channels and strides; of a stride, the last one.

        channels_last: whether the outputs are [B, h, w, C].
        """
        super().__init__()
        self.stages = stages
        asked = range(finest, COARSEST + 1)
        last = {stride: index for index, stride in enumerate(strides) if stride in asked}
        self.kept = tuple(last.values())
        self.channels = tuple(channels[index] for index in self.kept)
        self.strides = tuple(last)
        self.early, self.channels_last = early, channels_last
        self.mean, self.std = normalisation

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Features of normalised images, finest first; and the early ones, of each stack."""
        if isinstance(self.stages, nn.ModuleList):
            outputs = []
            for stage in self.stages:
                images = stage(images)
                outputs.append(images)
        else:
            outputs = list(self.stages(images))
        if self.channels_last:
            outputs = [one.permute(0, 3, 1, 2) for one in outputs]
        early = [[one] for one in outputs[: self.early]]
        return [outputs[index] for index in self.kept], early


def cut(
    blocks: Sequence[nn.Module], *, finest: int, normalisation: Normalisation = IMAGENET_RGB
) -> Backbone:
    """A backbone of blocks that follow each other, cut after the last one of each stride.

    Cut at strides 4, 8, 16 and 32, at 2 only where asked: weights keep their names otherwise.
    """
    image = torch.empty(1, 3, PROBE, PROBE, device="meta")
    parts: dict[int, list[nn.Module]] = {}
    channels: dict[int, int] = {}
    waiting: list[nn.Module] = []
    for block in blocks:
        image = without_computing(block, image)
        stride = PROBE // image.shape[-1]
        waiting.append(block)
        if stride >= min(finest, 4):
            parts.setdefault(stride, []).extend(waiting)
            channels[stride] = image.shape[1]
            waiting = []
    stages = [part[0] if len(part) == 1 else nn.Sequential(*part) for part in parts.values()]
    return Backbone(
        nn.ModuleList(stages),
        channels=list(channels.values()),
        strides=list(parts),
        finest=finest,
        normalisation=normalisation,
    )


def without_computing(block: nn.Module, image: Tensor) -> Any:
    """A block's output, all shape and no values, for a meta tensor; the block is left as it was."""
    state = {
        name: torch.empty_like(tensor, device="meta") for name, tensor in block.state_dict().items()
    }
    return functional_call(block, state, (image,))
