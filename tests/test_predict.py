"""A trained detector: from weights file to boxes, pictures and ONNX."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from centernet import cli
from centernet.config import Config, flatten, resolve
from centernet.dataset import coco, images
from centernet.draw import beside_truth
from centernet.evaluate import evaluate
from centernet.export import compare, export, to_onnx
from centernet.predict import Detector
from centernet.train import BEST, train


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    from conftest import tiny_values

    folder = tmp_path_factory.mktemp("trained")
    values = tiny_values(data) | {"train.epochs": 20, "train.evaluate_every": 20}
    *_, last = train(resolve(values), folder)
    assert last.best
    return folder / BEST, last.metrics


def test_a_detector_from_its_file_scores_what_the_trainer_measured(
    weights: tuple[Path, dict[str, float]], data: Path
) -> None:
    file, metrics = weights
    split = coco.read(data, "val")
    detector = Detector.load(file)
    found = [detector(record.file) for record in split.records]
    assert evaluate(found, split) == pytest.approx(metrics, abs=0.5)
    assert metrics["AP50"] > 0


def test_boxes_scale_with_the_image(weights: tuple[Path, dict[str, float]], data: Path) -> None:
    detector = Detector.load(weights[0])
    image = images.load(sorted((data / "images").glob("val-*"))[0])
    twice = np.repeat(np.repeat(image, 2, 0), 2, 1)  # resized back, it is the same input
    a, b = detector(image), detector(twice)
    top = a.scores > 0.1
    assert torch.allclose(a.boxes[top] * 2, b.boxes[: len(a.boxes)][top], atol=3.0)


def test_the_command_line_predicts_evaluates_and_draws(
    weights: tuple[Path, dict[str, float]],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(sorted((data / "images").glob("val-*"))[0])
    arguments = ["predict", "--weights", str(weights[0]), "--shown", "0", file]
    assert cli.main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["image"] == file and len(answer["detections"]) > 10
    assert cli.main([*arguments, "--output", str(tmp_path / "pictures")]) == 0
    with Image.open(tmp_path / "pictures" / "val-0000.jpg.detections.png") as picture:
        assert picture.size == (128, 96)
    assert cli.main(["evaluate", "--weights", str(weights[0]), "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "AP50" in out and "AP/zero" in out and "AR100" in out


def test_onnx_finds_the_same_boxes_and_takes_any_batch(
    weights: tuple[Path, dict[str, float]], data: Path, tmp_path: Path
) -> None:
    detector = Detector.load(weights[0])
    pictures = [images.load(file) for file in sorted((data / "images").glob("val-*"))[:3]]
    parity = export(detector, tmp_path / "model.onnx", pictures)
    assert parity.boxes < 0.1 and parity.scores < 1e-3 and parity.images == 3
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 5):
        heatmap, size, offset = session.run(
            None, {"images": np.zeros((count, 3, 64, 96), np.float32)}
        )
        assert heatmap.shape == (count, 3, 16, 24)
        assert size.shape == offset.shape == (count, 2, 16, 24)


def test_a_class_specific_size_travels_with_the_weights_and_through_onnx(
    data: Path, tmp_path: Path
) -> None:
    from conftest import tiny_values

    values = tiny_values(data) | {"train.epochs": 1, "model.size_per_class": True}
    list(train(resolve(values), tmp_path))
    detector = Detector.load(tmp_path / BEST)
    picture = images.load(sorted((data / "images").glob("val-*"))[0])
    maps = detector.model(detector.prepare(picture)[0])
    assert maps.size.shape == (1, 6, 16, 24) and len(detector(picture).boxes)
    assert compare(detector, to_onnx(detector), [picture]).boxes < 0.1


def test_an_export_that_differs_is_not_kept(
    weights: tuple[Path, dict[str, float]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    detector = Detector.load(weights[0])
    content = to_onnx(detector)
    with torch.no_grad():  # now torch's network is another one
        detector.model.size[-1].bias += 3.0  # type: ignore[index, operator, union-attr]
    picture = images.load(sorted((data / "images").glob("val-*"))[0])
    assert compare(detector, content, [picture]).boxes > 0.1
    monkeypatch.setattr("centernet.export.BOX_TOLERANCE", -1.0)
    arguments = ["export", "--weights", str(weights[0]), "--images", str(data / "images")]
    assert cli.main([*arguments, "--output", str(tmp_path / "m.onnx")]) == 2
    assert "not written" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_a_sheet_shows_truth_beside_detections(
    weights: tuple[Path, dict[str, float]], data: Path
) -> None:
    import io

    content = beside_truth(Detector.load(weights[0]), coco.read(data, "val"), count=3)
    sheet = Image.open(io.BytesIO(content))
    assert sheet.width > 2 * 320 and sheet.height > 3 * 240


def test_a_file_of_another_kind_is_one_line(
    tiny: Config, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(train(resolve(flatten(tiny.model_dump()) | {"train.epochs": 1}), tmp_path / "t"))
    image = str(sorted((data / "images").glob("val-*"))[0])
    for weights in (tmp_path / "t" / "last.safetensors", Path(image), tmp_path / "gone"):
        assert cli.main(["predict", "--weights", str(weights), image]) == 2
        error = capsys.readouterr().err
        assert error.startswith("centernet: ") and error.count("\n") == 1


def test_onnx_runtime_keeps_no_device_id_and_sends_nothing(tmp_path: Path) -> None:
    code = "import centernet.export as e; e.onnxruntime.get_available_providers()"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # without CI, which stops it too
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.rglob("*deviceid*"))
