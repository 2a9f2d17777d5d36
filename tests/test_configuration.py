from pathlib import Path

import pytest

from centernet import cli
from centernet.commands.configuration import TABLES, lines, meanings
from centernet.config import field_paths
from centernet.presets import PRESETS, load


@pytest.mark.parametrize("preset", sorted(file.stem for file in PRESETS.glob("*.yaml")))
def test_what_is_printed_is_a_file_that_gives_the_same_config(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = "optim.weight_decay=1.0e-5"
    assert cli.main(["config", "--config", preset, "--set", change]) == 0
    file = tmp_path / "mine.yaml"
    file.write_text(capsys.readouterr().out)
    assert load(str(file)) == load(preset, {"optim.weight_decay": 1e-5})


def test_every_field_is_there_with_what_it_means_and_may_be() -> None:
    printed = list(lines(load("default")))
    fields = [line for line in printed if line.startswith("  ")]
    assert len(fields) == len(field_paths()) and all("  # " in line for line in fields)
    text = "\n".join(printed)
    assert all(", ".join(names) in text for names in TABLES.values())
    for row in (
        "  stride: 8                           # pixels a cell of the maps; smaller: slower, "
        "small objects; 2, 4 or 8",
        "  rotate_limit: 15.0                  # degrees; never beyond 15; 0 to 15",
        "  min_overlap: 0.7                    # overlap: IoU kept at the radius; above 0, below 1",
        "  folder: null                        # COCO, Pascal VOC or YOLO; none: the embedded "
        "demo data",
    ):
        assert row in printed
    assert "initial weights of the backbone" in meanings()["Model"]["pretrained"]
