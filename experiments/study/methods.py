"""The sampler and pruner of a search space, and the points of its grid."""

from collections.abc import Iterable, Iterator
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.config import Config, flatten
from centernet.seed import key
from experiments.pruners import PRUNERS
from experiments.ranges import choices
from experiments.samplers import SAMPLERS, options
from experiments.search_space import SearchSpace

SEQUENCES = ("qmc", "grid")  # one seed for the whole study: a place in the sequence is a trial


def make_sampler(space: SearchSpace, *, number: int, seed: int) -> optuna.samplers.BaseSampler:
    """The space's sampler for a trial.

    Seeded by the trial's number, so that a restarted study does not repeat earlier draws; a
    quasi-random sequence keeps one seed, and its place in the study.
    """
    name = space.sampler["name"]
    seed = space.sampler.get("seed", seed)
    if name not in SEQUENCES:
        seed = key(str(seed), "sampler", number)
    return options(SAMPLERS, space.sampler, "sampler").build(seed)


def make_pruner(space: SearchSpace) -> optuna.pruners.BasePruner:
    """The space's pruner."""
    return options(PRUNERS, space.pruner, "pruner").build()


def exhausted(space: SearchSpace, base: Config, tried: Iterable[dict[str, Any]]) -> bool:
    """Whether all points of the space's grid were tried."""
    known = {
        tuple((path, place(space.parameters[path], value)) for path, value in sorted(point.items()))
        for point in tried
    }
    return all(tuple(sorted(cell.items())) in known for cell in cells(space, base))


def cells(space: SearchSpace, base: Config) -> Iterator[dict[str, int]]:
    """Every point of a grid once, conditions included: each field's place on its axis."""

    def rest(paths: list[str], values: dict[str, Any]) -> Iterator[dict[str, int]]:
        if not paths:
            yield {}
            return
        path, distribution = paths[0], space.parameters[paths[0]]
        if not space.active(path, values):
            yield from rest(paths[1:], values)
            return
        for index in range(choices(distribution) or 0):
            value = distribution.choices[index] if hasattr(distribution, "choices") else None
            for cell in rest(paths[1:], values | {path: value}):
                yield {path: index} | cell

    yield from rest(list(space.parameters), flatten(base.model_dump()))


def place(distribution: BaseDistribution, value: Any) -> int:
    """The index of a value of a finite distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return int(distribution.choices.index(value))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    steps: float = (value - distribution.low) / (distribution.step or 1)
    return round(steps)
