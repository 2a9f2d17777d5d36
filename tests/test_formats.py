"""Pascal VOC and YOLO folders are taken as they are by every command that takes data."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import tiny_values, untrained
from writers import WRITERS

from centernet import cli
from centernet.dataset import coco, formats, voc
from centernet.dataset.split import SPLITS
from centernet.errors import UserError
from experiments import exam, question, search, settings

LISTS = {"Pascal VOC": "ImageSets/Main/val.txt", "YOLO": "val in data.yaml"}
SPACE = "parameters: {targets.sigma_divisor: {type: float, low: 4, high: 40}}"


@pytest.fixture(scope="module")
def folders(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny data in each format."""
    home = tmp_path_factory.mktemp("formats")
    splits = [coco.read(data, name) for name in SPLITS]
    return {name: write(splits, home / name) for name, write in WRITERS.items()}


def tiny_words(folder: Path) -> list[str]:
    """The options that train on a folder in seconds."""
    values = tiny_values(folder) | {"train.epochs": 1}
    del values["data.folder"]
    words = ["--config", "light", "--data", str(folder)]
    for path, value in values.items():
        words += ["--set", f"{path}={str(value).lower() if isinstance(value, bool) else value}"]
    return words


@pytest.mark.parametrize("name", WRITERS)
def test_evaluate_takes_every_format(
    name: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = untrained(folders[name], tmp_path)
    assert cli.main(["evaluate", "--weights", str(weights), "--data", str(folders[name])]) == 0
    val = coco.read(folders[name], "val")
    expected = f"{folders[name]}, val: 8 images, {val.frequencies().sum()} objects"
    assert expected in capsys.readouterr().out


def test_train_takes_pascal_voc(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = folders["Pascal VOC"], tmp_path / "o"
    words = ["--output", str(output), "--log", "none"]
    assert cli.main(["train", *tiny_words(folder), *words]) == 0
    out = capsys.readouterr().out
    assert "epoch 1/1: " in out and "defects" not in out
    assert f"--images '{folder}/JPEGImages'" in out  # what to type next
    assert (output / "best.safetensors").is_file()


def test_overfit_takes_yolo(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["overfit", *tiny_words(folders["YOLO"]), "--steps", "1"]) == 1
    out = capsys.readouterr().out
    assert f"{folders['YOLO']}, train: the first 8 images" in out and "It cannot: AP50" in out


@pytest.mark.parametrize("name", WRITERS)
def test_a_search_takes_every_format_and_the_exam_too(
    name: str, folders: dict[str, Path], home: Path
) -> None:
    (home / "space.yaml").write_text(SPACE)
    _, base = question.read(home / "space.yaml")
    own = settings.load(home / "mlflow.yaml")
    base, called = search.with_data(base, folders[name], own)
    assert called == folders[name].name.replace(" ", "-")
    train, val = coco.read_training(Path(str(base.data.folder)))
    assert (len(train), len(val)) == (24, 8)
    assert set(search.card_files(base, (train, val))) == {"card.json", "card.png"}
    assert len(exam.read_test(folders[name])) == 6


@pytest.mark.parametrize("name", WRITERS)
def test_a_split_that_is_not_there_is_one_line_that_says_where_it_belongs(
    name: str, data: Path, tmp_path: Path
) -> None:
    folder = WRITERS[name]([coco.read(data, "train")], tmp_path / "own")
    with pytest.raises(UserError) as error:
        coco.read_training(folder)
    rule = f"it has no val images ({LISTS[name]}); a training needs some"
    assert str(error.value).startswith(f"{folder}: {rule}: move")
    assert formats.splits(folder) == ["train", "val"]


@pytest.mark.parametrize("listed", [False, True])
def test_images_of_yolo_may_be_links_into_the_folder(
    listed: bool, data: Path, tmp_path: Path
) -> None:
    folder = WRITERS["YOLO"]([coco.read(data, split) for split in SPLITS], tmp_path / "own")
    before = coco.read(folder, "train")
    pool = folder / "pool"
    pool.mkdir()
    for record in before.records:
        file = record.file.rename(pool / record.file.name)
        record.file.symlink_to(file)
    if listed:
        names = [f"./{record.file.relative_to(folder)}\n" for record in before.records]
        (folder / "train.txt").write_text("".join(names))
        tree = yaml.safe_load((folder / "data.yaml").read_text())
        (folder / "data.yaml").write_text(yaml.safe_dump(tree | {"train": "train.txt"}))
    after = coco.read(folder, "train")
    assert after.fingerprint == before.fingerprint and not after.problems
    assert sum(len(record.labels) for record in after.records) > 20


def test_a_yolo_folder_whose_test_images_are_named_but_not_there_has_none(
    data: Path, tmp_path: Path
) -> None:
    folder = WRITERS["YOLO"]([coco.read(data, name) for name in ("train", "val")], tmp_path / "own")
    file = folder / "data.yaml"
    file.write_text(file.read_text() + "\ntest: ../test/images\n")
    assert formats.splits(folder) == ["train", "val"]
    assert cli.main(["check-data", str(folder)]) == 0
    with pytest.raises(UserError, match="it has no test images"):
        coco.read(folder, "test")
    file.write_text(file.read_text().replace("../test/images", "images/tset"))  # mistyped
    with pytest.raises(UserError, match="test: there is no images/tset"):
        coco.read(folder, "test")


def test_parsing_is_not_misled_by_an_encoding() -> None:
    with pytest.raises(ValueError, match="not XML"):
        voc.parse(b'<?xml version="1.0" encoding="no-such"?><annotation/>')


def test_names_of_voc_may_have_spaces_and_flags_behind_them(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["Pascal VOC"], tmp_path / "own"))
    file = folder / "ImageSets/Main/train.txt"
    before, (first, second, *others) = coco.read(folder, "train"), file.read_text().split()
    for old, new in ((first, "photo 1"), (second, "two  words")):
        (folder / f"Annotations/{old}.xml").rename(folder / f"Annotations/{new}.xml")
        (folder / f"JPEGImages/{old}.jpg").rename(folder / f"JPEGImages/{new}.jpg")
    lines = ["photo 1", "two  words -1", *(f"{name}  1" for name in others)]
    file.write_text("\n".join(lines))
    assert coco.read(folder, "train").fingerprint == before.fingerprint


def test_a_yolo_list_may_be_a_link_and_name_an_image_twice(data: Path, tmp_path: Path) -> None:
    folder = WRITERS["YOLO"]([coco.read(data, split) for split in SPLITS], tmp_path / "own")
    before = coco.read(folder, "train")
    files = [record.file for record in before.records]
    (files[0].parent / "again.jpg").symlink_to(files[0])
    own = files[0].parent / "list.txt"
    own.write_text("\n".join(file.name for file in [*files, files[0].parent / "again.jpg"]))
    (folder / "train.txt").symlink_to(own)
    tree = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump(tree | {"train": "train.txt"}))
    assert coco.read(folder, "train").fingerprint == before.fingerprint
