"""The config that a command line asks for."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centernet.config import Config, flatten, resolve
from centernet.dataset.demo import demo_folder
from centernet.presets import load, parse_overrides


def given_config(options: argparse.Namespace, first: Mapping[str, Any] | None = None) -> Config:
    """Of --config, `first`, --set and --data; the embedded demo data where none is named."""
    values = dict(first or {}) | parse_overrides(options.set)
    if options.data is not None:
        values["data.folder"] = str(options.data)
    config = load(options.config, values)
    if config.data.folder is not None:
        return config
    demo = str(demo_folder(Path("runs")))
    return resolve(flatten(config.model_dump()) | {"data.folder": demo})
