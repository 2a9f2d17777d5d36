"""images -> Maps: a backbone, a neck to stride 4, three heads."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from centernet.backbones import BACKBONES, Backbone, check_backbone
from centernet.structures import Maps

STRIDE = 4
WIDER = (1, 2, 4, 4)  # width of the neck at strides 4, 8, 16 and 32, times its channels
PRIOR_BIAS = -2.19  # sigmoid(-2.19) = 0.1: an untrained heatmap is nearly empty
SIZE_SCALE = 16.0  # cells for each unit of the size head: it spans 1 to 100 (TTFNet, 2019)
SIZE_BIAS = 0.5  # an untrained box has a side of 8 cells: positive, so that GIoU has a gradient


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the same size out as in."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Neck(nn.Module):
    """Feature pyramid (Lin et al. 2017) down to its finest level: one map[B, channels, h, w].

    From the coarsest feature on: a 3x3 convolution to the next level's width, upsample, add that
    level through a 1x1 convolution; a last 3x3 convolution. Coarse levels are wider, as in the
    paper's upsampling: width is cheap where cells are few.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int) -> None:
        """One lateral convolution for each feature, one step down between two of them."""
        super().__init__()
        widths = [channels * factor for factor in WIDER[: len(inputs)]]
        self.lateral = nn.ModuleList(
            convolution(width, own, 1) for width, own in zip(inputs, widths, strict=True)
        )
        self.down = nn.ModuleList(convolution(b, a, 3) for a, b in pairwise(widths))
        self.last = convolution(channels, channels, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Merge features, finest first."""
        levels = [layer(x) for layer, x in zip(self.lateral, features, strict=True)]
        merged: Tensor = levels[-1]
        for level, down in zip(levels[-2::-1], reversed(self.down), strict=True):
            merged = level + interpolate(down(merged), scale_factor=2.0, mode="nearest")
        last: Tensor = self.last(merged)
        return last


def head(inputs: int, channels: int, outputs: int, *, bias: float = 0.0) -> nn.Sequential:
    """The paper's head: a 3x3 convolution, ReLU, a 1x1 convolution whose bias starts at `bias`."""
    last = nn.Conv2d(channels, outputs, 1)
    assert last.bias is not None, "it has one by default"
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1),
        nn.ReLU(inplace=True),
        last,
    )


class CenterNet(nn.Module):
    """Objects as Points: heatmap logits, size and offset for every cell of stride 4."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        classes: int,
        channels: int,
        head_channels: int,
        size_per_class: bool = False,
    ) -> None:
        """Put the neck and the heads on a backbone; its normalisation is part of the weights."""
        super().__init__()
        self.backbone = backbone
        self.neck = Neck(backbone.channels, channels)
        self.classes = classes
        self.heatmap = head(channels, head_channels, classes, bias=PRIOR_BIAS)
        sizes = 2 * classes if size_per_class else 2
        self.size = head(channels, head_channels, sizes, bias=SIZE_BIAS)
        self.offset = head(channels, head_channels, 2)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Maps:
        """Maps of images[B, 3, H, W], uint8 or float, RGB, 0...255."""
        normalised = ((images.float() - self.mean) / self.std).contiguous(
            memory_format=torch.channels_last
        )
        features = self.backbone(normalised)
        merged = self.neck(features)
        return Maps(self.heatmap(merged), self.size(merged) * SIZE_SCALE, self.offset(merged))


def build(
    *,
    backbone: str,
    pretrained: Any,
    channels: int,
    head_channels: int,
    classes: int,
    size_per_class: bool = False,
) -> CenterNet:
    """A CenterNet by the name of its backbone."""
    check_backbone(backbone, pretrained=bool(pretrained))
    extractor = BACKBONES[backbone](pretrained=bool(pretrained))
    net = CenterNet(
        extractor,
        classes=classes,
        channels=channels,
        head_channels=head_channels,
        size_per_class=size_per_class,
    )
    return net.to(memory_format=torch.channels_last)  # a third faster, on CPUs and tensor cores
