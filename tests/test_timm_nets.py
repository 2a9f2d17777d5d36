"""Networks of timm: of any size, of one size, with cells that are not of 2^n pixels."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from centernet import checkpoint, cli
from centernet.backbones import create
from centernet.backbones.timm_nets import OnGrid, check_features, nearest, resample
from centernet.config import resolve
from centernet.ema import Ema
from centernet.errors import UserError
from centernet.model import build
from centernet.predict import weights_record

ANY = None
# name -> strides, and the only size of images that the network itself takes
TAKEN: dict[str, tuple[tuple[int, ...], tuple[int, int] | None]] = {
    "mambaout_femto": ((4, 8, 16, 32), ANY),  # its features are channels last
    "swin_tiny_patch4_window7_224": ((4, 8, 16, 32), ANY),
    "vit_tiny_patch16_224": ((16,), ANY),
    "eva02_tiny_patch14_224": ((16,), ANY),  # cells of 14 pixels, of 16 on our grid
    "convmixer_768_32": ((8,), ANY),  # of 7
    "legacy_xception": ((4, 8, 16, 32), ANY),  # no padding: its maps lack borders
    "inception_v3": ((4, 8, 16, 32), (299, 299)),  # no padding: of 64 pixels nothing is left
    "mixer_s16_224": ((16,), (224, 224)),
    "maxvit_rmlp_pico_rw_256": ((4, 8, 16, 32), (256, 256)),
    "mvitv2_tiny": ((4, 8, 16, 32), (224, 224)),
    "pit_ti_224": ((8, 16, 32), (224, 224)),  # 27, 14 and 7 cells
    "levit_128s": ((16, 32), (224, 224)),  # and 64, of which images need be no multiple
    "crossvit_tiny_240": ((16,), (240, 240)),  # of 12 and 17
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_network_of_timm_has_its_features_on_our_grid_whatever_it_was_made_for(name: str) -> None:
    strides, only = TAKEN[name]
    net = create(f"timm/{name}").eval()
    assert net.strides == strides and net.size == only
    for height, width in ((96, 128), (224, 160)):
        features, early = net(torch.zeros(1, 3, height, width))
        assert not early and [tuple(f.shape[1:]) for f in features] == [
            (c, height // s, width // s) for c, s in zip(net.channels, strides, strict=True)
        ]


class Means(nn.Module):
    """As an extractor of timm: the mean of each cell, but for `border` cells on each side."""

    pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # noqa: RUF012

    def __init__(self, stride: int, *, border: int = 0, channels: int = 3) -> None:
        super().__init__()
        self.pool, self.border = nn.AvgPool2d(stride), border
        self.feature_info = SimpleNamespace(channels=lambda: [channels], reduction=lambda: [stride])

    def forward(self, images: Tensor) -> list[Tensor]:
        means, border = self.pool(images), self.border
        return [means[:, :, border : means.shape[2] - border, border : means.shape[3] - border]]


def ramp(height: int, width: int) -> Tensor:
    """The position of each pixel's centre: images[1, (x, y, 0), height, width]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x + 0.5, y + 0.5, torch.zeros_like(x)))[None]


