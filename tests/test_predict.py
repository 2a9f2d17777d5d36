"""A trained detector: from weights file to boxes, pictures and ONNX."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from centernet import cli
from centernet.checkpoint import BEST
from centernet.config import Config, flatten, resolve
from centernet.dataset import coco, images
from centernet.draw import beside_truth
from centernet.evaluate import evaluate
from centernet.predict import Detector
from centernet.train import train


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
    assert "AP50" in out and "zero" in out and "AR100" in out and "localisation" in out


def test_a_batch_is_detected_as_one_by_one(
    weights: tuple[Path, dict[str, float]], data: Path
) -> None:
    detector = Detector.load(weights[0])
    pictures = [images.load(file) for file in sorted((data / "images").glob("val-*"))[:3]]
    pictures += [np.full((37, 150, 3), 255, np.uint8), pictures[0][:90, :40]]  # none; portrait
    together = detector.batch(pictures)
    for picture, found in zip(pictures, together, strict=True):
        alone = detector(picture)
        assert torch.equal(found.labels, alone.labels)
        assert torch.allclose(found.boxes, alone.boxes, atol=1e-3)
        assert torch.allclose(found.scores, alone.scores, atol=1e-5)
    assert detector.batch([]) == []


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
