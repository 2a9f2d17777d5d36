"""Feature extractors by name: image[B, 3, H, W] -> features at strides 4, 8, 16 and 32."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from centernet import files
from centernet.backbones.backbone import Backbone as Backbone
from centernet.backbones.backbone import Size as Size
from centernet.backbones.dla import dla34
from centernet.backbones.hourglass import hourglass
from centernet.backbones.lite import efficientnet_lite
from centernet.backbones.slim import slim
from centernet.backbones.timm_nets import TIMM as TIMM
from centernet.backbones.timm_nets import check_timm, timm_features
from centernet.backbones.torchvision_nets import by_features, regnet, resnet
from centernet.backbones.weights import IMAGENET
from centernet.backbones.weights import Pretrained as Pretrained
from centernet.backbones.weights import import_timm as import_timm
from centernet.errors import UserError, did_you_mean

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MOBILE = ("mobilenet_v3_small", "mobilenet_v3_large")
EFFICIENT = ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3")
CONVNEXTS = ("convnext_tiny", "convnext_small")
REGNETS = ("regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf")
HOURGLASSES = {"hourglass52": 1, "hourglass104": 2}  # name -> stacks
SCRATCH = {"slim", *HOURGLASSES}  # nobody published ImageNet weights of these
FROM_TIMM = {"dla34"}  # has its weights from there

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "slim": slim,
    **{name: partial(resnet, name) for name in RESNETS},
    **{name: partial(by_features, name, classifier=1) for name in (*MOBILE, *EFFICIENT)},
    **{name: partial(by_features, name, classifier=0) for name in CONVNEXTS},
    **{name: partial(regnet, name) for name in REGNETS},
    **{f"efficientnet_lite{size}": partial(efficientnet_lite, size) for size in (0, 1, 2)},
    "dla34": dla34,
    **{name: partial(hourglass, stacks) for name, stacks in HOURGLASSES.items()},
}


def create(name: str, *, pretrained: Pretrained = False, finest: int = 4) -> Backbone:
    """A backbone by its name, or `timm/NAME`, whose features have strides of `finest` and more."""
    check_backbone(name, pretrained=pretrained)
    if name.startswith(TIMM):
        return timm_features(name.removeprefix(TIMM), pretrained=pretrained, finest=finest)
    return BACKBONES[name](pretrained=pretrained, finest=finest)


def check_backbone(name: str, *, pretrained: Pretrained) -> None:
    """UserError unless there is such a backbone, and weights for it where they are wanted."""
    if name.startswith(TIMM):
        check_timm(name, imagenet=pretrained == IMAGENET)
    elif name not in BACKBONES:
        hint = did_you_mean(name, BACKBONES) or f" (one of {', '.join(BACKBONES)}, timm/NAME)"
        raise UserError(f"model.backbone: no backbone is named {name}{hint}")
    if pretrained == IMAGENET and name in FROM_TIMM:
        import_timm(f"model.pretrained: {IMAGENET}, for {name},")
    if pretrained == IMAGENET and name in SCRATCH:
        raise UserError(f"model.pretrained: {name} has no ImageNet weights; set it to false")
    if pretrained and pretrained != IMAGENET:
        try:
            files.check(Path(pretrained))
        except OSError as error:
            reason = files.reason(error)
            raise UserError(f"model.pretrained: {pretrained}: {reason}") from None