@pytest.mark.parametrize("border", [0, 1, 2])
@pytest.mark.parametrize(
    ("stride", "size"),
    [(8, None), (14, None), (7, None), (12, None), (17, None), (8, (128, 128)), (8, (256, 320))],
)
def test_a_cell_sees_its_place_in_the_image(
    stride: int, size: tuple[int, int] | None, border: int
) -> None:
    """What a cell measures of a ramp is where its own centre lies, in pixels of the image."""
    net = OnGrid(Means(stride, border=border), size=size, finest=4)
    images = ramp(256, 384)
    ((found,), _), own = net(images), nearest(stride)
    assert net.strides == (own,) and found.shape[2:] == (256 // own, 384 // own)
    centres = nn.AvgPool2d(own)(images)
    edge = (
        int((border + 1) * 384 / (size or (384, 384))[1]) + 1
    )  # beyond there is nothing to measure
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    ripple = 0.02 if size else 1e-3  # cells; of reducing by no whole number
    torch.testing.assert_close(found[inner], centres[inner], atol=ripple * own, rtol=0)


def test_resampling_keeps_what_fits_and_loses_no_cell() -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 8, 12)
    assert resample(maps, (8, 12), of=(8, 12)) is maps
    usual = interpolate(maps, (16, 30), mode="bilinear")
    torch.testing.assert_close(resample(maps, (16, 30), of=(8, 12)), usual)
    usual = interpolate(maps, (5, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(resample(maps, (5, 4), of=(8, 12)), usual)
    dot = torch.zeros(1, 1, 64, 64)
    dot[..., 21, 34] = 1  # one pixel of what is reduced by 8 shows in one of its cells, or two
    assert resample(dot, (8, 8), of=(64, 64)).sum() == pytest.approx(1 / 64, rel=0.02)


def test_the_nearest_power_of_two_of_a_stride_is_so_as_a_ratio() -> None:
    assert [nearest(s) for s in (2, 4, 7, 8, 11, 12, 14, 16, 17, 22, 23, 28, 32)] == [
        2, 4, 8, 8, 8, 16, 16, 16, 16, 16, 32, 32, 32,
    ]  # fmt: skip


def test_what_timm_says_of_a_network_is_not_believed_but_tried() -> None:
    check_features(Means(8, border=2), [(256, 512)], compute=False)
    for net, message in (
        (Means(8, border=3), "a feature of 3 x 26 x 58, where its stride of 8 makes 3 x 32 x 64"),
        (Means(8, channels=4), "a feature of 3 x 32 x 64, where .* makes 4 x 32 x 64"),
        (Means(600), "(?i)output size is too small|output_size"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message):
            check_features(net, [(256, 512)], compute=True)


def test_a_network_that_gives_no_features_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def refuse(*_: object, **__: object) -> None:  # as timm does; none of 1.0.31's is so any more
        raise NotImplementedError("features_only not implemented for it.\nSorry")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError) as caught:
        create("timm/convnext_atto")
    assert str(caught.value) == (
        "model.backbone: timm/convnext_atto makes no features "
        "(features_only not implemented for it.)"
    )


@pytest.mark.parametrize(
    "name", ["pit_ti_224", "efficientformerv2_s0", "vit_tiny_patch16_224", "tresnet_m"]
)
def test_a_file_of_the_whole_network_fills_the_extractor_whose_names_are_others(
    name: str, tmp_path: Path
) -> None:
    import timm

    torch.manual_seed(0)
    whole = timm.create_model(name)
    for tensor in whole.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()  # so that no two are alike
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "w.pth")
    ours = create(f"timm/{name}", pretrained=str(tmp_path / "w.pth")).state_dict()
    theirs = {key.replace(".", "_"): tensor for key, tensor in whole.state_dict().items()}
    for key, tensor in ours.items():
        own = re.sub(r"^stages\.(model\.|body\.)?", "", key).replace(".", "_")
        assert torch.equal(tensor, theirs[own]), key
    assert len(ours) > 100


def test_tensors_that_layers_share_are_averaged_once_and_saved_under_each_name(
    tmp_path: Path,
) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight  # as CoaT shares its encodings of positions
    ema = Ema(net, decay=0.5, warmup=1.0)
    before = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight += 1
    ema.update(net)
    torch.testing.assert_close(ema.model[0].weight, before + 0.5)  # type: ignore[index]
    checkpoint.write(tmp_path / "w.safetensors", net.state_dict(), {})
    found, _ = checkpoint.read(tmp_path / "w.safetensors")
    assert set(found) == set(net.state_dict())
    assert torch.equal(found["0.weight"], found["1.weight"])


SMALL: dict[str, Any] = {"pretrained": False, "channels": 8, "head_channels": 8, "classes": 3}


@pytest.mark.parametrize(
    ("backbone", "neck", "count", "one"),
    [
        ("timm/pit_ti_224", "pyramid", 2, "stages.body.norm.weight"),  # for the classifier
        ("timm/hrnet_w18_small", "deconv", 66, "stages.stage4.0.fuse_layers.0.1.0.weight"),
        ("hourglass104", "pyramid", 0, ""),
        ("slim", "pyramid", 0, ""),
    ],
)
def test_parameters_that_no_map_depends_on_are_let_go(
    backbone: str, neck: str, count: int, one: str
) -> None:
    net = build(backbone=backbone, neck=neck, **SMALL)
    net.freeze_unused((64, 96))
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert len(frozen) == count and (not count or f"backbone.{one}" in frozen) and net.training


def test_an_average_forgets_what_a_network_worked_out_of_the_weights_it_had() -> None:
    torch.manual_seed(0)
    net = build(backbone="timm/levit_128s", **SMALL)  # it keeps the biases of its attention
    ema, images = Ema(net, decay=0.5, warmup=1.0), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        before = ema.evaluated()(images).heatmap
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        ema.update(net)
        fresh = build(backbone="timm/levit_128s", **SMALL).eval()
        fresh.load_state_dict(ema.model.state_dict())
        after, known = ema.evaluated()(images).heatmap, fresh(images).heatmap
    assert torch.equal(after, known) and not torch.equal(before, after)


def test_other_scales_of_a_network_of_one_size_are_one_line(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"backbone": "timm/mixer_s16_224", "channels": 8, "head_channels": 8}
    config = resolve({f"model.{k}": v for k, v in values.items()} | {"data.height": 64})
    own, file = weights_record(config, ("a", "b", "c")), tmp_path / "w.safetensors"
    checkpoint.write(file, build(**own["model"], pretrained=False).state_dict(), own)
    words = ["evaluate", "--weights", str(file), "--data", str(data), "--scales", "0.5,1"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "sees every image at 224 x 224; leave out --scales" in error
