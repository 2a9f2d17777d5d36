"""Networks of timm as backbones, whatever sizes of images and of cells they were made for."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from centernet.backbones.backbone import Backbone, Size, without_computing
from centernet.backbones.weights import IMAGENET, Pretrained, from_hub, import_timm, initialise
from centernet.errors import UserError, did_you_mean

TIMM = "timm/"
FAILURES = (RuntimeError, AssertionError, IndexError, ValueError, TypeError)  # of a wrong size
UNBUILT = (*FAILURES, AttributeError, NotImplementedError)  # of a network, or without features
SIZES = ((256, 512), (64, 96))  # of the images that try a network; the least side is 64
BORDER = 4  # cells that a map may lack, or have more, on each axis
Options = dict[str, Any]


class OnGrid(Backbone):
    """A backbone of a network whose cells or images are not of our sizes.

    Where its cells are not of 2^n pixels, it sees images resized so that they are: of a network
    with patches of 14 pixels, at 14/16 of their size. Where it takes images of one size only, it
    sees them at that size. Its maps are resampled to the cells of the image: those that lack a
    border, as without padding, are taken for its middle. Nothing happens where all fits.
    """

    def __init__(self, net: Any, *, size: Size | None, finest: int) -> None:
        """Wrap a feature extractor of timm; size: of the only images it takes, if it does."""
        claimed = net.feature_info.reduction()
        super().__init__(net, **about(net, [nearest(stride) for stride in claimed]), finest=finest)
        self.size, self.scale = size, scale_of(net)
        self.claimed = tuple(claimed[index] for index in self.kept)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """As of Backbone, on the grid of `images`."""
        height, width = images.shape[2:]
        seen = self.size or scaled((height, width), self.scale)
        features, early = super().forward(resample(images, seen, of=(height, width)))
        pairs = zip(features, self.strides, self.claimed, strict=True)
        return [
            resample(one, (height // own, width // own), of=(seen[0] / cell, seen[1] / cell))
            for one, own, cell in pairs
        ], early


def about(net: Any, strides: Sequence[int]) -> dict[str, Any]:
    """What Backbone wants to know of a feature extractor of timm."""
    known = net.pretrained_cfg
    return {
        "channels": net.feature_info.channels(),
        "strides": strides,
        "channels_last": getattr(net, "output_fmt", "NCHW") == "NHWC",
        "normalisation": (tuple(known["mean"]), tuple(known["std"])),
    }


def scale_of(net: Any) -> float:
    """How large a network must see an image for its cells to be 2^n pixels of that image."""
    coarsest = net.feature_info.reduction()[-1]
    return float(coarsest / nearest(coarsest))


def nearest(stride: float) -> int:
    """The power of two that is nearest to a stride, as a ratio."""
    return int(2 ** round(math.log2(stride)))


def resample(maps: Tensor, size: Size, *, of: tuple[float, float]) -> Tensor:
    """maps[B, C, h, w], the middle of an image of so many of its cells, as all of it, by `size`."""
    for axis, wanted, whole in zip((2, 3), size, of, strict=True):
        if maps.shape[axis] == wanted == whole:
            continue
        weights = interpolation(maps.shape[axis], wanted, whole).to(maps)
        maps = weights @ maps if axis == 2 else maps @ weights.T
    return maps


def interpolation(cells: int, wanted: int, whole: float) -> Tensor:
    """Weights[wanted, cells] of the middle `cells` of `whole`, for all of it by `wanted`.

    Linear between centres, constant beyond the last; where there are fewer than before, over as
    many as each replaces, so that none is lost.
    """
    step, border = whole / wanted, (whole - cells) / 2
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step - border - 0.5
    away = (torch.arange(cells) - centres.clamp(0, cells - 1)[:, None]).abs()
    weights = (1 - away / max(step, 1)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def timm_features(name: str, *, pretrained: Pretrained, finest: int) -> Backbone:
    """Any feature extractor of timm, normalised as its weights expect."""
    options, backbone = find(name, finest=finest)
    if pretrained == IMAGENET:
        with torch.random.fork_rng(devices=[]):  # the rest of the model starts as without weights
            net = from_hub(f"timm's {name}", lambda: create(name, pretrained=True, **options))
        return OnGrid(net, size=backbone.size, finest=finest)
    initialise(backbone, backbone.stages, pretrained)
    return backbone


def create(name: str, **options: Any) -> Any:
    """A feature extractor of timm."""
    timm = import_timm(f"model.backbone: {TIMM}{name}")
    return timm.create_model(name, features_only=True, **options)


def find(name: str, *, finest: int) -> tuple[Options, OnGrid]:
    """How timm is to be asked for a network, and the network, untrained.

    Best one that takes any size: convolutions do, and transformers that are told to scale their
    positions. Else one of the size that timm made it for. UserError if it makes no features at all.
    """
    known = import_timm(f"model.backbone: {TIMM}{name}").get_pretrained_cfg(name)
    fixed = known is not None and bool(known.fixed_input_size)
    own = [tuple(known.input_size[1:])] if known is not None else []
    failure = ""
    for options in [{"dynamic_img_size": True}, {}] if fixed else [{}]:
        try:
            net = create(name, **options)
        except UNBUILT as error:
            failure = reason(error)
            continue
        for size in (None, *own):
            tried = [size] if size else [scaled(one, scale_of(net)) for one in SIZES]
            try:
                check_features(net, tried, compute=fixed or bool(size))
            except FAILURES as error:
                if "allocate memory" in str(error):
                    raise
                failure = reason(error)
            else:
                return options, OnGrid(net, size=size, finest=finest)
    raise UserError(f"model.backbone: {TIMM}{name} makes no features ({failure})")


def reason(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error) or "an assertion of its own").splitlines()[0]


def scaled(size: Size, scale: float) -> Size:
    """A height and width, times `scale`."""
    return round(size[0] * scale), round(size[1] * scale)


@torch.no_grad()
def check_features(net: Any, sizes: Sequence[Size], *, compute: bool) -> None:
    """One of FAILURES unless images of these sizes have features as timm says.

    The map may lack or have some cells at its borders, as without padding; its channels are right.
    compute: also their values, as an index out of its bounds is not found by shapes alone.
    """
    claimed = net.feature_info.reduction()
    backbone = Backbone(net, **about(net, claimed), finest=1).eval()
    for height, width in sizes:
        image = torch.zeros(1, 3, height, width)
        features = list(backbone(image)[0]) if compute else features_of(backbone, image)
        for feature, channels, stride in zip(
            features, backbone.channels, backbone.strides, strict=True
        ):
            _, found, *sides = feature.shape
            away = max(abs(a - b / stride) for a, b in zip(sides, (height, width), strict=True))
            if found != channels or away > BORDER:
                raise ValueError(
                    f"a feature of {' x '.join(map(str, feature.shape[1:]))}, where its stride of "
                    f"{stride} makes {channels} x {height / stride:.4g} x {width / stride:.4g}"
                )
    backbone.train()


def features_of(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """Features of an image, for their shapes."""
    try:
        return list(without_computing(backbone, image.to("meta"))[0])
    except FAILURES:  # some share tensors, or have some outside their state
        return list(backbone(image)[0])


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
