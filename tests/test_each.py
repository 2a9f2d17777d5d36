"""Every backbone with every neck and every size loss: trains a step, is saved, is exported.

Of each family the smallest is exported by .ci/run: the larger ones have more of the same layers, and
take five minutes more (`pytest -m larger`).
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from centernet import checkpoint
from centernet.backbones import BACKBONES
from centernet.config import resolve
from centernet.encode import encode
from centernet.export import BOX_TOLERANCE, SCORE_TOLERANCE, compare, to_onnx
from centernet.losses import SIZE_LOSSES, losses
from centernet.model import build
from centernet.necks import NECKS
from centernet.predict import Detector, weights_record
from centernet.structures import Instances

EACH = [
    *itertools.product(BACKBONES, NECKS, [4]),
    *itertools.product(["efficientnet_lite2"], NECKS, [8]),  # of `--config default`
    ("timm/swin_tiny_patch4_window7_224", "pyramid", 4),
    ("timm/vit_tiny_patch16_224", "pyramid", 4),
    ("timm/eva02_tiny_patch14_224", "pyramid", 4),  # cells of 14 pixels
    ("timm/maxvit_rmlp_pico_rw_256", "pyramid", 4),  # images of one size
    ("timm/coat_lite_tiny", "pyramid", 4),  # of one size, and layers share tensors
]
SMALLEST = {
    "slim", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf",
    "efficientnet_lite2", "dla34", "hourglass52", "timm/vit_tiny_patch16_224", "timm/eva02_tiny_patch14_224",
}  # fmt: skip


def record(backbone: str, neck: str, stride: int) -> dict[str, object]:
    """The weights file's, of a small detector of three classes."""
    model = {"backbone": backbone, "neck": neck, "stride": stride, "channels": 8}
    values = {f"model.{name}": value for name, value in (model | {"head_channels": 8}).items()}
    config = resolve(values | {"data.height": 64, "data.width": 96})
    return weights_record(config, ("a", "b", "c"))


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "neck", "stride"), EACH)
def test_each_trains_a_step_with_every_size_loss_and_is_the_same_from_its_file(
    backbone: str, neck: str, stride: int, tmp_path: Path
) -> None:
    """The backward pass of the network is one: a loss only sees its maps."""
    torch.manual_seed(0)
    own = record(backbone, neck, stride)
    net = build(**own["model"], pretrained=False)  # type: ignore[arg-type]
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    objects = Instances(torch.tensor([[8.0, 8, 50, 40], [60, 40, 96, 64]]), torch.tensor([1, 0]))
    nothing = Instances(torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    target = encode([objects, nothing], classes=3, height=64, width=96, stride=stride)
    maps = net(images)
    totals = {name: losses(maps, target, size_loss=name)["total"] for name in SIZE_LOSSES}
    for total in totals.values():
        (gradient,) = torch.autograd.grad(total, maps.size, retain_graph=True)
        assert total.isfinite() and gradient.isfinite().all() and gradient.any()
    torch.stack([*totals.values()]).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # huge in deep ones, untrained
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    checkpoint.write(tmp_path / "w.safetensors", net.state_dict(), own)
    with torch.no_grad():
        ours, theirs = net.eval()(images), Detector.load(tmp_path / "w.safetensors").model(images)
    for field in ("heatmap", "size", "offset"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field))


@pytest.mark.parametrize(
    ("backbone", "neck", "stride"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[0] in SMALLEST else pytest.mark.larger)
        for case in EACH
    ],
)
def test_each_gives_the_same_boxes_in_onnx(
    backbone: str, neck: str, stride: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    own = record(backbone, neck, stride)
    net = build(**own["model"], pretrained=False)  # type: ignore[arg-type]
    checkpoint.write(tmp_path / "w.safetensors", net.state_dict(), own)
    detector = Detector.load(tmp_path / "w.safetensors")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((96, 128), (90, 40))]
    parity = compare(detector, to_onnx(detector), pictures)
    assert parity.boxes <= BOX_TOLERANCE and parity.scores <= SCORE_TOLERANCE
