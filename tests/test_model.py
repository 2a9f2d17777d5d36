from pathlib import Path

import pytest
import torch

from centernet import checkpoint
from centernet.config import resolve
from centernet.errors import UserError
from centernet.model import build
from centernet.predict import weights_record
from centernet.train import check

SMALL = {"channels": 16, "head_channels": 8, "classes": 3}


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


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a slim detector of three classes."""
    torch.manual_seed(1)
    net = build(backbone="slim", pretrained=False, **SMALL)
    values = {"backbone": "slim", "channels": 16, "head_channels": 8}
    config = resolve({f"model.{name}": value for name, value in values.items()})
    file = tmp_path_factory.mktemp("earlier") / "best.safetensors"
    checkpoint.write(file, net.state_dict(), weights_record(config, ("a", "b", "c")))
    return file


def test_an_earlier_detector_gives_all_that_fits_and_says_what_does_not(
    earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    again = build(backbone="slim", pretrained=str(earlier), **SMALL)
    tensors, _ = checkpoint.read(earlier)
    assert checkpoint.digest(again.state_dict()) == checkpoint.digest(tensors)
    assert caplog.text == ""
    other = build(backbone="slim", pretrained=str(earlier), **SMALL | {"classes": 5}).state_dict()
    fresh = {name for name, tensor in other.items() if not tensor.equal(tensors[name])}
    assert fresh == {"heatmap.2.weight", "heatmap.2.bias"}
    assert "2 of 134 tensors do not fit and start anew: heatmap.2.weight, heatmap.2.bias" in (
        caplog.text
    )


def test_an_earlier_detector_of_another_kind_is_one_line(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its backbone is slim; set model\.backbone=slim"):
        build(backbone="resnet18", pretrained=str(earlier), **SMALL)
    training = tmp_path / "last.safetensors"
    checkpoint.write(training, {}, {"kind": "training"})
    with pytest.raises(UserError, match="holds training, not weights"):
        build(backbone="slim", pretrained=str(training), **SMALL)


@pytest.mark.parametrize("value", [True, "false", "False", "no", "", "Imagenet", "weights.bin", 1])
def test_pretrained_is_false_imagenet_or_a_weights_file(value: object) -> None:
    for right in (False, "imagenet", "a/b.pth", "best.safetensors"):
        assert resolve({"model.pretrained": right}).model.pretrained == right
    with pytest.raises(UserError, match=r"^model.pretrained: false \(no quotes\), imagenet, or"):
        resolve({"model.pretrained": value})


def test_deformable_models_are_not_deterministic_on_cuda_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"model.deformable": True, "train.deterministic": True, "train.device": "cuda"}
    check(resolve(values | {"train.device": "cpu"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match=r"set train\.deterministic=false"):
        check(resolve(values))
