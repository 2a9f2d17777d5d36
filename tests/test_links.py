"""Images that are symlinks out of the data folder: refused in words, or followed where allowed."""

import shutil
from pathlib import Path

import pytest

from centernet import cli
from centernet.config import resolve
from centernet.dataset import coco
from centernet.dataset.split import SPLITS
from centernet.errors import UserError
from centernet.train import read
from experiments.manifest import current, manifest


def to_yolo(folder: Path) -> None:
    """One image of each of two splits, in place of COCO's lists."""
    for split in ("train", "val"):
        (folder / "labels" / split).mkdir(parents=True)
        (folder / "images" / split).mkdir()
        image = sorted((folder / "images").glob(f"{split}-*"))[0]
        image.rename(folder / "images" / split / image.name)
        (folder / "labels" / split / f"{image.stem}.txt").write_text("0 .5 .5 .5 .5\n")
    for name in SPLITS:
        (folder / f"{name}.json").unlink()
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [zero]\n")


@pytest.fixture(params=["COCO", "YOLO"])
def linked(request: pytest.FixtureRequest, own_data: Path, tmp_path: Path) -> Path:
    """A data folder whose images lie in `tmp_path/store`, each behind a symlink."""
    if request.param == "YOLO":
        to_yolo(own_data)
    store = tmp_path / "store"
    store.mkdir()
    for image in sorted(one for one in (own_data / "images").rglob("*") if one.is_file()):
        image.rename(store / image.name)
        image.symlink_to(store / image.name)
    return own_data


def test_a_link_out_of_the_folder_is_refused_and_the_setting_named(linked: Path) -> None:
    for links in ((), [str(linked.parent / "sto")], [str(linked.parent / "store" / "deeper")]):
        with pytest.raises(UserError, match=r"is a symlink to .*store.*data\.follow_links"):
            coco.read(linked, "train", links)


def test_links_into_a_named_folder_are_followed_and_change_nothing(
    linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = shutil.copytree(linked, tmp_path / "plain")  # follows the links
    store = str(tmp_path / "store")
    for links in ([store], [str(tmp_path)], ["/"], ["/nowhere", store]):
        for here, there in zip(
            coco.read_training(linked, links), coco.read_training(plain), strict=True
        ):
            assert here.fingerprint == there.fingerprint
    config = resolve({"data.folder": str(linked), "data.follow_links": [store]})
    assert manifest(linked, read(config), [store]) == manifest(plain, coco.read_training(plain))
    assert current(linked, ("train",), [store]) == current(plain, ("train",))
    assert cli.main(["check-data", str(linked), "--follow-links", store]) == 0
    assert "0 of them fatal" in capsys.readouterr().out


def test_a_name_that_leaves_the_folder_is_refused_whatever_links_may(linked: Path) -> None:
    list_file = linked / "train.json"
    if not list_file.exists():
        return  # YOLO has no such names
    text = list_file.read_text().replace("train-0000.jpg", "../../store/train-0000.jpg")
    list_file.write_text(text)
    with pytest.raises(UserError, match="the file name leaves the image folder"):
        coco.read(linked, "train", ["/"])


def test_a_link_to_what_is_no_file_is_refused_even_where_links_may_lead(linked: Path) -> None:
    folder = linked / "images"
    image = sorted([*(folder / "train").glob("train-*")] or folder.glob("train-*"))[0]
    image.unlink()
    image.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="the image cannot be read: is a device"):
        coco.read(linked, "train", ["/"])
