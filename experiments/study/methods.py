"""Samplers and pruners of Optuna by name, with their options, as a search space names them."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.config import Config, flatten
from centernet.errors import UserError, did_you_mean
from centernet.seed import key
from experiments.search_space import SearchSpace

Built = TypeVar("Built")


def patient(
    *, wrapped: Any = None, patience: int = 2, min_delta: float = 0.0
) -> optuna.pruners.BasePruner:
    """Prune only what has not improved for `patience` epochs and what `wrapped` would prune."""
    inner = None
    if wrapped is not None:
        named = wrapped if isinstance(wrapped, dict) else {"name": wrapped}
        inner = build(PRUNERS, named, "pruner")
    return optuna.pruners.PatientPruner(inner, patience, min_delta)


SAMPLERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.BruteForceSampler,  # every combination once, conditions included
    "nsga2": optuna.samplers.NSGAIISampler,
}
PRUNERS: dict[str, Callable[..., optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "patient": patient,
}
QUIET = {"cmaes": {"warn_independent_sampling": False}, "qmc": {"warn_independent_sampling": False}}
SEQUENCES = ("qmc", "grid")  # one seed for the whole study: a place in the sequence is a trial
REQUIRED = {"percentile": {"percentile": 25.0}}


def make_sampler(space: SearchSpace, *, number: int, seed: int) -> optuna.samplers.BaseSampler:
    """The space's sampler for a trial; UserError for an unknown name or option.

    Seeded by the trial's number, so that a restarted study does not repeat earlier draws; a
    quasi-random sequence keeps one seed, and its place in the study.
    """
    name = space.sampler["name"]
    own = space.sampler.get("seed", seed)
    if name not in SEQUENCES:
        own = key(str(own), "sampler", number)
    if name == "grid":
        combinations(space)
    return build(SAMPLERS, QUIET.get(name, {}) | space.sampler | {"seed": own}, "sampler")


def make_pruner(space: SearchSpace) -> optuna.pruners.BasePruner:
    """The space's pruner; UserError for an unknown name or option."""
    named = REQUIRED.get(space.pruner["name"], {}) | space.pruner
    return build(PRUNERS, named, "pruner")


def combinations(space: SearchSpace) -> int:
    """Number of points of a grid, at most; UserError where a field has no finite grid."""
    total = 1
    for path, distribution in space.parameters.items():
        count = choices(distribution)
        if count is None:
            raise UserError(f"{path}: the grid sampler needs a `step`")
        total *= count
    return total


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


def choices(distribution: BaseDistribution) -> int | None:
    """How many values a distribution has; none: a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return None
    return int((distribution.high - distribution.low) / distribution.step + 1e-9) + 1


def build(table: dict[str, Callable[..., Built]], named: dict[str, Any], section: str) -> Built:
    """Call the entry that `named` names with its options; UserError for one that it has not."""
    options = {option: value for option, value in named.items() if option != "name"}
    name = named["name"]
    if name not in table:
        known = did_you_mean(name, table) or f" (one of {', '.join(table)})"
        raise UserError(f"{section}: no {section} is named {name}{known}")
    allowed = inspect.signature(table[name]).parameters
    for option in options:
        if option not in allowed:
            hint = did_you_mean(str(option), allowed)
            raise UserError(f"{section}: {name} has no {option}{hint}")
        default = allowed[option].default
        if isinstance(default, int | float) and not isinstance(options[option], int | float):
            raise UserError(f"{section}: {option}: a number is needed, got {options[option]!r}")
    try:
        with warnings.catch_warnings():  # half of Optuna is marked experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return table[name](**options)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"{section}: {name}: {str(error).splitlines()[0]}") from None
