"""Every defect of a data set is named with its file and id."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centernet.dataset import coco, formats
from centernet.dataset.card import facts
from centernet.dataset.loader import sampling_weights
from centernet.dataset.split import check_disjoint
from centernet.errors import UserError


def test_reading_keeps_every_image_and_box(data: Path) -> None:
    split = coco.read(data, "train")
    assert len(split) == 24 and split.classes == ("zero", "one", "four")
    assert split.frequencies().sum() == sum(len(record.boxes) for record in split.records) > 24
    record = split.records[0]
    assert (record.height, record.width) == (96, 128)
    assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
    assert split.problems == ()


def first(key: str, **changes: Any) -> Any:
    return lambda tree: tree[key][0].update(changes)


FATAL = {
    "unknown category 9": first("annotations", category_id=9),
    "bbox is not four finite numbers": first("annotations", bbox=[1, 2, 3]),
    "bbox is not four": first("annotations", bbox=[1, 2, float("nan"), 4]),
    "iscrowd is '0', not 0 or 1": first("annotations", iscrowd="0"),
    "iscrowd is [1], not 0 or 1": first("annotations", iscrowd=[1]),
    "its image is not in the file": first("annotations", image_id=999),
    "needs a whole id and image_id": first("annotations", id="x"),
    "needs a whole id, a file_name": first("images", width=None),
    "the image is missing": first("images", file_name="gone.jpg"),
    "the file name leaves the image folder": first("images", file_name="../train.json"),
    "is 128x96, the JSON says 130x96": first("images", width=130),
    "the image is given twice": lambda tree: tree["images"].append(tree["images"][0]),
    "the image is given twice, also as train-0000.jpg": lambda tree: tree["images"].append(
        tree["images"][0] | {"id": 99, "file_name": "./train-0000.jpg"}
    ),
    "also as train-0000.jpg": lambda tree: tree["images"].append(
        tree["images"][0] | {"id": 99, "file_name": "../images/train-0000.jpg"}
    ),
    "unknown category True": first("annotations", category_id=True),
    "iscrowd is 'false', not 0 or 1": first("annotations", iscrowd="false"),
    "no usable image": lambda tree: tree.update(images=[], annotations=[]),
    "no usable box": lambda tree: tree.update(annotations=[]),
    "category 1 is given twice": lambda tree: tree["categories"].append({"id": 1, "name": "x"}),
    "categories is not a list": lambda tree: tree.update(categories=None),
    "it has no categories": lambda tree: tree.update(categories=[]),
    "a category needs a whole id": lambda tree: tree.update(categories=[{"id": "1", "name": "x"}]),
}


@pytest.mark.parametrize("rule", FATAL)
def test_a_fatal_defect_is_one_line_with_file_and_rule(rule: str, edit: Any) -> None:
    with pytest.raises(UserError) as error:
        coco.read(edit(FATAL[rule]), "train")
    assert rule in str(error.value)
    assert "train.json" in str(error.value)
    assert "\n" not in str(error.value)


SKIPPED = {
    "a box without area": (first("annotations", bbox=[5, 5, 0, 9]), -1),
    "a box outside its image": (first("annotations", bbox=[500, 5, 9, 9]), -1),
    "the annotation is given twice, the first is used": (
        lambda tree: tree["annotations"].append(tree["annotations"][0]), 0,
    ),
    "the annotation id is given twice, for different objects; both are used": (
        lambda tree: tree["annotations"].append(tree["annotations"][0] | {"bbox": [1, 2, 3, 4]}), 1,
    ),
    "a box partly outside its image": (first("annotations", bbox=[100, 50, 90, 90]), 0),
}  # fmt: skip


@pytest.mark.parametrize("rule", SKIPPED)
def test_other_defects_are_counted_and_skipped(rule: str, edit: Any, data: Path) -> None:
    change, boxes = SKIPPED[rule]
    split = coco.read(edit(change), "train")
    assert [rule in str(problem) for problem in split.problems] == [True]
    assert split.frequencies().sum() == coco.read(data, "train").frequencies().sum() + boxes
    for record in split.records:
        assert (record.boxes >= 0).all() and (record.boxes <= (128, 96, 128, 96)).all()


def test_the_area_of_a_clipped_box_is_that_which_is_left_unless_it_is_stated(edit: Any) -> None:
    for stated, expected in ((None, 28 * 46), (77.5, 77.5)):
        changes = {"bbox": [100, 50, 90, 90], "image_id": 1, "area": stated}
        split = coco.read(edit(first("annotations", **changes)), "train")
        record = split.records[0]
        at = (record.boxes == (100, 50, 128, 96)).all(1)
        assert record.areas[at].tolist() == [expected]


def test_a_truncated_image_is_fatal_and_named(own_data: Path) -> None:
    file = sorted((own_data / "images").glob("train-*"))[3]
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match=rf"image 4 \({file.name}\): the image is broken"):
        coco.read(own_data, "train")


def test_what_is_not_coco_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such data folder"):
        coco.read(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match=r"no train\.json, .* \(COCO\), no Annotations .* \(YOLO\)"):
        coco.read(tmp_path, "train")
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"it has no train images \(train\.json, .*; a training needs some"
    ):
        coco.read(tmp_path, "train")
    for text in ("{", "[]", "{}", "null", '{"images": [1], "annotations": [], "categories": []}'):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(UserError, match=r"train\.json: not"):
            coco.read(tmp_path, "train")


def test_the_same_image_in_two_splits_is_found_by_content(own_data: Path) -> None:
    a, b = (own_data / "images" / f"{name}-0000.jpg" for name in ("train", "val"))
    b.write_bytes(a.read_bytes())
    splits = [coco.read(own_data, name) for name in ("train", "val")]
    problem = next(check_disjoint(splits))
    assert "val.json: image 1 (val-0000.jpg): the same image is in train.json" in str(problem)
    with pytest.raises(UserError, match="the same image"):
        coco.read_training(own_data)


def test_the_fingerprint_follows_content_not_place(data: Path, edit: Any, own_data: Path) -> None:
    original = coco.read(data, "train").fingerprint
    assert coco.read(own_data, "train").fingerprint == original
    moved = edit(lambda tree: tree["annotations"][0]["bbox"].__setitem__(0, 1.5))
    assert coco.read(moved, "train").fingerprint != original


def test_classes_follow_the_order_of_their_ids_not_of_the_file(edit: Any, data: Path) -> None:
    split = coco.read(edit(lambda tree: tree["categories"].reverse()), "train")
    assert split.classes == coco.read(data, "train").classes
    assert np.array_equal(split.category_ids, (1, 2, 3))


LAYOUTS = {  # as others publish COCO: JSON file and image folder of a split
    "cocodataset.org": ("annotations/instances_{}2017.json", "{}2017"),
    "with images apart": ("annotations/instances_{}.json", "images/{}"),
    "Roboflow": ("{}/_annotations.coco.json", "{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_usual_layouts_of_coco_are_the_same_data(
    layout: str, data: Path, tmp_path: Path
) -> None:
    for name in ("train", "val"):
        alias = "valid" if (layout, name) == ("Roboflow", "val") else name
        file, images = (tmp_path / one.format(alias) for one in LAYOUTS[layout])
        images.parent.mkdir(exist_ok=True)
        shutil.copytree(data / "images", images)
        file.parent.mkdir(exist_ok=True)
        shutil.copy(data / f"{name}.json", file)
    assert formats.detect(tmp_path) == "COCO"
    for name in ("train", "val"):
        theirs, ours = coco.read(tmp_path, name), coco.read(data, name)
        assert theirs.fingerprint == ours.fingerprint and not theirs.problems
    assert formats.splits(tmp_path) == ["train", "val"]


def test_two_files_of_one_split_are_one_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for year in (2014, 2017):
        shutil.copy(data / "train.json", tmp_path / f"annotations/instances_train{year}.json")
    with pytest.raises(UserError, match=r"two files for train: .*2014.json and .*; leave one"):
        coco.read(tmp_path, "train")


def test_one_id_for_all_annotations_is_not_compared_with_all_others(edit: Any) -> None:
    def seconds(id: Callable[[int], int]) -> float:
        def alike(tree: dict[str, Any]) -> None:
            first, images = tree["annotations"][0], tree["images"]
            tree["annotations"] = [
                first | {"id": id(n), "image_id": images[n % len(images)]["id"], "bbox": [1, 1, 1 + n / 9999, 9]}
                for n in range(20_000)
            ]  # fmt: skip

        folder = edit(alike)
        started = time.process_time()
        assert coco.read(folder, "train").frequencies().sum() == 20_000
        return time.process_time() - started

    alone = min(seconds(lambda n: n) for _ in range(2))
    assert min(seconds(lambda n: 0) for _ in range(2)) < 3 * alone  # 1.05 times; by pairs, 13


def test_a_link_to_an_image_is_that_image_given_twice(own_data: Path, edit: Any) -> None:
    (own_data / "images/again.jpg").symlink_to(own_data / "images/train-0000.jpg")
    folder = edit(
        lambda tree: tree["images"].append(tree["images"][0] | {"id": 99, "file_name": "again.jpg"})
    )
    with pytest.raises(
        UserError, match=r"image 99 .*: the image is given twice, also as train-0000"
    ):
        coco.read(folder, "train")


def test_classes_without_an_object_in_train_are_named_and_keep_their_place(edit: Any) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["categories"] += [{"id": 7, "name": "never"}, {"id": 9, "name": "nowhere"}]
        for row in tree["annotations"]:
            row["iscrowd"] = int(row["category_id"] == 2)

    split = coco.read(edit(change), "train")
    assert split.classes == ("zero", "one", "four", "never", "nowhere")
    assert split.frequencies()[[1, 3, 4]].tolist() == [0, 0, 0] and split.frequencies().sum() > 9
    assert [(problem.kind, problem.rule) for problem in split.problems] == [
        (
            "note",
            "a class with only crowds (or difficult objects) in train, which cannot be learnt: one",
        ),
        ("note", "2 of 5 classes with no box in train, which cannot be learnt: never, nowhere"),
    ]
    assert sampling_weights(split, balance=1.0).isfinite().all()
    card = facts([split], split.problems, height=96, width=128, letterbox=False, stride=4)
    assert [row["boxes"]["train"] for row in card["classes"]] == split.frequencies().tolist()
