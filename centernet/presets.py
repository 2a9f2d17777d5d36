"""Config files, presets and `--set`: YAML, read by a safe loader, to a Config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centernet import files, yaml_text
from centernet.config import Config, flatten, resolve
from centernet.errors import UserError, did_you_mean
from centernet.wording import LONGEST, brief

PRESETS = Path(__file__).parent / "configs"


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read by a safe loader; UserError for anything else."""
    try:
        tree = yaml_text.parse(files.read_text(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{file}: {reason}") from None
    except yaml_text.ERRORS as error:
        line, reason = yaml_text.fault(error)
        where = f":{line}" if line else ""
        raise UserError(f"{file}{where}: not YAML: {reason}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"{file}: expected sections of named fields")
    return tree


def preset_file(name: str) -> Path:
    """The file behind a `--config`: a path, or the name of a preset (`light`)."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    known = sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if name not in known:
        message = f"--config {name}: no such preset{did_you_mean(name, known)}"
        raise UserError(f"{message} (a .yaml file, or one of {', '.join(known)})")
    return PRESETS / f"{name}.yaml"


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """`["optim.lr=1.0e-3"]` as dotted values; the right side is read as YAML."""
    values = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text[:LONGEST]}: expected FIELD=VALUE")
        try:
            values[path.strip()] = yaml_text.parse(value)
        except yaml_text.ERRORS:
            shown = f"--set {path[:LONGEST]}: {brief(value)}"
            raise UserError(f"{shown} is not a YAML value") from None
    return values


def load(name: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Defaults, then the preset or file, then the overrides; every error names its source."""
    flat: dict[str, Any] = {}
    if name is not None:
        file = preset_file(name)
        try:
            flat = flatten(read_yaml(file))
            resolve(flat)
        except RecursionError:
            raise UserError(f"{file}: its sections contain themselves") from None
        except UserError as error:
            text = str(error)
            raise UserError(text if text.startswith(str(file)) else f"{file}: {text}") from None
    return resolve(flat | dict(overrides or {}))
