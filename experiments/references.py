"""What is typed for a registered model: models:/NAME@ALIAS or models:/NAME/VERSION."""

import re
from dataclasses import dataclass

from centernet.errors import UserError

SCHEME = "models:/"
GRAMMAR = r"models:/(?P<name>[^/:]+)(@(?P<alias>[A-Za-z0-9_-]+)|/(?P<version>[0-9]{1,18}))"
LARGEST_VERSION = 2**31 - 1  # that MLflow's tables can hold; a server takes more for a failure


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model version by its alias or by its number; the other one is none."""

    name: str
    alias: str | None
    version: int | None


def model_reference(text: str) -> ModelReference:
    """What a reference names; UserError where it names nothing, or a version that cannot be."""
    match = re.fullmatch(GRAMMAR, text)
    if match is None:
        raise UserError(f"{text}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, digits = match["name"], match["alias"], match["version"]
    if digits is None:
        return ModelReference(name, alias, None)
    version = int(digits)
    if not 1 <= version <= LARGEST_VERSION:
        raise UserError(f"{name} has no version {version}")
    return ModelReference(name, None, version)
