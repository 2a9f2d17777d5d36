import hashlib
import json
from pathlib import Path

import pytest

from centernet.dataset import coco, demo
from centernet.dataset.demo import demo_folder, generate
from centernet.dataset.split import SPLITS, check_disjoint


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    counts = {"train": 6, "val": 3, "test": 3}
    for name in "ab":
        (tmp_path / name).mkdir()
        generate(tmp_path / name, counts)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_demo_is_a_long_tailed_clean_data_set(tmp_path: Path) -> None:
    folder = demo_folder(tmp_path)
    splits = [coco.read(folder, name) for name in SPLITS]
    assert [len(split) for split in splits] == [400, 100, 100]
    assert not list(check_disjoint(splits))
    counts = splits[0].frequencies()
    assert counts[0] > 2 * counts[1] > counts[2] > 0
    sides = [
        max(box["bbox"][2:])
        for box in json.loads((folder / "train.json").read_text())["annotations"]
    ]
    assert min(sides) < 18 and max(sides) > 40
    assert all(1 <= len(record.boxes) <= 6 for split in splits for record in split.records)
    assert demo_folder(tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_what_an_interrupt_leaves_of_the_demo_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo_folder(tmp_path)
    assert not list(tmp_path.iterdir())
