"""Networks of torchvision and timm as backbones: their features, without the classifier."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from centernet.backbones.backbone import Backbone, Normalisation, cut, without_computing
from centernet.backbones.weights import (
    IMAGENET,
    Pretrained,
    from_hub,
    from_torchvision,
    import_timm,
    initialise,
)
from centernet.errors import UserError, did_you_mean

TIMM = "timm/"
FAILURES = (RuntimeError, AssertionError, IndexError, ValueError, TypeError)  # of a wrong size
SIZES = ((256, 512), (96, 224))  # height and width of the images that try a network of timm


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


def timm_features(name: str, *, pretrained: Pretrained, finest: int) -> Backbone:
    """Any feature extractor of timm, normalised as its weights expect."""
    if pretrained == IMAGENET:
        net = from_hub(f"timm's {name}", lambda: extractor(name, pretrained=True))
    else:
        try:
            net = extractor(name, pretrained=False)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"model.backbone: {TIMM}{name} gives no features ({reason})") from None
    expected = net.pretrained_cfg
    backbone = wrap(net, (tuple(expected["mean"]), tuple(expected["std"])), finest=finest)
    if pretrained != IMAGENET:
        initialise(backbone, net, pretrained)
    check_features(backbone, name, compute=one_size(name))
    return backbone


def extractor(name: str, *, pretrained: bool) -> Any:
    """A feature extractor of timm that takes images of any size, where timm can build one.

    Transformers are built for one size, unless they are told to scale their positions.
    """
    timm = import_timm(f"model.backbone: {TIMM}{name}")
    if one_size(name):
        try:
            return timm.create_model(
                name, pretrained=pretrained, features_only=True, dynamic_img_size=True
            )
        except TypeError:  # it has no such argument; `check_features` tries it as it is
            pass
    return timm.create_model(name, pretrained=pretrained, features_only=True)


def one_size(name: str) -> bool:
    """Whether timm builds this network for images of one size if it is told nothing."""
    known = import_timm(f"model.backbone: {TIMM}{name}").get_pretrained_cfg(name)
    return known is not None and bool(known.fixed_input_size)


@torch.no_grad()
def check_features(backbone: Backbone, name: str, *, compute: bool = False) -> None:
    """UserError unless features of images have the channels and strides they claim.

    compute: also their values, as an index out of its bounds is not found by shapes alone.
    """
    for height, width in SIZES:
        place = f"model.backbone: {TIMM}{name}: of an image of {height} x {width}"
        check_shapes(backbone.eval(), torch.zeros(1, 3, height, width), place, compute=compute)
    backbone.train()


def check_shapes(backbone: Backbone, image: Tensor, place: str, *, compute: bool) -> None:
    """UserError unless this image has the features that the backbone claims."""
    try:
        features = list(backbone(image)[0]) if compute else features_of(backbone, image)
    except FAILURES as error:
        reason = (str(error) or "an assertion of its own").splitlines()[0]
        raise UserError(
            f"{place} it makes no features ({reason}); choose another network"
        ) from None
    height, width = image.shape[2:]
    for feature, channels, stride in zip(
        features, backbone.channels, backbone.strides, strict=True
    ):
        wanted = (1, channels, height / stride, width / stride)
        if tuple(feature.shape) != wanted:
            has, should = (" x ".join(f"{n:.4g}" for n in s[1:]) for s in (feature.shape, wanted))
            raise UserError(
                f"{place} it makes a feature of {has} where its stride needs {should}; "
                "choose another network"
            )


def features_of(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """Features of an image, for their shapes."""
    try:
        return list(without_computing(backbone, image.to("meta"))[0])
    except FAILURES:  # some share tensors, or have some outside their state
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
    timm = import_timm(f"model.backbone: {name}")
    own = name.removeprefix(TIMM)
    if not own:
        raise UserError(f"model.backbone: {TIMM} names no network; {TIMM}convnext_atto is one")
    if not timm.is_model(own):
        near = did_you_mean(own, timm.list_models()).replace("mean ", f"mean {TIMM}")
        raise UserError(f"model.backbone: timm has no network named {own}{near}")
    if imagenet and not timm.is_model_pretrained(own):
        raise UserError(f"model.pretrained: {name} has no ImageNet weights; set it to false")
