"""Networks of timm: of any size, of one size, with cells that are not of 2^n pixels."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from centernet import checkpoint, cli
from centernet.backbones import create
from centernet.backbones.timm_nets import OnGrid, check_features, nearest
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
    """As an extractor of timm: the mean of each cell, after `border` cells that it leaves out."""

    pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # noqa: RUF012

    def __init__(self, stride: int, *, border: int = 0, channels: int = 3) -> None:
        super().__init__()
        self.pool, self.border = nn.AvgPool2d(stride), border
        self.feature_info = SimpleNamespace(channels=lambda: [channels], reduction=lambda: [stride])

    def forward(self, images: Tensor) -> list[Tensor]:
        means = self.pool(images)
        return [means[:, :, : means.shape[2] - self.border, : means.shape[3] - self.border]]


def ramp(height: int, width: int) -> Tensor:
    """The position of each pixel's centre: images[1, (x, y, 0), height, width]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x + 0.5, y + 0.5, torch.zeros_like(x)))[None]


@pytest.mark.parametrize(
    ("stride", "size"), [(8, None), (14, None), (7, None), (12, None), (17, None), (8, (64, 64))]
)
def test_a_cell_sees_its_place_in_the_image(stride: int, size: tuple[int, int] | None) -> None:
    """What a cell measures of a ramp is where its own centre lies, in pixels of the image."""
    net = OnGrid(Means(stride), size=size, finest=4)
    images = ramp(128, 192)
    ((found,), _), own = net(images), nearest(stride)
    assert net.strides == (own,) and found.shape[2:] == (128 // own, 192 // own)
    centres = nn.AvgPool2d(own)(images)
    inner = (..., slice(1, -1), slice(1, -1))  # borders have nothing beyond them to resample
    torch.testing.assert_close(found[inner], centres[inner], atol=1e-3, rtol=0)


def test_the_nearest_power_of_two_of_a_stride_is_so_as_a_ratio() -> None:
    assert [nearest(s) for s in (2, 4, 7, 8, 11, 12, 14, 16, 17, 22, 23, 28, 32)] == [
        2, 4, 8, 8, 8, 16, 16, 16, 16, 16, 32, 32, 32,
    ]  # fmt: skip


def test_what_timm_says_of_a_network_is_not_believed_but_tried() -> None:
    check_features(Means(8, border=4), [(256, 512)], compute=False)
    for net, message in (
        (Means(8, border=5), "a feature of 3 x 27 x 59, where its stride of 8 makes 3 x 32 x 64"),
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


@pytest.mark.parametrize("name", ["pit_ti_224", "efficientformerv2_s0", "vit_tiny_patch16_224"])
def test_a_file_of_the_whole_network_fills_the_extractor_whose_names_are_others(
    name: str, tmp_path: Path
) -> None:
    import timm

    torch.manual_seed(0)
    whole = timm.create_model(name)
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "w.pth")
    ours = create(f"timm/{name}", pretrained=str(tmp_path / "w.pth")).state_dict()
    theirs = {float(t.double().sum()) for t in whole.state_dict().values()}
    assert {float(t.double().sum()) for t in ours.values()} <= theirs and len(ours) > 100


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


def test_parameters_that_no_feature_depends_on_are_let_go() -> None:
    net = create("timm/pit_ti_224")  # its last norm is for the classifier
    net.freeze_unused((64, 96))
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["stages.body.norm.weight", "stages.body.norm.bias"] and net.training
    for early in ("hourglass104", "slim"):
        with torch.device("meta"):
            whole = create(early)
            whole.freeze_unused((64, 96))
        assert all(p.requires_grad for p in whole.parameters())


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
