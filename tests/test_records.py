"""The description in a weights file, which may come from anywhere, matches the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import untrained

from centernet import checkpoint
from centernet.errors import UserError
from centernet.predict import Detector

CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a name too many": lambda record: record["classes"].append("more"),
    "a name too few": lambda record: record["classes"].pop(),
    "no name": lambda record: record.update(classes=[]),
    "height 100": lambda record: record["geometry"].update(height=100),
    "height 1": lambda record: record["geometry"].update(height=1),
    "width 33": lambda record: record["geometry"].update(width=33),
    "no such backbone": lambda record: record["model"].update(backbone="none"),
    "no such neck": lambda record: record["model"].update(neck="none"),
}


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(data, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("change", CHANGES)
def test_a_description_of_another_network_is_one_line(
    change: str, weights: Path, tmp_path: Path
) -> None:
    tensors, record = checkpoint.read(weights)
    CHANGES[change](record)
    file = tmp_path / "edited.safetensors"
    checkpoint.write(file, tensors, record)
    with pytest.raises(UserError, match=rf"^{file}: "):
        Detector.load(file)


def test_a_format_that_is_text_is_told_as_text(weights: Path, tmp_path: Path) -> None:
    tensors, record = checkpoint.read(weights)
    file = tmp_path / "edited.safetensors"
    checkpoint.write(file, tensors, record | {"format": "2"})
    with pytest.raises(UserError, match="format '2'; this program reads 2"):
        Detector.load(file)
