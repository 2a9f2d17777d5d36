"""A question as it is asked: a search space, and the config that its trials start from.

`lint` and `search` read it here, so that one refuses what the other does, in the same words.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centernet.config import Config
from centernet.errors import UserError
from centernet.presets import load
from centernet.train import check
from experiments import search_space
from experiments.search_space import SearchSpace
from experiments.study.methods import make_pruner, make_sampler
from experiments.study.suggest import candidates, default_point


def read(
    file: Path, config: str | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[SearchSpace, Config]:
    """A space and its config (default: the space's own), all checked but the data and the stores.

    UserError names, in one line, the place, the rule, what came and what is allowed.
    """
    space = search_space.read(file)
    for path in overrides or {}:
        if path in space.parameters:
            raise UserError(f"--set {path}: {file} varies it")
    base = load(config or space.config, space.pinned | dict(overrides or {}))
    try:
        search_space.check_fields(space, base)
        default_point(space, base)
        for candidate in candidates(space, base):
            check(candidate)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(file)) else f"{file}: {text}") from None
    make_sampler(space, number=0, seed=0)
    make_pruner(space)
    return space, base
