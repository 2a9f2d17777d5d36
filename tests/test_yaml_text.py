"""A value in YAML is what it looks like, in every file and `--set` of the project."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from centernet import yaml_text
from centernet.errors import UserError
from centernet.presets import load, parse_overrides, read_yaml

ROOT = Path(__file__).resolve().parents[1]
TYPED = [
    "off", "on", "no", "Yes", "y", "010", "1_0", "0x10", "0b1", "12:30", "1:30.5", "2024-01-01",
    "1e-5", "=", "+-1", "08", "-010", "1_0.5", "01.5",
]  # fmt: skip
VALUES = {
    "true": True, "False": False, "null": None, "~": None, "": None, "0": 0, "-12": -12, "+3": 3,
    "1.0e-5": 1e-5, "5.": 5.0, ".5": 0.5, "-0.25": -0.25, ".inf": float("inf"), "2024": 2024,
}  # fmt: skip


@pytest.mark.parametrize("word", TYPED)
def test_what_only_yaml_1_1_reads_as_something_else_stays_text(word: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"a: {word}\nb: [{word}]\n")
    assert read_yaml(file) == {"a": word, "b": [word]}
    assert parse_overrides([f"a={word}"]) == {"a": word}


@pytest.mark.parametrize("word", VALUES)
def test_numbers_truths_and_nothing_are_values_and_can_be_had_as_typed(word: str) -> None:
    assert yaml_text.parse(word) == VALUES[word]
    assert yaml_text.parse(f"'{word}'") == word
    assert yaml_text.as_typed(f"- {word}") == [word]


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value)
def test_whatever_a_run_recorded_is_read_back(tree: object) -> None:
    assert yaml_text.parse(yaml.safe_dump(tree)) == tree


def test_no_config_field_takes_such_a_word_as_a_number_or_a_truth() -> None:
    for path in ("optim.batch_size", "optim.lr", "train.deterministic"):
        for word in ("010", "1:30", "on", "1_0"):
            with pytest.raises(UserError, match=f"{path}: .*got '{word}'"):
                load(None, parse_overrides([f"{path}={word}"]))


@pytest.mark.parametrize("package", ["centernet", "experiments"])
def test_nobody_reads_yaml_in_another_way(package: str) -> None:
    reads = re.compile(r"yaml\.(safe_)?load|SafeLoader|full_load")
    files = {str(file.relative_to(ROOT)) for file in (ROOT / package).rglob("*.py")}
    assert {file for file in files if reads.search((ROOT / file).read_text())} <= {
        "centernet/yaml_text.py"
    }
