"""Pascal VOC and YOLO folders are read as they are, and converted to COCO whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from writers import WRITERS

from centernet import cli
from centernet.dataset import coco, convert, formats, yolo_labels
from centernet.dataset.split import SPLITS, Split
from centernet.dataset.yolo_labels import Layout
from centernet.errors import UserError
from experiments.manifest import current, manifest


@pytest.fixture(scope="module")
def coco_splits(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Split]:
    """The tiny data with a crowd, an image without objects and one whose sides are swapped."""
    folder = tmp_path_factory.mktemp("coco") / "own"
    shutil.copytree(data, folder)
    tree = json.loads((folder / "val.json").read_text())
    empty = tree["images"][1]["id"]
    tree["annotations"] = [row for row in tree["annotations"] if row["image_id"] != empty]
    (folder / "val.json").write_text(json.dumps(tree))
    return [coco.read(folder, name) for name in SPLITS]


@pytest.fixture(scope="module")
def folders(coco_splits: list[Split], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same data in each of the other formats."""
    home = tmp_path_factory.mktemp("formats")
    return {name: write(coco_splits, home / name) for name, write in WRITERS.items()}


@pytest.fixture
def spoilt(folders: dict[str, Path], tmp_path: Path) -> Any:
    """A copy of a format's folder that a test may spoil."""
    return lambda name: Path(shutil.copytree(folders[name], tmp_path / "own"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_recognised_and_read_without_converting(
    name: str, folders: dict[str, Path], coco_splits: list[Split]
) -> None:
    assert formats.detect(folders[name]) == name
    assert formats.splits(folders[name]) == ["train", "val", "test"]
    train, _ = coco.read_training(folders[name])
    expected = coco_splits[0]
    assert len(train) == len(expected) and train.problems == ()
    by_digest = {record.digest: record for record in train.records}
    for record in expected.records:
        ours = by_digest[record.digest]
        names = [train.classes[label] for label in ours.labels]
        assert names == [expected.classes[label] for label in record.labels]
        np.testing.assert_allclose(ours.boxes, record.boxes, atol=1e-3)  # YOLO: six digits


@pytest.mark.parametrize("name", WRITERS)
def test_a_conversion_changes_nothing_and_links_the_images(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "coco"
    convert.convert(folders[name], output)
    for split in SPLITS:
        there, here = coco.read(folders[name], split), coco.read(output, split)
        assert here.fingerprint == there.fingerprint
        for a, b in zip(here.records, there.records, strict=True):
            assert a.file.samefile(b.file)
            assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.crowd, b.crowd)
    assert (output / "train.json").stat().st_mode & 0o077  # as readable as any new file
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco"]
    with pytest.raises(UserError, match="exists; choose a new folder"):
        convert.convert(folders[name], output)
    with pytest.raises(UserError, match="is a COCO data folder already"):
        convert.convert(output, tmp_path / "again")


@pytest.mark.parametrize("name", WRITERS)
def test_coco_to_a_format_and_back_is_the_same_data(
    name: str, folders: dict[str, Path], coco_splits: list[Split], tmp_path: Path
) -> None:
    """Boxes of whole pixels come back exactly from VOC, and within 1e-3 px from YOLO."""
    convert.convert(folders[name], tmp_path / "once")
    once = [coco.read(tmp_path / "once", split) for split in SPLITS]
    WRITERS[name](once, tmp_path / "there")
    convert.convert(tmp_path / "there", tmp_path / "twice")
    for split, first in zip(SPLITS, once, strict=True):
        second = coco.read(tmp_path / "twice", split)
        for a, b in zip(first.records, second.records, strict=True):
            np.testing.assert_allclose(a.boxes, b.boxes, atol=0 if name == "Pascal VOC" else 1e-3)
            assert np.array_equal(a.labels, b.labels) and a.digest == b.digest


def test_copies_where_links_are_impossible_and_nothing_where_that_fails(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(convert.os, "link", refuse)
    convert.convert(folders["YOLO"], tmp_path / "a")
    assert (
        coco.read(tmp_path / "a", "val").fingerprint
        == coco.read(folders["YOLO"], "val").fingerprint
    )

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        convert.convert(folders["YOLO"], tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_voc_corners_count_from_one_and_difficult_objects_are_crowds(spoilt: Any) -> None:
    folder = spoilt("Pascal VOC")
    xml = folder / "Annotations/val-0000.xml"
    box = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>50</xmax><ymax>60</ymax></bndbox>"
    zero = "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9.5</xmax><ymax>9</ymax></bndbox>"
    part = f"<part><name>head</name>{box}</part>"
    xml.write_text(
        "<annotation><size><width>0</width></size>"  # the size is the file's
        f"<object><name>one</name><difficult>1</difficult>{box}{part}</object>"
        f"<object><name>four</name>{zero}</object></annotation>"
    )
    split = coco.read(folder, "val")
    record = split.records[0]
    assert (record.height, record.width) == (96, 128)
    assert record.boxes.tolist() == [[10, 20, 50, 60], [0, 0, 9.5, 9]]
    assert record.crowd.tolist() == [True, False]
    assert split.classes == ("four", "one", "zero")  # sorted, over all splits


def billion_laughs() -> str:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><annotation>&e9;</annotation>'


BROKEN_XML = {
    "a DOCTYPE is not accepted": billion_laughs().encode(),
    "a DOCTYPE is not accepted: ": billion_laughs().encode("utf-16"),
    "not XML": b"<annotation><object>",
    "not VOC: the root is html": b"<html></html>",
    "bndbox needs the numbers xmin": b"<annotation><object><name>one</name></object></annotation>",
    "an object needs a name": b"<annotation><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax>"
    b"<ymax>5</ymax></bndbox></object></annotation>",
}


@pytest.mark.parametrize("rule", BROKEN_XML)
def test_a_broken_annotation_is_one_line_with_its_file(rule: str, spoilt: Any) -> None:
    folder = spoilt("Pascal VOC")
    (folder / "Annotations/train-0001.xml").write_bytes(BROKEN_XML[rule])
    with pytest.raises(UserError, match=rule) as error:
        coco.read(folder, "train")
    assert "train-0001.xml: " in str(error.value) and "\n" not in str(error.value)


def test_an_image_set_names_files_not_paths(spoilt: Any) -> None:
    folder = spoilt("Pascal VOC")
    (folder / "ImageSets/Main/train.txt").write_text("../../etc/passwd\n")
    with pytest.raises(UserError, match=r"train\.txt: .*etc/passwd.: names of images"):
        coco.read(folder, "train")
    (folder / "ImageSets/Main/train.txt").write_text("gone 1\n")
    with pytest.raises(UserError, match=r"gone\.xml: image 1 \(gone\): the annotation is missing"):
        coco.read(folder, "train")


BROKEN_LABELS = {
    "needs numbers": "zero 0.5 0.5 0.1 0.1",
    "unknown class 3, names has 0 to 2": "3 0.5 0.5 0.1 0.1",
    "unknown class nan": "nan 0.5 0.5 0.1 0.1",
    "needs class cx cy w h, or class and a polygon, got 4 words": "0 0.5 0.5 0.1",
    "needs numbers: ": "0 0.5_5 0.5 0.1 0.1",
    "is no confidence, track id or visibility": "0 0.5 0.5 0.1 0.1 45.5",
    "boxes are fractions of their image": "0 64 48 20 10",
    "a number outside": "0 nan 0.5 0.1 0.1",
    "a box without area": "0 0.5 0.5 0.0 0.1",
    "a box partly outside its image": "0 0.0 0.5 0.2 0.1",
}


@pytest.mark.parametrize("rule", BROKEN_LABELS)
def test_a_broken_label_is_named_with_its_line(rule: str, spoilt: Any) -> None:
    folder = spoilt("YOLO")
    (folder / "labels/train/train-0002.txt").write_text(f"\n{BROKEN_LABELS[rule]}\n")
    (problem,) = coco.inspect(folder, "train").problems
    assert "train-0002.txt: line 2: " in str(problem) and rule in str(problem)


def test_a_polygon_is_read_as_its_box_and_rounding_is_clipped() -> None:
    assert yolo_labels.row("1 0.1 0.2 0.5 0.3 0.4 0.9", classes=3, layout=Layout()) == (
        1,
        (0.1, 0.2, 0.5, 0.9),
    )
    label, box = yolo_labels.row("2 0.5 0.5 1.000001 1", classes=3, layout=Layout())
    assert label == 2 and box == pytest.approx((0, 0, 1, 1), abs=1e-5)


LAYOUTS = {
    "lists": ("train: train.txt\nval: [val.txt]\nnames: [zero, one, four]\n", True),
    "an export's ../": ("train: ../images/train\nval: ../images/val\nnames: [zero, one, four]", False),
    "a path of elsewhere": ("path: /data/set\ntrain: images/train\nval: images/val\nnames: {0: zero, 1: one, 2: four}", False),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_data_yaml_leads_to_the_same_images(
    layout: str, spoilt: Any, folders: dict[str, Path]
) -> None:
    folder = spoilt("YOLO")
    text, lists = LAYOUTS[layout]
    (folder / "data.yaml").write_text(text)
    for name in ("train", "val") if lists else ():
        files = sorted((folder / f"images/{name}").iterdir())
        (folder / f"{name}.txt").write_text("".join(f"./images/{name}/{f.name}\n" for f in files))
    assert formats.splits(folder) == ["train", "val"]
    for name in ("train", "val"):
        expected = coco.read(folders["YOLO"], name).fingerprint
        assert coco.read(folder, name).fingerprint == expected


def test_labels_beside_their_images_are_read_whatever_lies_above_the_data(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["YOLO"], tmp_path / "images" / "own")
    (folder / "data.yaml").write_text("train: train\nval: val\nnames: [zero, one, four]\n")
    for name in ("train", "val"):
        (folder / "images" / name).rename(folder / name)
        shutil.copytree(folder / "labels" / name, folder / name, dirs_exist_ok=True)
        assert coco.read(folder, name).fingerprint == coco.read(folders["YOLO"], name).fingerprint


WRONG_YAML = {
    "names: needs a list": "train: images/train\nval: images/val\n",
    "train: needs an image folder": "train: 3\nval: images/val\nnames: [a]\n",
    "there is no images/gone in the data folder": "train: images/gone\nval: images/val\nnames: [a]\n",
    "there is no /etc in the data folder": "train: /etc\nval: images/val\nnames: [a]\n",
    "class 1 is {'b': 'c'}, not text; quote it": "train: images/train\nval: images/val\nnames: [a, b: c]\n",
    "class 1 is '', not text": "train: images/train\nval: images/val\nnames:\n- a\n-\n",
    "names is given twice": "train: images/train\nnames: [a]\nnames: [b]\n",
    "not YAML": "train: [\n",
    "not YOLO's": "- a\n",
}


@pytest.mark.parametrize("rule", WRONG_YAML)
def test_a_wrong_data_yaml_is_one_line(rule: str, spoilt: Any) -> None:
    folder = spoilt("YOLO")
    (folder / "data.yaml").write_text(WRONG_YAML[rule])
    with pytest.raises(UserError, match=rule) as error:
        coco.read(folder, "train")
    assert "\n" not in str(error.value)


def test_nothing_outside_the_folder_is_read(spoilt: Any, tmp_path: Path) -> None:
    folder = spoilt("YOLO")
    (tmp_path / "secret.jpg").write_bytes(b"")
    link = folder / "images/train/link.jpg"
    link.symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(UserError, match=r"link\.jpg: is a symlink to .*secret\.jpg, which is out"):
        coco.read(folder, "train")


@pytest.mark.parametrize("name", WRITERS)
def test_a_manifest_lists_truth_and_images_of_every_format(name: str, spoilt: Any) -> None:
    folder = spoilt(name)
    splits = coco.read_training(folder)
    then = manifest(folder, splits)
    assert current(folder, ("train", "val")) == then
    labels = "Annotations/train-0000.xml" if name == "Pascal VOC" else "labels/train/train-0000.txt"
    assert labels in then and sum(file.endswith(".jpg") for file in then) == 32
    (folder / labels).unlink()
    assert labels not in current(folder, ("train", "val"))


def test_the_command_converts_or_says_why_not(
    folders: dict[str, Path], spoilt: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "coco"
    assert cli.main(["convert", str(folders["Pascal VOC"]), "--output", str(output)]) == 0
    assert "train.json: 24 images" in capsys.readouterr().out
    broken = spoilt("Pascal VOC")
    (broken / "JPEGImages/train-0003.jpg").write_bytes(b"no image")
    assert cli.main(["convert", str(broken), "--output", str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert "train-0003.xml: image 4 (train-0003.jpg): the image is broken" in error
    assert error.count("\n") == 1 and not (tmp_path / "b").exists()
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_size_of_an_xml_that_is_not_the_file_s_is_named(spoilt: Any) -> None:
    folder = spoilt("Pascal VOC")
    xml = folder / "Annotations/val-0002.xml"
    xml.write_text(xml.read_text().replace("<width>128", "<width>130"))
    with pytest.raises(UserError, match=r"val-0002\.xml: image 3 .*: is 128x96, .* 130x96"):
        coco.read(folder, "val")


DIFFICULT = {
    "1": True, "true": True, "True": True, "0": False, "": False, "Unspecified": False,
    "False": False, "0.0": False, "no": None, "-1": None, "yes": None,
}  # fmt: skip


@pytest.mark.parametrize("word", DIFFICULT)
def test_only_1_and_true_mean_difficult_and_other_words_are_told(word: str, spoilt: Any) -> None:
    folder = spoilt("Pascal VOC")
    xml = folder / "Annotations/val-0000.xml"
    box = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>50</xmax><ymax>60</ymax></bndbox>"
    xml.write_text(
        f"<annotation><object><name>one</name><difficult>{word}</difficult>{box}</object></annotation>"
    )
    split = coco.read(folder, "val")
    assert split.records[0].crowd.tolist() == [bool(DIFFICULT[word])]
    told = [f"difficult is {word!r}, not 0 or 1; it is read as 0"] * (DIFFICULT[word] is None)
    assert [problem.rule for problem in split.problems if problem.note] == told


def behind(*tails: str) -> list[str]:
    """Boxes of class 1, one in each corner and one wide, with these words behind them in turn."""
    boxes = ("0.2 0.2 0.1 0.2", "0.8 0.2 0.2 0.1", "0.8 0.8 0.1 0.1", "0.5 0.6 0.9 0.3")
    return [f"1 {box} {tails[n % len(tails)]}" for n, box in enumerate(boxes)]


BEHIND = {  # words behind a box, and the numbers of keypoints by kpt_shape
    "a confidence": (["0.93", "1"], 0),
    "a track id": (["17"], 0),
    "a confidence and a track id": (["0.93 1", "0.4 17", "0.5 0"], 0),
    "some with a track id": (["0.93", "0.4 17"], 0),
    "visible keypoints": (["0.2 0.2 1 0.3 0.3 2", "0 0 0 0.1 0.2 2"], 0),
    "keypoints by kpt_shape": (["0.2 0.2 0.3 0.3", "0 0 -0.1 1.2"], 4),
    "keypoints, a confidence and an id": (["0.2 0.2 0.3 0.3 0.9 4", "0.2 0.2 0.3 0.3 0.9"], 4),
    "keypoints of some": (["0.2 0.2 0.3 0.3", ""], 4),
}


@pytest.mark.parametrize("what", BEHIND)
def test_whatever_stands_behind_a_box_the_box_is_the_box(what: str) -> None:
    tails, keypoints = BEHIND[what]
    layout = yolo_labels.layout(behind(*tails), keypoints=keypoints)
    for with_tail, plain in zip(behind(*tails), behind(""), strict=True):
        assert yolo_labels.row(with_tail, classes=2, layout=layout) == yolo_labels.row(
            plain, classes=2, layout=Layout()
        )
    assert bool(layout.note) == (not keypoints)  # data.yaml said it, or people are told


POLYGON = ["0 0.7 0.7 0.8 0.7 0.8 0.9 0.7 0.9", "0 0.1 0.2 0.5 0.3 0.4 0.9", "0 0.5 0.5 0.2 0.2"]


def test_polygons_are_polygons_and_what_cannot_be_told_is_told() -> None:
    assert yolo_labels.layout(POLYGON) == Layout()
    layout = yolo_labels.layout(behind("0.2 0.2 0.3 0.3"))
    assert layout.polygons and "may be a box with numbers behind it" in layout.note


def test_lines_that_say_more_than_a_box_are_told_once_with_file_and_line(spoilt: Any) -> None:
    folder = spoilt("YOLO")
    before = coco.read(folder, "train")
    labels = sorted((folder / "labels/train").iterdir())
    for label in labels:
        label.write_text("".join(f"{line} 0.9 1\n" for line in label.read_text().splitlines()))
    split = coco.read(folder, "train")
    assert split.fingerprint == before.fingerprint
    (problem,) = split.problems
    assert problem.kind == "note" and str(labels[0]) + ": line 1: numbers behind the box" in str(
        problem
    )
    assert f"so in {before.frequencies().sum()} lines" in problem.rule
    (folder / "data.yaml").write_text((folder / "data.yaml").read_text() + "kpt_shape: [1, 2]\n")
    assert coco.read(folder, "train").problems == ()
    (folder / "data.yaml").write_text((folder / "data.yaml").read_text().replace("[1, 2]", "17"))
    with pytest.raises(UserError, match="kpt_shape: needs a number of keypoints and 2 or 3"):
        coco.read(folder, "train")


NAMES = {
    "[off, on, NO]": ("off", "on", "NO"),
    "{0: ~, 1: null, 2: True}": ("~", "null", "True"),
    "[010, 1_0, 0x1F]": ("010", "1_0", "0x1F"),
    "[12:30, 2024-01-01, 1.10]": ("12:30", "2024-01-01", "1.10"),
    '{"0": a, "1": "b", 2: \'3\'}': ("a", "b", "3"),
}


@pytest.mark.parametrize("names", NAMES)
def test_class_names_of_yolo_are_the_text_that_is_typed(names: str, spoilt: Any) -> None:
    folder = spoilt("YOLO")
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    assert coco.read(folder, "train").classes == NAMES[names]
