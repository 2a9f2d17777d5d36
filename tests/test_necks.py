"""Every neck, plain and deformable: laws of shape, learning, saving and export."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate

from centernet import checkpoint
from centernet.backbones import BACKBONES, Backbone
from centernet.config import resolve
from centernet.encode import encode
from centernet.errors import UserError
from centernet.export import translate
from centernet.layers import Deformable, bilinear, enlarge
from centernet.losses import SIZE_LOSSES, losses
from centernet.model import CenterNet, build
from centernet.necks import NECKS
from centernet.predict import Detector, weights_record
from centernet.structures import Instances

SMALL: dict[str, Any] = {"channels": 8, "head_channels": 8}
EACH = [  # test_each.py has every backbone, at stride 4
    *itertools.product(["slim"], NECKS, [False], [2, 4, 8]),
    *itertools.product(["slim"], NECKS, [True], [4]),
    ("resnet18", "pyramid", False, 4),
    ("timm/resnet10t", "pyramid", False, 4),
    ("efficientnet_lite2", "pyramid", False, 8),  # of the preset `default`
    ("dla34", "dla_up", True, 4),
    ("convnext_tiny", "deconv", False, 2),
]


def model(backbone: str, neck: str, deformable: bool, stride: int) -> CenterNet:
    torch.manual_seed(0)
    return build(
        backbone=backbone, pretrained=False, neck=neck, deformable=deformable, stride=stride,
        classes=3, **SMALL,
    )  # fmt: skip


@pytest.mark.parametrize(("backbone", "neck", "deformable", "stride"), EACH)
def test_each_learns_from_a_non_square_batch_and_is_the_same_from_its_file(
    backbone: str, neck: str, deformable: bool, stride: int, tmp_path: Path
) -> None:
    net = model(backbone, neck, deformable, stride)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    objects = Instances(torch.tensor([[8.0, 8, 50, 40], [60, 40, 96, 64]]), torch.tensor([1, 0]))
    nothing = Instances(torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    target = encode([objects, nothing], classes=3, height=64, width=96, stride=stride)
    assert net(images).heatmap.shape == (2, 3, 64 // stride, 96 // stride)
    for size_loss in SIZE_LOSSES if backbone == "slim" else ["l1"]:
        net.zero_grad()
        losses(net(images), target, size_loss=size_loss)["total"].backward()
        missing = [
            n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()
        ]
        assert missing == []
    saved_and_loaded(net, backbone, neck, deformable, stride, images, tmp_path / "w.safetensors")


def saved_and_loaded(
    net: CenterNet, backbone: str, neck: str, deformable: bool, stride: int,
    images: torch.Tensor, file: Path,
) -> None:  # fmt: skip
    values = {"backbone": backbone, "neck": neck, "deformable": deformable, "stride": stride}
    config = resolve({f"model.{k}": v for k, v in (values | SMALL).items()})
    checkpoint.write(file, net.state_dict(), weights_record(config, ("a", "b", "c")))
    detector = Detector.load(file)
    assert detector.stride == stride
    with torch.no_grad():
        ours, theirs = net.eval()(images), detector.model(images)
    assert torch.equal(ours.heatmap, theirs.heatmap) and torch.equal(ours.size, theirs.size)


NAMES = ("heatmap", "size", "offset")


class Undecoded(nn.Module):
    """Only the network, whose maps are compared: boxes would jump where scores are nearly equal."""

    def __init__(self, net: CenterNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.net(images)
        return maps.heatmap, maps.size, maps.offset


# exporting takes seconds, with a larger backbone many: necks only, whose operators are ours
EXPORTED = [
    ("slim", "pyramid", True, 8),
    ("slim", "deconv", True, 4),
]


@pytest.mark.parametrize(("backbone", "neck", "deformable", "stride"), EXPORTED)
def test_each_gives_the_same_maps_in_onnx(
    backbone: str, neck: str, deformable: bool, stride: int
) -> None:
    net = model(backbone, neck, deformable, stride).eval()
    for module in net.modules():
        if isinstance(module, Deformable):  # taps that really move
            nn.init.normal_(module.taps.weight, std=0.1)
    proto = translate(Undecoded(net), height=64, width=96, outputs=NAMES)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8)
    found = session.run(list(NAMES), {"images": images.numpy()})
    with torch.no_grad():
        maps = net(images)
    for ours, theirs in zip((maps.heatmap, maps.size, maps.offset), found, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-3 * max(float(ours.abs().max()), 1)


def test_a_deformable_convolution_begins_as_a_plain_one_of_half_the_weight() -> None:
    torch.manual_seed(0)
    layer, x = Deformable(4, 6), torch.randn(2, 4, 5, 7)
    plain = conv2d(x, layer.convolution.weight, padding=1)
    assert torch.allclose(layer(x), plain / 2, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_an_enlarging_layer_begins_as_bilinear_upsampling(factor: int) -> None:
    x = torch.randn(1, 3, 6, 9)
    wanted = interpolate(x, scale_factor=float(factor), mode="bilinear")
    inside = (..., slice(factor, -factor), slice(factor, -factor))  # the border sees zeros
    assert torch.allclose(enlarge(3, factor)(x)[inside], wanted[inside], atol=1e-5)
    assert bilinear(factor).sum() == pytest.approx(factor**2)


def test_bfloat16_reaches_deformable_necks_too() -> None:
    net = model("slim", "pyramid", True, 4)
    with torch.autocast("cpu", torch.bfloat16):
        maps = net(torch.randint(0, 255, (2, 3, 64, 96)))
    assert maps.heatmap.isfinite().all()


def test_a_stride_that_a_backbone_has_not_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def patches(pretrained: bool, finest: int) -> Backbone:
        return Backbone(nn.Conv2d(3, 8, 4, 4), channels=(8,), strides=(4,), finest=finest)

    monkeypatch.setitem(BACKBONES, "patches", patches)  # all of its features are at stride 4
    with pytest.raises(UserError, match="patches has no feature at a stride of 8; use 4"):
        model("patches", "pyramid", False, 8)
    with pytest.raises(UserError, match="no neck is named pyramide; did you mean pyramid"):
        model("slim", "pyramide", False, 4)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("stride", [2, 4])
def test_a_neck_takes_a_single_feature(neck: str, stride: int) -> None:
    one = NECKS[neck]((24,), (4,), channels=8, stride=stride, deformable=False)
    assert one([torch.randn(2, 24, 6, 9)]).shape == (2, 8, 24 // stride, 36 // stride)


def test_a_file_from_before_there_were_necks_is_a_pyramid_at_stride_4(tmp_path: Path) -> None:
    net = model("slim", "pyramid", False, 4)
    config = resolve({f"model.{k}": v for k, v in ({"backbone": "slim"} | SMALL).items()})
    record = weights_record(config, ("a", "b", "c"))
    for field in ("neck", "deformable", "stride"):
        del record["model"][field]
    checkpoint.write(tmp_path / "old.safetensors", net.state_dict(), record)
    detector = Detector.load(tmp_path / "old.safetensors")
    assert detector.stride == 4
    image = np.zeros((50, 70, 3), np.uint8)
    assert torch.equal(detector(image).boxes, replace(detector, model=net.eval())(image).boxes)
