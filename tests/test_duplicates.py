"""Pictures that are nearly the same are found, all counted, and few of them kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centernet.dataset import card, coco, duplicates
from centernet.dataset.split import SPLITS, Split


@pytest.fixture(scope="module")
def splits(data: Path) -> list[Split]:
    return [coco.read(data, name) for name in SPLITS]


def test_near_duplicates_are_found_within_and_across_splits_but_nothing_else(
    own_data: Path, splits: list[Split]
) -> None:
    assert duplicates.search(splits, listed=9) == duplicates.Found(0, 0, [])
    images = own_data / "images"
    original = Image.open(images / "train-0000.jpg").convert("RGB")
    brighter = original.point(lambda value: value * 0.8 + 30)
    brighter.resize((64, 48)).resize((128, 96)).save(images / "train-0003.jpg", quality=60)
    original.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "val-0002.jpg", quality=80)
    found = duplicates.search([coco.read(own_data, name) for name in SPLITS], listed=9).nearest
    names = {
        (one.left[1].file.name, one.right[1].file.name, one.across, one.mirrored) for one in found
    }
    assert names == {
        ("train-0000.jpg", "train-0003.jpg", False, False),
        ("train-0000.jpg", "val-0002.jpg", True, True),
        ("train-0003.jpg", "val-0002.jpg", True, True),
    }
    listed = card.near_duplicates([coco.read(own_data, name) for name in SPLITS])
    assert (listed["within"], listed["across"]) == (1, 2)
    assert listed["pairs"][0]["images"][1] == {"split": "val", "id": 3, "file": "val-0002.jpg"}


@pytest.mark.parametrize("listed", [1, 7, 500])
def test_pairs_of_many_alike_pictures_are_all_counted_and_few_are_kept(
    listed: int, splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "CHUNK", 16)
    record = splits[0].records[0]
    many = [
        replace(splits[0], name=name, records=(record,) * count)
        for name, count in (("train", 40), ("val", 3))
    ]
    found = duplicates.search(many, listed=listed)
    assert (found.within, found.across) == (40 * 39 // 2 + 3, 120)
    assert len(found.nearest) == min(listed, 903)
    assert sum(pair.across for pair in found.nearest) == min(listed, 120)
    assert {pair.bits for pair in found.nearest} == {0}


def test_a_picture_of_16_bits_is_not_white_to_the_search_for_near_duplicates(
    tmp_path: Path,
) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp // 257).astype(np.uint8)).save(tmp_path / "plain.png")
    deep, plain = (duplicates.small(tmp_path / f"{name}.png") for name in ("deep", "plain"))
    assert deep is not None and plain is not None
    np.testing.assert_allclose(deep, plain, atol=1)
