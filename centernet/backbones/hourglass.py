"""Stacked hourglasses (Newell et al. 2016) as CornerNet and Objects as Points build them.

Residual blocks throughout, strided ones for pooling; one feature, at stride 4, or 8 where asked.
Each stack is supervised by heads of its own; the last one's answer counts.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from centernet.backbones.backbone import Backbone
from centernet.backbones.weights import Pretrained, initialise
from centernet.layers import convolution, projection

WIDTHS = (256, 256, 384, 384, 384, 512)  # at strides 4, 8, ... 128
BLOCKS = (2, 2, 2, 2, 2, 4)


def hourglass(stacks: int, *, pretrained: Pretrained, finest: int) -> Backbone:
    """Hourglass-104 has two stacks, Hourglass-52 one."""
    net = Stacked(stacks, WIDTHS, BLOCKS, stride=max(finest, 4))
    return wrap(net, pretrained=pretrained, finest=finest)


def wrap(net: "Stacked", *, pretrained: Pretrained, finest: int) -> Backbone:
    """A stack as a backbone."""
    count = len(net.hourglasses)
    backbone = Backbone(
        net,
        channels=[net.width] * count,
        strides=[net.stride] * count,
        finest=finest,
        early=count - 1,
    )
    initialise(backbone, net, pretrained)
    return backbone


class Stacked(nn.Module):
    """A stem to its stride, then hourglasses, each fed with the last one's input and output."""

    def __init__(
        self, stacks: int, widths: Sequence[int], blocks: Sequence[int], *, stride: int = 4
    ) -> None:
        """widths and blocks: of an hourglass, from the outside in; stride: 4 (published) or 8."""
        super().__init__()
        width = self.width = widths[0]
        self.stride = stride
        first = convolution(3, width // 2, 7, stride=2)
        halvings = [residual(width // 2, width, 2)]
        halvings += [residual(width, width, 2)] if stride == 8 else []
        self.stem = nn.Sequential(first, *halvings)
        self.hourglasses = nn.ModuleList(Hourglass(widths, blocks) for _ in range(stacks))
        self.outputs = nn.ModuleList(convolution(width, width, 3) for _ in range(stacks))
        between = range(stacks - 1)
        self.from_input = nn.ModuleList(projection(width, width) for _ in between)
        self.from_output = nn.ModuleList(projection(width, width) for _ in between)
        self.merge = nn.ModuleList(residual(width, width) for _ in between)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Each hourglass's output."""
        x = self.stem(images)
        found = [self.outputs[0](self.hourglasses[0](x))]
        for index, merge in enumerate(self.merge):
            x = merge(relu(self.from_input[index](x) + self.from_output[index](found[-1])))
            found.append(self.outputs[index + 1](self.hourglasses[index + 1](x)))
        return found


class Hourglass(nn.Module):
    """Down, an hourglass or the bottom's blocks, up again; and a path that stays."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        """The outermost of len(widths) - 1 nested hourglasses."""
        super().__init__()
        (width, inner, *rest), (count, bottom, *_) = widths, blocks
        self.stay = nn.Sequential(*(residual(width, width) for _ in range(count)))
        steps = [residual(inner, inner) for _ in range(count - 1)]
        self.down = nn.Sequential(residual(width, inner, 2), *steps)
        self.inner: nn.Module
        if rest:
            self.inner = Hourglass(widths[1:], blocks[1:])
        else:
            self.inner = nn.Sequential(*(residual(inner, inner) for _ in range(bottom)))
        steps = [residual(inner, inner) for _ in range(count - 1)]
        self.up = nn.Sequential(*steps, residual(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, h, w] at every scale, as one map of the same shape."""
        deep = self.up(self.inner(self.down(x)))
        stayed: Tensor = self.stay(x)
        return stayed + interpolate(deep, size=x.shape[-2:], mode="nearest")


def residual(inputs: int, outputs: int, stride: int = 1) -> Any:
    """The basic block of ResNet."""
    from torchvision.models.resnet import BasicBlock

    changes = stride > 1 or inputs != outputs
    shortcut = projection(inputs, outputs, stride=stride) if changes else None
    return BasicBlock(inputs, outputs, stride=stride, downsample=shortcut)
