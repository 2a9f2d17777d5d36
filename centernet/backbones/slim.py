"""A small ResNet for CPUs."""

from itertools import pairwise

from torch import nn

from centernet.backbones.backbone import Backbone, cut
from centernet.backbones.weights import Pretrained, initialise
from centernet.layers import projection

WIDTHS = (32, 64, 128, 256)


def slim(*, pretrained: Pretrained, finest: int) -> Backbone:
    """A ResNet-10 of widths 32 to 256 (1.2 M parameters), to be trained from scratch on a CPU."""
    from torchvision.models.resnet import BasicBlock

    stem = [
        nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        BasicBlock(32, 32),
    ]
    blocks = [
        BasicBlock(a, b, stride=2, downsample=projection(a, b, stride=2))
        for a, b in pairwise(WIDTHS)
    ]
    net = cut([*stem, *blocks], finest=finest)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    initialise(net, net, pretrained)
    return net
