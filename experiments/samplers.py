"""Samplers of Optuna by name, each with the options that a search space may give it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, Self

import optuna
from optuna.samplers import BaseSampler
from pydantic import Field, model_validator

from centernet.errors import UserError, did_you_mean
from centernet.wording import brief
from experiments.grammar import Natural, P, Part, Seed, Share, parse


class Sampler(Part):
    """Options of a sampler; those not given are Optuna's own."""

    make: ClassVar[Callable[..., BaseSampler]]
    always: ClassVar[dict[str, Any]] = {}  # given to it in any case
    several: ClassVar[bool] = True  # whether it can do several objectives

    seed: Seed = 0

    def build(self, seed: int) -> BaseSampler:
        """The sampler, with this seed in place of its own."""
        given = self.model_dump(exclude_unset=True)
        with quiet():
            return type(self).make(**self.always | given | {"seed": seed})


class Tpe(Sampler):
    """Tree-structured Parzen estimator."""

    make = optuna.samplers.TPESampler

    n_startup_trials: Natural = 10
    n_ei_candidates: Annotated[int, Field(ge=1, le=10_000)] = 24
    multivariate: bool = True
    group: bool = False
    constant_liar: bool = True

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> Self:
        if self.group and not self.multivariate:
            raise ValueError("group: true needs multivariate: true")
        return self

    def build(self, seed: int) -> BaseSampler:
        """With several objectives, a group has to be told that it is multivariate."""
        if self.group and "multivariate" not in self.model_fields_set:
            return self.model_copy(update={"multivariate": True}).build(seed)
        return super().build(seed)


class Gp(Sampler):
    """Gaussian process."""

    make = optuna.samplers.GPSampler
    always: ClassVar[dict[str, Any]] = {"warn_independent_sampling": False}

    n_startup_trials: Natural = 10
    deterministic_objective: bool = False


class CmaEs(Sampler):
    """Covariance matrix adaptation."""

    make = optuna.samplers.CmaEsSampler
    always: ClassVar[dict[str, Any]] = {"warn_independent_sampling": False}
    several = False

    n_startup_trials: Natural = 1
    consider_pruned_trials: bool = False
    popsize: Annotated[int, Field(ge=5, le=10_000)] = 5
    use_separable_cma: bool = False
    with_margin: bool = False
    lr_adapt: bool = False

    @model_validator(mode="after")
    def _one_variant(self) -> Self:
        names = ("use_separable_cma", "with_margin", "lr_adapt")
        chosen = [name for name in names if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other")
        return self


class Qmc(Sampler):
    """A quasi-random sequence."""

    make = optuna.samplers.QMCSampler
    always: ClassVar[dict[str, Any]] = {"warn_independent_sampling": False}

    qmc_type: Literal["sobol", "halton"] = "sobol"
    scramble: bool = False


class Random(Sampler):
    """Independent draws."""

    make = optuna.samplers.RandomSampler


class Grid(Sampler):
    """Every combination once, conditions included."""

    make = optuna.samplers.BruteForceSampler

    avoid_premature_stop: bool = False


class Nsga2(Sampler):
    """A genetic algorithm for several objectives."""

    make = optuna.samplers.NSGAIISampler

    population_size: Annotated[int, Field(ge=2, le=100_000)] = 50
    mutation_prob: Share = 0.0
    crossover_prob: Share = 0.9
    swapping_prob: Share = 0.5


SAMPLERS: dict[str, type[Sampler]] = {
    "tpe": Tpe,
    "gp": Gp,
    "cmaes": CmaEs,
    "qmc": Qmc,
    "random": Random,
    "grid": Grid,
    "nsga2": Nsga2,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Optuna does not say that half of it is marked experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def options(table: dict[str, type[P]], tree: Any, section: str) -> P:
    """`tpe`, or `{name: tpe, option: ...}`, as its options; UserError names what is wrong."""
    named = tree if isinstance(tree, dict) else {"name": tree}
    name = named.get("name")
    if not isinstance(name, str) or name not in table:
        hint = did_you_mean(str(name), table) or f" (one of {', '.join(table)})"
        raise UserError(f"{section}: no {section} is named {brief(name)}{hint}")
    given = {option: value for option, value in named.items() if option != "name"}
    return parse(table[name], given, f"{section}: {name}")
