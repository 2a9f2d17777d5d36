"""images -> Maps: a backbone, a neck to the output stride, three heads."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from centernet import backbones, checkpoint
from centernet.backbones import Backbone, Pretrained, Size, check_backbone
from centernet.errors import UserError, did_you_mean
from centernet.necks import NECKS
from centernet.structures import Maps

PRIOR_BIAS = -2.19  # sigmoid(-2.19) = 0.1: an untrained heatmap is nearly empty
SIZE_SCALE = 16.0  # cells for each unit of the size head: it spans 1 to 100 (TTFNet, 2019)
SIZE_BIAS = 0.5  # an untrained box has a side of 8 cells: positive, so that GIoU has a gradient
LOGGER = logging.getLogger(__name__)


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


class Branch(nn.Module):
    """Features -> Maps: a neck, and heatmap logits, size and offset for every cell."""

    def __init__(
        self,
        neck: nn.Module,
        *,
        classes: int,
        channels: int,
        head_channels: int,
        size_per_class: bool = False,
    ) -> None:
        """Put the heads on the neck."""
        super().__init__()
        self.neck = neck
        self.heatmap = head(channels, head_channels, classes, bias=PRIOR_BIAS)
        sizes = 2 * classes if size_per_class else 2
        self.size = head(channels, head_channels, sizes, bias=SIZE_BIAS)
        self.offset = head(channels, head_channels, 2)

    def answer(self, features: list[Tensor]) -> Maps:
        """Maps of a backbone's features."""
        merged = self.neck(features)
        return Maps(self.heatmap(merged), self.size(merged) * SIZE_SCALE, self.offset(merged))


class CenterNet(Branch):
    """Objects as Points: images -> Maps.

    Where the backbone has early features, a training answers to each by a branch of its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, necks: Sequence[nn.Module], *, classes: int, **heads: Any
    ) -> None:
        """necks: of the features, and of each early one; the normalisation is in the weights."""
        super().__init__(necks[0], classes=classes, **heads)
        self.backbone, self.classes = backbone, classes
        self.early = nn.ModuleList(Branch(neck, classes=classes, **heads) for neck in necks[1:])
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Maps:
        """Maps of images[B, 3, H, W], uint8 or float, RGB, 0...255."""
        normalised = ((images.float() - self.mean) / self.std).contiguous(
            memory_format=torch.channels_last
        )
        maps, early = self.every(normalised, supervised=self.training)
        return replace(maps, early=early) if early else maps

    def every(self, normalised: Tensor, *, supervised: bool) -> tuple[Maps, tuple[Maps, ...]]:
        """Maps of normalised images, and those of early features where they are supervised."""
        features, early = self.backbone(normalised)
        branches: Any = zip(self.early, early, strict=True) if supervised else ()
        return self.answer(features), tuple(branch.answer(own) for branch, own in branches)

    def freeze_unused(self, size: Size) -> None:
        """Let go of parameters that no map depends on, such as a norm before a classifier.

        size: height and width of an image to find them by, in pixels.
        """
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.eval()
        maps, early = self.every(torch.zeros(1, 3, *size, device=self.mean.device), supervised=True)
        every = [part for one in (maps, *early) for part in (one.heatmap, one.size, one.offset)]
        total = torch.stack([part.sum() for part in every]).sum()
        gradients = torch.autograd.grad(total, own, allow_unused=True)
        self.train()
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


def build(
    *,
    backbone: str,
    pretrained: Pretrained,
    channels: int,
    head_channels: int,
    classes: int,
    neck: str = "pyramid",
    deformable: bool = False,
    stride: int = 4,
    size_per_class: bool = False,
) -> CenterNet:
    """A CenterNet by the names of its backbone and neck.

    pretrained: of the backbone (see `backbones`); with a weights file of this program, all that
    fits in both.
    """
    check_model(backbone=backbone, pretrained=pretrained, neck=neck)
    earlier = read_detector(pretrained, backbone=backbone)
    extractor = backbones.create(
        backbone, pretrained=False if earlier else pretrained, finest=stride
    )
    if not extractor.strides:
        raise UserError(f"model.stride: {backbone} has no feature at a stride of {stride}; use 4")
    merging = [
        NECKS[neck](
            extractor.channels,
            extractor.strides,
            channels=channels,
            stride=stride,
            deformable=deformable,
        )
        for _ in range(1 + extractor.early)
    ]
    net = CenterNet(
        extractor,
        merging,
        classes=classes,
        channels=channels,
        head_channels=head_channels,
        size_per_class=size_per_class,
    )
    if earlier:
        adopt(net, earlier, str(pretrained))
    return net.to(memory_format=torch.channels_last)  # a third faster, on CPUs and tensor cores


def check_model(*, backbone: str, pretrained: Pretrained, neck: str) -> None:
    """UserError unless there are such a backbone and neck, and the weights that are wanted."""
    check_backbone(backbone, pretrained=pretrained)
    if neck not in NECKS:
        hint = did_you_mean(neck, NECKS) or f" (one of {', '.join(NECKS)})"
        raise UserError(f"model.neck: no neck is named {neck}{hint}")


def read_detector(pretrained: Pretrained, *, backbone: str) -> checkpoint.Tensors:
    """Tensors of a weights file of this program; none where `pretrained` is something else.

    UserError if its backbone is another one.
    """
    if not (pretrained and checkpoint.is_ours(Path(pretrained))):
        return {}
    tensors, record = checkpoint.read(Path(pretrained))
    checkpoint.expect(Path(pretrained), record, "weights")
    theirs = record.get("model", {}).get("backbone")
    if theirs != backbone:
        raise UserError(
            f"model.pretrained: {pretrained}: its backbone is {theirs}; set model.backbone={theirs}"
        )
    return tensors


def adopt(net: nn.Module, tensors: checkpoint.Tensors, source: str) -> None:
    """Take each tensor that has a place of its name and shape; a warning says which have none."""
    own = net.state_dict()
    fits = {k: v for k, v in tensors.items() if k in own and v.shape == own[k].shape}
    net.load_state_dict(fits, strict=False)
    fresh = [name for name in own if name not in fits]
    if fresh:
        LOGGER.warning(
            "model.pretrained: %s: %d of %d tensors do not fit and start anew: %s%s",
            source, len(fresh), len(own), ", ".join(fresh[:3]), ", ..." if fresh[3:] else "",
        )  # fmt: skip
