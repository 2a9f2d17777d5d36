"""The data card counts what a training would meet, and names what it finds."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from centernet import cli
from centernet.card import data_card
from centernet.commands.data import lines
from centernet.commands.training import skipped
from centernet.config import Model
from centernet.dataset import card, coco
from centernet.dataset.images import ORIENTATION
from centernet.dataset.split import SPLITS, Split
from centernet.draw import boxes_on, heatmap_on
from centernet.shell import typed

AT: dict[str, Any] = {"height": 96, "width": 128, "letterbox": True}


@pytest.fixture(scope="module")
def splits(data: Path) -> list[Split]:
    return [coco.read(data, name) for name in SPLITS]


def test_the_card_counts_what_is_there_and_is_a_picture(splits: list[Split]) -> None:
    found, png = data_card(splits, **AT)
    assert json.loads(json.dumps(found)) == found
    train = found["splits"]["train"]
    assert (train["images"], train["median_height"], train["median_width"]) == (24, 96, 128)
    assert train["boxes"] == sum(one["boxes"]["train"] for one in found["classes"])
    assert [one["name"] for one in found["classes"]] == ["zero", "one", "four"]
    counts = splits[0].frequencies()
    assert found["imbalance"] == pytest.approx(counts.max() / counts.min(), abs=0.01)
    assert found["boxes"]["count"] == counts.sum()
    assert found["defects"] == []
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and picture.width > picture.height > 500


def truth(boxes: list[tuple[float, ...]], labels: list[int], split: Split) -> Split:
    """A split of one 128 x 96 image with these objects."""

    record = replace(
        split.records[0],
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        areas=np.ones(len(boxes)),
        crowd=np.zeros(len(boxes), bool),
    )
    return replace(split, records=(record,))


def test_objects_are_lost_where_two_centres_of_a_class_share_a_cell(splits: list[Split]) -> None:
    boxes = [
        (10, 10, 20, 20),
        (8, 8, 23, 23),
        (11, 11, 20, 20),
        (60, 60, 70, 70),
        (124, 92, 128, 96),
    ]
    one = truth(boxes, [0, 0, 1, 0, 2], splits[0])
    found = card.facts([one], (), **AT, stride=4)
    assert found["lost"]["train"]["4"] == {"of_class": 1, "of_any": 2, "outside": 0}
    smaller = card.facts([one], (), height=64, width=64, letterbox=False, stride=4)
    assert smaller["lost"]["train"]["4"]["of_any"] >= 2
    assert found["boxes"]["below_a_cell"] == 0 and found["boxes"]["below_wanted"] == 5


def test_lost_objects_are_counted_for_every_stride_that_a_model_may_have(
    splits: list[Split],
) -> None:
    one = truth([(c - 5, c - 5, c + 5, c + 5) for c in (17, 19.5, 22, 22)], [0, 0, 0, 1], splits[0])
    found = card.facts([one], (), **AT, stride=4)
    assert [found["lost"]["train"][str(s)]["of_class"] for s in card.STRIDES] == [0, 1, 2]
    said = lines({"format": "COCO", **found})
    expected = ["2: train 0 (1)", "4: train 1 (2)", "8: train 2 (3)"]
    assert [line.strip() for line in said if "model.stride" in line] == [
        f"model.stride {text}" for text in expected
    ]


def test_the_strides_of_the_card_are_those_of_the_config() -> None:
    assert get_args(Model.model_fields["stride"].annotation) == card.STRIDES


def test_a_thousand_objects_and_none_at_all(splits: list[Split]) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, (120, 88), (1000, 2))
    crowded = truth(np.hstack([corners, corners + 8]).tolist(), [0] * 1000, splits[0])
    assert card.facts([crowded], (), **AT, stride=4)["lost"]["train"]["4"]["of_class"] > 400
    found, png = data_card([truth([], [], splits[0])], **AT)
    assert found["splits"]["train"]["empty_images"] == 1 and found["imbalance"] is None
    assert found["suggested"]["height"] is None and png.startswith(b"\x89PNG")
    assert found["boxes"]["side_pixels"] == [None] * 5


@pytest.mark.parametrize(("side", "expected"), [(16, (96, 128)), (32, (64, 64)), (4, (96, 128))])
def test_the_suggested_size_gives_small_boxes_four_cells(
    side: int, expected: tuple[int, int], splits: list[Split]
) -> None:
    one = truth([(10, 10, 10 + side, 12 + side)] * 3, [0, 1, 2], splits[0])
    found = card.suggested(one, stride=4)
    assert (found["height"], found["width"]) == expected


def test_the_command_writes_the_card_and_names_defects(
    edit: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def spoil(tree: dict[str, Any]) -> None:
        tree["categories"][0]["name"] = "$\\frac{ \u4e2d"  # neither mathematics nor in the font
        tree["annotations"][0]["bbox"] = [1, 1, 0, 0]

    folder = edit(spoil)
    shutil.copy(folder / "images/val-0000.jpg", folder / "images/val-0001.jpg")
    words = ["check-data", str(folder), "--output", str(tmp_path / "card")]
    assert cli.main([*words, "--height", "96", "--width", "128"]) == 2  # categories differ
    out = capsys.readouterr().out
    assert "skipped: " in out and "annotation 1 of image 1: a box without area" in out
    assert "at 128 x 96 (stretch)" in out and "1 within a split, 0 across" in out
    written = json.loads((tmp_path / "card/card.json").read_text())
    assert written["format"] == "COCO" and written["network"]["height"] == 96
    assert {one["rule"] for one in written["defects"]} == {
        "a box without area, skipped", "its categories differ from those of train.json",
    }  # fmt: skip
    assert (tmp_path / "card/card.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main([*words, "--height", "100"]) == 2
    assert (
        "data.height: expected a whole number from 64 to 4096, a multiple of 32, got 100"
        in capsys.readouterr().err
    )


def test_a_split_that_is_not_there_is_a_defect_of_a_card_of_the_others(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_data / "val.json").unlink()
    assert cli.main(["check-data", str(own_data), "--output", str(tmp_path / "card")]) == 2
    out = capsys.readouterr().out
    assert f"fatal: {own_data}: it has no val images (val.json, " in out
    assert "move some of train there" in out and "1 defect, 1 of them fatal" in out
    written = json.loads((tmp_path / "card/card.json").read_text())
    assert list(written["splits"]) == ["train", "test"] and len(written["defects"]) == 1
    (own_data / "train.json").unlink()
    assert cli.main(["check-data", str(own_data)]) == 2
    captured = capsys.readouterr()
    assert "it has no train images" in captured.err and not captured.out


def test_an_image_that_does_not_decode_is_named_with_its_id(
    own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own_data / "images/train-0004.jpg"
    tables, comment = b"\xff\xdb", b"\xff\xfe"
    file.write_bytes(file.read_bytes().replace(tables, comment))  # it begins and ends well
    assert cli.main(["check-data", str(own_data)]) == 2
    out = capsys.readouterr().out
    assert "fatal: train.json: image 5 (train-0004.jpg): the image is broken: " in out


def test_an_orientation_that_boxes_may_not_follow_is_a_note_and_nothing_is_skipped(
    edit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def own(tree: dict[str, Any]) -> None:
        rows = tree["images"]
        rows[4]["height"] = rows[4]["width"] = 128  # square
        rows[5]["height"], rows[5]["width"] = 128, 96  # upright: its size decides
        gone = rows[3]["id"]  # has no boxes
        tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] != gone]

    folder = edit(own)
    for index, orientation in {1: 1, 2: 3, 3: 3, 4: 6, 5: 6}.items():
        file = folder / f"images/train-{index:04}.jpg"
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        size = (128, 128) if index == 4 else (128, 96)
        Image.open(file).resize(size).save(file, exif=exif)
    assert cli.main(["check-data", str(folder), "--output", str(tmp_path / "card")]) == 0
    out = capsys.readouterr().out
    said = "its boxes are taken to be those of the upright picture"
    assert [line for line in out.splitlines() if said in line] == [
        f"note: {folder}/train.json: image {index + 1} (train-{index:04}.jpg): "
        f"EXIF orientation {orientation}: {said}"
        for index, orientation in {2: 3, 4: 6}.items()
    ]
    assert "\n0 defects, 0 of them fatal, and 2 notes\n" in out and "skipped" not in out
    program = typed("centernet")
    told = skipped(coco.read_training(folder), folder)
    assert told == f" (2 notes: {program} check-data {folder})"
    written = json.loads((tmp_path / "card/card.json").read_text())
    assert [one["kind"] for one in written["defects"]] == ["note", "note"]


def test_boxes_given_twice_are_named_also_where_duplicates_are_not_searched(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "SEARCHED", 0)
    twice = truth([(10, 10, 20, 20)] * 2, [0, 0], splits[0])
    said = lines({"format": "COCO", **card.facts([twice], (), **AT, stride=4)})
    assert "repeated    boxes given twice: train 1" in said
    assert said[-1] == "duplicates  not searched among more than 20000 images"


@pytest.mark.parametrize("gone", ["rows", "files"])
def test_a_split_without_a_usable_image_is_told_by_its_defects(
    gone: str, edit: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = edit(lambda tree: tree.update(images=[], annotations=[]) if gone == "rows" else None)
    if gone == "files":
        for file in (folder / "images").glob("train-*"):
            file.unlink()
    assert cli.main(["check-data", str(folder), "--output", str(tmp_path / "card")]) == 2
    out = capsys.readouterr().out
    assert "train.json: the split is empty: no usable image\n" in out
    count = 1 if gone == "rows" else 25
    word = "defect" if count == 1 else "defects"
    assert f"\n{count} {word}, {count} of them fatal\n" in out
    assert out.count("fatal: ") == count
    assert json.loads((tmp_path / "card/card.json").read_text())["splits"]["train"]["images"] == 0


def test_names_of_several_lines_are_drawn_on_one(
    edit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(tree: dict[str, Any]) -> None:
        tree["categories"][0]["name"] = "zero\nor none"

    for name in SPLITS:
        folder = edit(rename, name)
    assert cli.main(["check-data", str(folder), "--output", str(tmp_path / "card")]) == 0
    assert "  zero; or none " in capsys.readouterr().out
    image = np.zeros((48, 96, 3), np.uint8)
    box, label = torch.tensor([[20.0, 30.0, 60.0, 40.0]]), torch.tensor([0])
    several, one = (boxes_on(image, box, label, [name]) for name in ("a\nb", "a; b"))
    assert several == one


def test_a_batch_is_drawn_as_the_network_sees_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ["data.height=64", "data.width=96", "augment.mosaic_p=1.0"]
    settings = [word for value in values for word in ("--set", value)]
    pictures = []
    for epoch in ("1", "1", "2"):
        words = ["--data", str(data), "--config", "light", *settings, "--epoch", epoch]
        assert cli.main(["draw-batch", *words, "--output", str(tmp_path / "b.png")]) == 0
        pictures.append((tmp_path / "b.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    assert "b.png: 8 images" in capsys.readouterr().out
    sheet = np.asarray(Image.open(tmp_path / "b.png"))
    assert sheet.shape[1] > 1200 and (sheet[-5] == 255).all(1).any()
    with pytest.raises(SystemExit):
        cli.main(["draw-batch", "--epoch", "0", "--output", "x.png"])


def test_the_heatmap_lies_over_its_objects() -> None:
    heatmap = np.zeros((2, 12, 24), np.float32)
    heatmap[1, 3, 20] = 1.0
    picture = np.asarray(heatmap_on(np.full((48, 96, 3), 100, np.uint8), heatmap, side=96))
    assert picture.shape == (48, 96, 3)
    bright = np.argwhere(picture.max(2) > 200)
    assert bright.min(0).tolist() == [12, 80] and bright.max(0).tolist() == [15, 83]
