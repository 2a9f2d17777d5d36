"""Pascal VOC and YOLO folders, given to the commands as they are."""

from pathlib import Path

import pytest
from conftest import tiny_values
from writers import WRITERS

from centernet import cli
from centernet.dataset import coco
from centernet.dataset.split import SPLITS


@pytest.mark.parametrize("name", WRITERS)
def test_the_commands_take_a_format_as_it_is(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = WRITERS[name]([coco.read(data, split) for split in SPLITS], tmp_path / "own")
    values = tiny_values(folder) | {"train.epochs": 1}
    values.pop("data.folder")
    settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    settings += ["--config", "light", "--data", str(folder)]
    assert cli.main(["train", *settings, "--log", "none", "--output", str(tmp_path / "t")]) == 0
    weights = str(tmp_path / "t" / "best.safetensors")
    assert cli.main(["evaluate", "--weights", weights, "--data", str(folder)]) == 0
    assert cli.main(["draw-batch", *settings, "--output", str(tmp_path / "b.png")]) == 0
    assert cli.main(["overfit", *settings, "--steps", "1"]) == 1
    out = capsys.readouterr().out
    assert "epoch 1/1" in out and f"{folder}, val: 8 images" in out and "b.png: 8 images" in out
