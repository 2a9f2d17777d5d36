"""Only regular files are read: nothing hangs, has no end, or counts as empty."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import untrained
from PIL import Image

from centernet import checkpoint, cli, files, sources, video
from centernet.backbones import check_backbone
from centernet.dataset import coco, images, voc
from centernet.errors import UserError
from centernet.onnx_runtime import OnnxDetector
from centernet.predict import Detector
from centernet.presets import load
from experiments import search_space, settings


def pipe(file: Path) -> None:
    os.mkfifo(file)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(file.parent)  # the path of a socket has at most 108 characters
        bound.bind(file.name)
        os.chdir(here)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a named pipe": (pipe, "is a named pipe; a regular file is wanted"),
    "a device": (endless, "is a device; a regular file is wanted"),
    "a socket": (listening, "is a socket; a regular file is wanted"),
    "a folder": (Path.mkdir, "is a folder"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "image.png": images.load,
    "image.bytes": files.read,
    "weights.safetensors": checkpoint.read,
    "detector.safetensors": Detector.load,
    "model.onnx": OnnxDetector.load,
    "pretrained.pth": lambda file: check_backbone("resnet18", pretrained=str(file)),
    "config.yaml": lambda file: load(str(file)),
    "space.yaml": search_space.read,
    "settings.yaml": settings.load,
    "ImageSets/Main/train.txt": voc.listed,
    "film.mp4": lambda file: video.opened(file).__enter__(),
    "listed.jpg": lambda file: images.load(sources.find([str(file)])[0][0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_named_not_opened(tmp_path: Path, kind: str, name: str) -> None:
    make, message = KINDS[kind]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    make(file)
    if name == "listed.jpg" and kind == "a folder":
        return  # its images are wanted
    with pytest.raises((UserError, OSError)) as caught:
        READERS[name](file)
    said = cli.said(caught.value)
    assert str(file) in said and message in said.lower()


def test_a_file_without_an_end_is_as_long_as_it_says() -> None:
    assert files.read(Path("/proc/self/status")) == b""


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(OSError, match="1099511627776 bytes; at most 4294967296 are read"):
        files.read(file)
    with pytest.raises(UserError, match=r"huge\.yaml: has .* at most 67108864"):
        load(str(file))


def with_yolo(folder: Path, data: Path) -> Path:
    """The data as YOLO's, without objects."""
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        for image in sorted((data / "images").glob(f"{split}-*"))[:2]:
            shutil.copy(image, folder / "images" / split)
            label = folder / "labels" / split / f"{image.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 .5 .5 .5 .5\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [zero]\n")
    return folder


@pytest.mark.parametrize("kind", [*KINDS, "a link that leads nowhere"])
@pytest.mark.parametrize("what", ["images", "labels"])
def test_a_yolo_image_or_label_that_is_no_file_is_a_defect_not_an_image_without_objects(
    data: Path, tmp_path: Path, kind: str, what: str
) -> None:
    folder = with_yolo(tmp_path / "yolo", data)
    file = sorted((folder / what / "train").iterdir())[0]
    file.unlink()
    if kind in KINDS:
        KINDS[kind][0](file)
    else:
        file.symlink_to(file.parent / "gone")
    if (what, kind) == ("images", "a folder"):
        return  # which may hold images
    with pytest.raises(
        UserError, match=r"is a (named pipe|symlink|socket|folder|device)|missing|no such file"
    ):
        coco.read(folder, "train")


@pytest.mark.parametrize("kind", KINDS)
def test_a_coco_list_or_image_that_is_no_file_is_refused(own_data: Path, kind: str) -> None:
    make, message = KINDS[kind]
    for file in (own_data / "images" / "train-0000.jpg", own_data / "val.json"):
        file.unlink()
        make(file)
    with pytest.raises(UserError, match=f"{message.partition(';')[0]}|is a symlink to /dev/zero"):
        coco.read(own_data, "train")
    with pytest.raises(UserError, match=rf"val\.json: {message.partition(';')[0]}"):
        coco.read(own_data, "val")


def test_weights_with_nan_are_refused_and_the_tensor_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = untrained(data, tmp_path)
    tensors, record = checkpoint.read(file)
    name = next(name for name in tensors if name.endswith("weight"))
    for value in ("nan", "inf", "-inf"):
        spoilt = {**tensors, name: tensors[name].clone()}
        spoilt[name].view(-1)[0] = float(value)
        checkpoint.write(file, spoilt, record)
        picture = str(sorted((data / "images").iterdir())[0])
        assert cli.main(["predict", "--json", "--weights", str(file), picture]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and f"unusable weights: {name}: 1 of its" in message


def test_a_video_of_too_large_frames_is_refused_before_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "film.mp4"
    with video.Recorder(file, rate=5) as recorder:
        recorder.write(np.zeros((48, 64, 3), np.uint8))
    with video.opened(file) as film:
        assert len(list(film.frames())) == 1
    monkeypatch.setattr(video, "MOST_PIXELS", 48 * 64 - 1)
    with (
        pytest.raises(UserError, match=r"film\.mp4: its frames have 3072 pixels; at most 3071"),
        video.opened(file),
    ):
        pass


def test_predict_says_that_it_reads_the_first_page_of_a_stack(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [Image.new("RGB", (96, 64), shade) for shade in ("black", "white")]
    file = tmp_path / "stack.tif"
    pages[0].save(file, save_all=True, append_images=pages[1:])
    weights = untrained(data, tmp_path)
    assert cli.main(["predict", "--json", "--weights", str(weights), str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert shown.err == f"centernet: note: {file}: {images.STACK}\n"
