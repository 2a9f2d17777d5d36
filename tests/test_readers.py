"""What the readers of data say of texts that Python itself refuses: the rule, in this program's words."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from centernet.dataset import coco, coco_folder, formats
from centernet.errors import UserError

PYTHONS = ("codec", "sys.", "recursion", "embedded", "\n", "limit (")  # of its own sentences
JSONS = {
    b'{"images": [], "annotations": [1], "annotations": []}': "'annotations' is given twice",
    b'{"a": [{"b": 1, "b": 1}]}': "'b' is given twice",
    b'{"a": ' + b"9" * 5000 + b"}": "too many digits",
    b"[" * 100_000: "nested too deeply",
    b'{"a": "\xff"}': "not UTF-8",
    b'{"a": 1 2}': "at line 1, column 9",
}


@pytest.mark.parametrize("content", JSONS, ids=JSONS.get)
def test_json_that_cannot_be_read_is_told_in_plain_words(content: bytes) -> None:
    with pytest.raises(ValueError, match=JSONS[content]) as error:
        coco_folder.parse(content)
    assert not any(word in str(error.value) for word in PYTHONS)


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png"])
def test_a_file_name_that_none_can_have_is_a_defect(name: str, edit: Any) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["images"][0]["file_name"] = name

    problems = coco.inspect(edit(change), "train").problems
    assert [one.rule for one in problems if one.fatal] == ["the file_name can be no name of a file"]


YAMLS = {
    'train: "a\\0b"': "train: .* can be no name of a file",
    'train: "\\ud800"': "train: .* can be no name of a file",
    'train: images\npath: "a\\0"': None,
    "train: list.txt": "line 1: .* can be no name of a file",
    "train: [\n": "line 3: not YAML: ",
    "train: " + "9" * 5000: "not YAML: a number in it has too many digits",
    "train: " + "[" * 3000: "not YAML: it is nested too deeply",
    "train: \0": "not YAML: ",
}


@pytest.mark.parametrize("text", YAMLS, ids=[text[:20] for text in YAMLS])
def test_a_data_yaml_that_cannot_be_read_is_told_in_plain_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "list.txt").write_bytes(b"images/\0.png\n")
    (tmp_path / "data.yaml").write_text(f"names: [a]\n{text}")
    if YAMLS[text] is None:
        assert len(formats.read(tmp_path, "train").tree["images"]) == 1
        return
    with pytest.raises(UserError, match=YAMLS[text]) as error:
        formats.read(tmp_path, "train")
    assert not any(word in str(error.value) for word in PYTHONS)


def voc(folder: Path, size: str, listed: str = "a") -> Path:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    Image.new("L", (8, 6)).save(folder / "JPEGImages" / "a.png")
    (folder / "ImageSets/Main/train.txt").write_text(listed)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
    (folder / "Annotations" / "a.xml").write_text(
        f"<annotation>{size}<object><name>x</name>{box}</object></annotation>"
    )
    return folder


@pytest.mark.parametrize(
    ("width", "rule"),
    [("9" * 5000, "a width or height of more than 9 digits"), ("7", "is 8x6, the XML says 7x6")],
    ids=["long", "another"],
)
def test_a_size_in_voc_that_is_not_the_images_is_a_defect(
    width: str, rule: str, tmp_path: Path
) -> None:
    size = f"<size><width>{width}</width><height>6</height></size>"
    problems = coco.inspect(voc(tmp_path, size), "train").problems
    assert rule in [one.rule for one in problems]


def test_a_voc_name_that_none_can_have_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.txt: 'a\\x00': names of images"):
        formats.read(voc(tmp_path, "", "a\0"), "train")


def test_an_image_below_a_file_is_told_in_a_sentence(edit: Any) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["images"][0]["file_name"] = tree["images"][1]["file_name"] + "/x"

    rules = [one.rule for one in coco.inspect(edit(change), "train").problems]
    assert "the image cannot be read: not a directory" in rules
    json.dumps(rules)
