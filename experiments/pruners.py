"""Pruners of Optuna by name, each with the options that a search space may give it."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

import optuna
from optuna.pruners import BasePruner
from pydantic import Field, field_validator, model_validator

from experiments.grammar import Natural, Part, Positive
from experiments.samplers import options, quiet

Factor = Annotated[int, Field(ge=2, le=1000)]


class Pruner(Part):
    """Options of a pruner; those not given are Optuna's own."""

    make: ClassVar[Callable[..., BasePruner]]

    def build(self) -> BasePruner:
        """The pruner."""
        with quiet():
            return type(self).make(**self.model_dump(exclude_unset=True))


class Never(Pruner):
    """Nothing is pruned."""

    make = optuna.pruners.NopPruner


class Median(Pruner):
    """Prune what is worse than the median of the others at the same epoch."""

    make: ClassVar[Callable[..., BasePruner]] = optuna.pruners.MedianPruner

    n_startup_trials: Natural = 5
    n_warmup_steps: Natural = 0
    interval_steps: Positive = 1
    n_min_trials: Positive = 1


class Percentile(Median):
    """Keep what is among the best so many per cent."""

    make = optuna.pruners.PercentilePruner

    percentile: Annotated[float, Field(ge=0, le=100)] = 25.0

    def build(self) -> BasePruner:
        """Optuna has no percentile of its own."""
        with quiet():
            given = self.model_dump(exclude_unset=True)
            return type(self).make(**{"percentile": self.percentile} | given)


class Halving(Pruner):
    """Successive halving."""

    make = optuna.pruners.SuccessiveHalvingPruner

    min_resource: Positive | Literal["auto"] = "auto"
    reduction_factor: Factor = 4
    min_early_stopping_rate: Annotated[int, Field(ge=0, le=100)] = 0
    bootstrap_count: Natural = 0

    @model_validator(mode="after")
    def _bootstrap_knows_its_rungs(self) -> Self:
        if self.bootstrap_count and self.min_resource == "auto":
            raise ValueError("bootstrap_count needs a min_resource")
        return self


class Hyperband(Pruner):
    """Successive halving, from several first rungs."""

    make = optuna.pruners.HyperbandPruner

    min_resource: Positive = 1
    max_resource: Positive | Literal["auto"] = "auto"
    reduction_factor: Factor = 3
    bootstrap_count: Natural = 0

    @model_validator(mode="after")
    def _has_brackets(self) -> Self:
        most, least = self.max_resource, self.min_resource
        if self.bootstrap_count and most == "auto":
            raise ValueError("bootstrap_count needs a max_resource")
        if most != "auto" and most < least:
            raise ValueError(f"max_resource {most} is below min_resource {least}")
        return self


class Patient(Pruner):
    """Prune only what has not improved for `patience` epochs and what `wrapped` would prune."""

    wrapped: Annotated[Any, Field(description="a pruner other than patient")] = None
    patience: Natural = 2
    min_delta: Annotated[float, Field(ge=0)] = 0.0

    @field_validator("wrapped")
    @classmethod
    def _is_a_pruner(cls, tree: Any) -> Any:
        """ValueError for patience around patience, which may contain itself."""
        if tree == "patient" or (isinstance(tree, dict) and tree.get("name") == "patient"):
            raise ValueError
        if tree is not None:
            options(PRUNERS, tree, "pruner")
        return tree

    def build(self) -> BasePruner:
        """Around the pruner that is wrapped, if there is one."""
        inner = options(PRUNERS, self.wrapped, "pruner").build() if self.wrapped else None
        with quiet():
            return optuna.pruners.PatientPruner(inner, self.patience, self.min_delta)


PRUNERS: dict[str, type[Pruner]] = {
    "none": Never,
    "median": Median,
    "percentile": Percentile,
    "halving": Halving,
    "hyperband": Hyperband,
    "patient": Patient,
}
