"""ONNX: decoding and NMS in the graph, torch's boxes, and what is no such file."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import untrained

from centernet import cli
from centernet.dataset import images
from centernet.decode import decode, top_boxes
from centernet.errors import UserError
from centernet.export import apart, compare, difference, export, to_onnx
from centernet.onnx_runtime import OnnxDetector
from centernet.predict import Detector, Picture, stack
from centernet.structures import Detections, Maps


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, with an NMS that has much to do: untrained boxes are all of one size."""
    return untrained(data, tmp_path_factory.mktemp("weights"), {"decode.nms_iou": 0.2})


@pytest.fixture(scope="module")
def detector(weights: Path) -> Detector:
    return Detector.load(weights)


@pytest.fixture(scope="module")
def pictures(data: Path) -> list[Picture]:
    """Landscape, a portrait, and one with nothing on it."""
    photographs = [images.load(file) for file in sorted((data / "images").glob("val-*"))[:3]]
    return [*photographs, photographs[0][:90, :40], np.full((37, 150, 3), 255, np.uint8)]


@pytest.fixture(scope="module")
def file(
    detector: Detector, pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The export; whoever asks for it knows that it was compared."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    parity = export(detector, path, pictures)
    assert parity.boxes < 0.1 and parity.scores < 1e-3 and parity.images == len(pictures)
    return path


def test_class_specific_sizes_travel_with_the_weights_and_through_onnx(
    data: Path, pictures: list[Picture], tmp_path: Path
) -> None:
    found = Detector.load(untrained(data, tmp_path, {"model.size_per_class": True}))
    maps = found.model(torch.zeros(1, 3, found.height, found.width))
    assert maps.size.shape[1] == 2 * len(found.classes)
    assert compare(found, to_onnx(found), pictures).boxes < 0.1


def test_an_onnx_file_with_nan_in_its_weights_is_refused(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
    values = np.array(onnx.numpy_helper.to_array(weights))
    values.flat[3] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(UserError, match=rf"nan\.onnx: unusable weights: {weights.name}: 1 of its"):
        OnnxDetector.load(tmp_path / "nan.onnx")


def test_onnx_runtime_finds_torchs_boxes_in_a_batch_and_one_by_one(
    file: Path, detector: Detector, pictures: list[Picture]
) -> None:
    other = OnnxDetector.load(file)
    assert other.classes == detector.classes
    for picture, ours, theirs in zip(
        pictures, detector.batch(pictures), other.batch(pictures), strict=True
    ):
        assert max(difference(ours, theirs)) < 0.1
        assert len(ours.scores) == len(theirs.scores) < detector.top_k  # NMS took some away
        assert max(difference(ours, other.batch([picture])[0])) < 0.1
    assert other.batch([]) == []


def test_any_program_can_use_the_file(file: Path, detector: Detector) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    meta = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert tuple(meta["classes"]) == detector.classes
    assert (meta["height"], meta["width"], meta["stride"], meta["nms_iou"]) == (64, 96, 4, 0.2)
    random = np.random.default_rng(0)
    for count in (1, 5):
        batch = random.integers(0, 256, (count, 3, 64, 96), np.uint8)
        boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"images": batch})
        assert boxes.shape == (count, 100, 4) and scores.shape == labels.shape == (count, 100)
        assert (np.diff(scores, axis=1) <= 0).all() and (scores[:, -1] == 0).all()
        with torch.no_grad():
            maps = detector.model(torch.from_numpy(batch))
        every = top_boxes(maps, stride=4, top_k=100)[1]
        assert np.allclose(scores[:, 0], every[:, 0], atol=1e-4)


