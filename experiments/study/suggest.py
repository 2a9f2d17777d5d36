"""A search space and the config that trials start from -> one trial's config."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.config import Config, flatten, resolve
from centernet.errors import UserError
from centernet.wording import written
from experiments.ranges import contains, described
from experiments.search_space import SearchSpace

SEED = "train.seed"


def default_point(space: SearchSpace, base: Config) -> dict[str, Any]:
    """The base config's own values of what varies; UserError if the space leaves one out."""
    values = flatten(base.model_dump())
    for path, distribution in space.parameters.items():
        if space.active(path, values) and not contains(distribution, values[path]):
            raise UserError(
                f"{space.file}: {path}: the config has {written(values[path])}, which is not "
                f"{described(distribution)}; it is the first trial, so widen the range"
            )
    return {path: values[path] for path in space.parameters if space.active(path, values)}


def candidates(space: SearchSpace, base: Config) -> Iterator[Config]:
    """The base config, alone and with each categorical choice: what can be checked before work."""
    yield base
    for path, distribution in space.parameters.items():
        if isinstance(distribution, CategoricalDistribution):
            for choice in distribution.choices:
                yield resolve(flatten(base.model_dump()) | {path: choice})


def suggest(trial: optuna.Trial, space: SearchSpace, base: Config) -> Config:
    """The base config with this trial's suggestions in it."""
    flat = flatten(base.model_dump())
    for path, distribution in space.parameters.items():
        if space.active(path, flat):
            flat[path] = _suggest(trial, path, distribution)
    return resolve(flat)


def configured(base: Config, params: Mapping[str, Any]) -> Config:
    """The base config with what was suggested to a trial in it."""
    return resolve(flatten(base.model_dump()) | dict(params))


def _suggest(trial: optuna.Trial, path: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(path, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(path, choices)
    raise AssertionError(f"no suggestion for {distribution}")


def seeded(space: SearchSpace) -> SearchSpace:
    """The space with the seed as a field; nothing is sampled or pruned, AP alone counts."""
    seed = IntDistribution(0, 2**32 - 1)
    return replace(
        space,
        parameters=space.parameters | {SEED: seed},
        enqueue=(),
        sampler={"name": "random"},
        pruner={"name": "none"},
        costs=(),
    )
