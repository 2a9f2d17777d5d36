"""DLA-34: deep layer aggregation (Yu et al. 2018), the backbone of Objects as Points.

Layers have the names of the published weights, so that its files load as they are.
"""

from functools import partial

from torch import Tensor, cat, nn
from torch.nn.functional import relu

from centernet.backbones.backbone import Backbone, cut
from centernet.backbones.weights import Pretrained, from_timm, initialise
from centernet.layers import convolution, projection

WIDTHS = (16, 32, 64, 128, 256, 512)  # at strides 1 to 32
DEPTHS = (1, 2, 2, 1)  # of the trees at strides 4 to 32


def dla34(*, pretrained: Pretrained, finest: int) -> Backbone:
    """DLA-34."""
    net = Dla()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    backbone = cut(list(net.children()), finest=finest)
    initialise(backbone, net, pretrained, partial(from_timm, "dla34"))
    return backbone


class Dla(nn.Module):
    """The layers by their published names; they follow each other."""

    def __init__(self) -> None:
        """Two plain levels, then a tree for each stride."""
        super().__init__()
        self.base_layer = convolution(3, WIDTHS[0], 7)
        self.level0 = convolution(WIDTHS[0], WIDTHS[0], 3)
        self.level1 = convolution(WIDTHS[0], WIDTHS[1], 3, stride=2)
        for level, depth in enumerate(DEPTHS, 2):
            tree = Tree(depth, WIDTHS[level - 1], WIDTHS[level], stride=2, keeps_input=level > 2)
            self.add_module(f"level{level}", tree)


class Tree(nn.Module):
    """Hierarchical aggregation: two subtrees, of depth 1 two blocks, merged by a root.

    keeps_input: whether the root also sees the tree's own, pooled input; more: the channels of
    what is handed down to the root by the trees above.
    """

    def __init__(
        self,
        depth: int,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        keeps_input: bool = False,
        more: int = 0,
    ) -> None:
        """Build both halves; the root of a deeper tree is that of its second half."""
        super().__init__()
        self.depth, self.keeps_input = depth, keeps_input
        self.downsample = nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
        more += inputs if keeps_input else 0
        if depth == 1:
            self.tree1: nn.Module = Block(inputs, outputs, stride)
            self.tree2: nn.Module = Block(outputs, outputs, 1)
            self.root = Root(2 * outputs + more, outputs)
            same = inputs == outputs
            self.project = nn.Identity() if same else projection(inputs, outputs)
        else:
            self.tree1 = Tree(depth - 1, inputs, outputs, stride=stride)
            self.tree2 = Tree(depth - 1, outputs, outputs, more=more + outputs)

    def forward(self, x: Tensor, handed_down: tuple[Tensor, ...] = ()) -> Tensor:
        """The merged halves."""
        if self.keeps_input:
            handed_down = (*handed_down, self.downsample(x))
        if self.depth == 1:
            first = self.tree1(x, self.project(self.downsample(x)))
            merged: Tensor = self.root(self.tree2(first, first), first, *handed_down)
        else:
            first = self.tree1(x)
            merged = self.tree2(first, (*handed_down, first))
        return merged


class Block(nn.Module):
    """The basic residual block; its shortcut comes from outside."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Two 3x3 convolutions."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Residual of x added to the shortcut."""
        inner = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(inner)) + shortcut)


class Root(nn.Module):
    """Aggregation: everything beside each other through a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """One convolution."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, *children: Tensor) -> Tensor:
        """Merge."""
        return relu(self.bn(self.conv(cat(children, 1))))
