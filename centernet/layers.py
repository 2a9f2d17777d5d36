"""The few layers that backbones and necks are made of."""

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

TAPS = 9  # of a 3x3 kernel


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, deformable: bool = False
) -> nn.Sequential:
    """Convolution (a 3x3 one may be deformable), batch norm, ReLU."""
    first = (
        Deformable(inputs, outputs)
        if deformable and kernel == 3
        else nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    )
    return nn.Sequential(first, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def projection(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Another width, and size: a 1x1 convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


class Deformable(nn.Module):
    """Modulated deformable 3x3 convolution (Zhu et al. 2019): each tap moves and is weighted.

    It begins as a plain convolution whose taps weigh one half.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """The convolution, and the one that says where its taps go."""
        super().__init__()
        self.taps = nn.Conv2d(inputs, 3 * TAPS, 3, padding=1)
        nn.init.zeros_(self.taps.weight)
        assert self.taps.bias is not None, "it has one by default"
        nn.init.zeros_(self.taps.bias)
        self.convolution = DeformConv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, inputs, h, w] -> [B, outputs, h, w], in float32: the operator knows no bfloat16."""
        taps = self.taps(x).float()
        offsets, weights = taps[:, : 2 * TAPS], taps[:, 2 * TAPS :].sigmoid()
        found: Tensor = self.convolution(x.float(), offsets, weights)
        return found


def enlarge(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear upsampling of each channel by itself."""
    layer = nn.ConvTranspose2d(
        channels, channels, 2 * factor, stride=factor, padding=factor // 2, groups=channels,
        bias=False,
    )  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(bilinear(factor))
    return layer


def bilinear(factor: int) -> Tensor:
    """Kernel[2·factor, 2·factor] of a transposed convolution that upsamples bilinearly."""
    from_centre = (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    return torch.outer(1 - from_centre, 1 - from_centre)