def test_predict_and_evaluate_read_it_and_torch_runs_no_network(
    file: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("torch runs")

    monkeypatch.setattr("centernet.model.CenterNet.forward", forbidden)
    image = str(sorted((data / "images").glob("val-*"))[0])
    words = ["--weights", str(file), "--device", "cpu"]
    assert cli.main(["predict", *words, "--json", "--shown", "0", image]) == 0
    assert len(json.loads(capsys.readouterr().out)["detections"]) > 3
    assert cli.main(["evaluate", *words, "--data", str(data), "--batch", "3"]) == 0
    assert "8 images" in capsys.readouterr().out
    assert cli.main(["evaluate", *words, "--data", str(data), "--flip"]) == 2
    assert "of one size" in capsys.readouterr().err


def test_a_file_that_export_did_not_write_is_one_line(
    file: Path, weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["images"], ["boxes"])],
            "foreign",
            [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])],
            [onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    liar, shrunk = onnx.load(file), onnx.load(file)
    for model, key, value in (
        (foreign, "x", "{"),
        (liar, "classes", '["one"]'),
        (shrunk, "width", "64"),
    ):
        own = [entry for entry in model.metadata_props if entry.key == key]
        (own[0] if own else model.metadata_props.add(key=key)).value = value
    content = file.read_bytes()
    wrong = {
        "text": b"this is text", "empty": b"", "cut": content[: len(content) // 2],
        "weights": weights.read_bytes(), "foreign": foreign.SerializeToString(),
        "liar": liar.SerializeToString(), "shrunk": shrunk.SerializeToString(),
    }  # fmt: skip
    image = str(sorted((data / "images").glob("val-*"))[0])
    for name, bad in wrong.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(bad)
        words = ["predict", "--weights", str(path), "--device", "cpu", "--json", image]
        assert cli.main(words) == 2, name
        error = capsys.readouterr().err
        assert error.startswith(f"centernet: {path}: ") and error.count("\n") == 1, error
    for weights_file in (tmp_path / "gone.onnx", tmp_path):
        assert cli.main(["predict", "--weights", str(weights_file), image]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_export_that_differs_is_not_kept(
    file: Path, weights: Path, detector: Detector, data: Path, pictures: list[Picture],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = Detector.load(weights)
    with torch.no_grad():  # now torch's network is another one
        other.model.size[-1].bias += 3.0  # type: ignore[index, operator, union-attr]
    assert compare(other, file.read_bytes(), pictures[:1]).boxes > 0.1
    monkeypatch.setattr("centernet.export.BOX_TOLERANCE", -1.0)
    monkeypatch.setattr("centernet.export.to_onnx", lambda _: file.read_bytes())
    words = ["export", "--weights", str(weights), "--images", str(data / "images"), "--output"]
    for target, message in (("m.onnx", "not written"), ("m.pt", "ends in .onnx")):
        assert cli.main([*words, str(tmp_path / target)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / target).exists()
    monkeypatch.undo()
    monkeypatch.setattr("centernet.export.to_onnx", lambda _: file.read_bytes())
    assert cli.main([*words, str(tmp_path / "m.onnx")]) == 0
    assert "boxes are torch's within" in capsys.readouterr().out
    assert cli.main(["export", "--weights", str(file), *words[3:], str(tmp_path / "n.onnx")]) == 2
    assert "is ONNX already" in capsys.readouterr().err


def test_a_tie_that_rounding_decides_is_no_difference_and_a_wrong_graph_is_one(
    detector: Detector, data: Path, pictures: list[Picture], tmp_path: Path
) -> None:
    """Untrained and smooth: neighbours differ by 3e-6, programs in their last bits."""
    smooth = {"model.neck": "dla_up", "model.deformable": True}
    own = Detector.load(untrained(data, tmp_path, smooth))
    batch, placements = stack(pictures[:3], height=64, width=96, letterbox=True)
    with torch.no_grad():
        truths = [own.model(image[None]) for image in batch]

    def worst(change: Callable[[Maps], Maps]) -> tuple[float, float]:
        found = [decode(change(maps))[0] for maps in truths]
        each = zip(batch, found, placements, strict=True)
        boxes, scores = zip(*(apart(own, *one) for one in each), strict=True)
        return max(boxes), max(scores)

    def rounded(maps: Maps) -> Maps:
        torch.manual_seed(0)
        return replace(maps, heatmap=maps.heatmap + 1e-6 * torch.randn_like(maps.heatmap))

    plain = [difference(decode(m)[0], decode(rounded(m))[0])[0] for m in truths]
    assert max(plain) > 4  # a cell and more
    boxes, scores = worst(rounded)
    assert boxes < 0.1 and scores < 1e-3
    wrong: dict[str, Callable[[Maps], Maps]] = {
        "shifted": lambda m: replace(m, heatmap=m.heatmap.roll(1, 3)),
        "higher": lambda m: replace(m, heatmap=m.heatmap + 0.02),
        "x for y": lambda m: replace(m, offset=m.offset.flip(1)),
        "larger": lambda m: replace(m, size=m.size + 0.1),
        "other classes": lambda m: replace(m, heatmap=m.heatmap.roll(1, 1)),
        "nothing": lambda m: replace(m, heatmap=m.heatmap - math.inf),
    }
    for name, change in wrong.items():
        boxes, scores = worst(change)
        assert boxes > 0.1 or scores > 1e-3, name
    for nms_iou in (0.05, 0.6):  # another than the file says; this network is not so smooth
        found = decode(detector.model(batch[:1]), nms_iou=nms_iou)[0]
        assert apart(detector, batch[0], found, placements[0])[0] > 4


def test_a_network_without_onnx_is_refused_in_one_line(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.errors.OnnxExporterError("no ONNX function for deform_conv2d\n at ...")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(UserError, match="cannot be written as ONNX: no ONNX function"):
        to_onnx(detector)


def test_onnx_runtime_keeps_no_device_id_and_sends_nothing(tmp_path: Path) -> None:
    code = "import centernet, onnxruntime; onnxruntime.get_available_providers()"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # without CI, which stops it too
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.rglob("*deviceid*"))


def test_boxes_that_lie_on_each_other_are_told_apart_by_their_scores() -> None:
    box = torch.tensor([0.0, 0.0, 64.0, 40.0])  # both are cut by the image's border
    ours = Detections(box.repeat(2, 1), torch.tensor([0.6, 0.4]), torch.tensor([1, 1]))
    shifted = Detections(ours.boxes + 0.01, ours.scores - 1e-5, ours.labels)
    assert max(difference(ours, shifted)) < 0.02
    one = Detections(ours.boxes[:1], ours.scores[:1], ours.labels[:1])
    assert difference(ours, one)[1] > 0.1
