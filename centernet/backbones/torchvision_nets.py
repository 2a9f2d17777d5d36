"""Networks of torchvision as backbones: their features, without the classifier."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from centernet.backbones.backbone import Backbone, cut
from centernet.backbones.weights import Pretrained, from_torchvision, initialise


def resnet(name: str, *, pretrained: Pretrained, finest: int) -> Backbone:
    """A torchvision ResNet (He et al. 2016)."""
    net = torchvision_net(name)
    blocks = [net.conv1, net.bn1, net.relu, net.maxpool]
    blocks += [net.layer1, net.layer2, net.layer3, net.layer4]
    return finish(name, net, blocks, pretrained=pretrained, finest=finest)


def by_features(name: str, *, classifier: int, pretrained: Pretrained, finest: int) -> Backbone:
    """MobileNetV3 (Howard 2019), EfficientNet (Tan 2019), ConvNeXt (Liu 2022) of torchvision.

    classifier: how many of the last blocks only widen the last map for the classifier.
    """
    net = torchvision_net(name)
    blocks = list(net.features)[: len(net.features) - classifier]
    return finish(name, net, blocks, pretrained=pretrained, finest=finest)


def regnet(name: str, *, pretrained: Pretrained, finest: int) -> Backbone:
    """A torchvision RegNet (Radosavovic et al. 2020)."""
    net = torchvision_net(name)
    blocks = [net.stem, *net.trunk_output]
    return finish(name, net, blocks, pretrained=pretrained, finest=finest)


def torchvision_net(name: str) -> Any:
    """An untrained network of torchvision."""
    from torchvision import models

    return models.get_model(name, weights=None)


def finish(
    name: str, net: nn.Module, blocks: Sequence[nn.Module], *, pretrained: Pretrained, finest: int
) -> Backbone:
    """The backbone of a torchvision network's blocks, with its weights."""
    backbone = cut(blocks, finest=finest)
    initialise(backbone, net, pretrained, partial(from_torchvision, name))
    return backbone
