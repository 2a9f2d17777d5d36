"""Config files, presets and `--set`: YAML, read by a safe loader, to a Config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from centernet import files
from centernet.config import Config, flatten, resolve
from centernet.errors import UserError, did_you_mean

PRESETS = Path(__file__).parent / "configs"


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, where PyYAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read one mapping; ConstructorError names the repeated key and its line."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            seen: set[Any] = set()
            for key_node, _ in node.value:
                name = self.construct_object(key_node)
                if name in seen:
                    where = key_node.start_mark
                    raise yaml.constructor.ConstructorError(
                        problem=f"{name} is given twice", problem_mark=where
                    )
                seen.add(name)
        return mapping


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read by a safe loader; UserError for anything else."""
    try:
        tree = _Loader(files.read_text(file)).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{file}: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
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
            raise UserError(f"--set {text}: expected FIELD=VALUE")
        try:
            values[path.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UserError(f"--set {text}: {value!r} is not a YAML value") from None
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
