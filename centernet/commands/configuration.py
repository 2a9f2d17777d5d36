"""centernet config: every field with its value, meaning and bounds, as a YAML file."""

import argparse
import ast
import inspect
import re
import tokenize
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

import yaml

from centernet import config as fields
from centernet.backbones import BACKBONES
from centernet.config import Config
from centernet.losses import HEATMAP_LOSSES, SIZE_LOSSES
from centernet.necks import NECKS
from centernet.optim import OPTIMIZERS, SCHEDULES
from centernet.presets import load, parse_overrides

TABLES: dict[str, Mapping[str, object]] = {
    "BACKBONES": BACKBONES,
    "NECKS": NECKS,
    "HEATMAP_LOSSES": HEATMAP_LOSSES,
    "SIZE_LOSSES": SIZE_LOSSES,
    "OPTIMIZERS": OPTIMIZERS,
    "SCHEDULES": SCHEDULES,
}
COLUMN = 36  # where the meanings begin


def config(options: argparse.Namespace) -> int:
    """Print a config as a file that --config takes."""
    for line in lines(load(options.config, parse_overrides(options.set))):
        print(line)
    return 0


def lines(config: Config) -> Iterator[str]:
    """A YAML file of a config: a section after the other, a field a line, its meaning behind it."""
    for name, section in config:
        said = meanings()[type(section).__name__]
        schema = type(section).model_json_schema()["properties"]
        yield f"{name}:"
        for field, value in section:
            written = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
            meaning = named(said.get(field, ""))
            known = "; ".join(filter(None, (meaning, bounds(schema[field]))))
            yield f"  {field}: {written}".ljust(COLUMN) + f"  # {known}"


def meanings() -> dict[str, dict[str, str]]:
    """The comment behind each field of each class of config.py."""
    source = inspect.getsource(fields)
    comments = {
        token.start[0]: token.string.removeprefix("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        section.name: {
            ast.unparse(field.target): comments[row]
            for field in section.body
            if isinstance(field, ast.AnnAssign)
            for row in range(field.lineno, (field.end_lineno or field.lineno) + 1)
            if row in comments
        }
        for section in ast.parse(source).body
        if isinstance(section, ast.ClassDef)
    }


def named(meaning: str) -> str:
    """With the names that a table has, where it says `a key of TABLE`."""
    return re.sub("a key of ([A-Z_]+)", lambda found: ", ".join(TABLES[found[1]]), meaning)


def bounds(schema: Mapping[str, Any]) -> str:
    """What values a field may have, of its JSON schema: `0 to 1`, `above 0`, `2, 4 or 8`."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    if choices := kinds[0].get("enum"):
        *others, last = map(str, choices)
        return f"{', '.join(others)} or {last}"
    if schema.get("type") == "array" or len(kinds) > 1:
        return ""
    low, high = kinds[0].get("minimum"), kinds[0].get("maximum")
    above, below = kinds[0].get("exclusiveMinimum"), kinds[0].get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    ends = {"at least": low, "above": above, "at most": high, "below": below}
    return ", ".join(f"{word} {end}" for word, end in ends.items() if end is not None)
