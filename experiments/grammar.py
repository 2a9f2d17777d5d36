"""The grammar of a search space: what each part of the YAML may hold, and how a mistake is told.

It knows neither the config's fields nor Optuna: search_space.py brings the three together.
"""

import math
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from centernet.errors import UserError, did_you_mean
from centernet.wording import LONGEST, allowed, brief, written

EXACT = 2**53  # beyond it, a whole number is no longer exact as Optuna stores it
WIDEST = 1e15  # of a range: beyond it, a sampler's squares and sums overflow
CHOICES = 1000
STEPS = 10**9  # of a range

Natural = Annotated[int, Field(ge=0, le=1_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=-EXACT, le=EXACT)]
Number = Annotated[float, Field(ge=-WIDEST, le=WIDEST)]
Step = Annotated[float, Field(gt=0, le=WIDEST)]
Name = Annotated[str, Field(min_length=1)]  # of a study
Scalar = None | bool | Whole | float | str


class Part(BaseModel):
    """A part of the YAML: immutable, unknown keys refused, numbers finite, nothing converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


P = TypeVar("P", bound=Part)


class Range(Part):
    """Numbers from low to high."""

    low: Number
    high: Number
    step: Step | None = None
    log: bool = False

    @model_validator(mode="after")
    def _has_several_values(self) -> Self:
        """ValueError for a range that is empty, a single value, or not one that can be drawn."""
        low, high = f"{self.low:.15g}", f"{self.high:.15g}"
        if self.low > self.high:
            raise ValueError(f"low {low} is above high {high}")
        if self.low == self.high:
            raise ValueError(f"low and high are both {low}; to pin a field, write `field: {low}`")
        if self.log and self.step is not None:
            raise ValueError("step and log exclude each other")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, got {low}")
        if self.step is not None:
            _check_step(Decimal(low), Decimal(high), Decimal(f"{self.step:.15g}"))
        return self


def _check_step(low: Decimal, high: Decimal, step: Decimal) -> None:
    """ValueError unless a few steps from low, or many, end at high."""
    if step > high - low:
        raise ValueError(f"step {step} is wider than the range from {low} to {high}")
    if (high - low) / step > STEPS:
        raise ValueError(
            f"step {step} is too fine for the range from {low} to {high}: leave it out"
        )
    if rest := (high - low) % step:
        last = high - rest
        raise ValueError(f"steps of {step} from {low} end at {last}; write high: {last}")


class Float(Range):
    """`type: float`."""

    type: Literal["float"]


class Int(Range):
    """`type: int`."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[int, Field(ge=1, le=EXACT)] | None = None


class Categorical(Part):
    """`type: categorical`."""

    type: Literal["categorical"]
    choices: Annotated[
        list[Scalar],
        Field(
            min_length=2,
            max_length=CHOICES,
            description=f"2 to {CHOICES} values, each text, a number, true, false or null",
        ),
    ]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        """ValueError for choices that are equal: 1, 1.0 and true are one to Python and Optuna."""
        for index, choice in enumerate(self.choices):
            if choice in self.choices[:index]:
                first = self.choices[self.choices.index(choice)]
                raise ValueError(f"choices: {written(first)} and {written(choice)} are the same")
        return self


KINDS: dict[str, type[Part]] = {"float": Float, "int": Int, "categorical": Categorical}


class Limits(Part):
    """`budget:`."""

    trials: Positive = 20
    epochs: Annotated[int, Field(ge=1, le=10**9)] = 1
    hours: Annotated[float, Field(gt=0, le=100_000)] = 1.0
    until_plateau: bool = False


class Finals(Part):
    """How many of the best trials are trained again, and with how many fresh seeds each."""

    finalists: Annotated[int, Field(ge=0, le=1000)] = 3
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3


class Constraints(Part):
    """The most that a cost may be."""

    latency_ms: Annotated[float, Field(gt=0)] = math.inf
    parameters_m: Annotated[float, Field(gt=0)] = math.inf


class Document(Part):
    """The sections of a search space; those that hold more are read one by one."""

    config: Annotated[str, Field(description="the name of a preset or file")] = "default"
    objectives: Annotated[list[str] | str, Field(description="a list of names")] = "AP"
    constraints: Any = {}
    parameters: Any = None
    enqueue: Annotated[
        list[dict[str, Any]], Field(description="a list of points, each `field: value`")
    ] = []
    warm_start: Annotated[list[Name] | Name, Field(description="names of studies")] = []
    sampler: Any = "tpe"
    pruner: Any = "median"
    budget: Any = {}
    finals: Any = {}


def parse(model: type[P], tree: Any, place: str) -> P:
    """A part of the YAML; UserError, in one line, names place, rule, what came and what may."""
    before = f"{place}: " if place else ""
    fields = model.model_fields
    if not isinstance(tree, dict):
        keys = ", ".join(fields)
        raise UserError(f"{before}expected `key: value` with keys of {keys}; got {brief(tree)}")
    for key in tree:
        if key not in fields:
            hint = did_you_mean(str(key), fields) or f" (there is {', '.join(fields) or 'none'})"
            raise UserError(f"{before}there is no {str(key)[:LONGEST]}{hint}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise UserError(f"{before}{first['ctx']['error']}") from None
        name = str(first["loc"][0])
        came = "nothing" if first["type"] == "missing" else brief(tree[name])
        raise UserError(f"{before}{name}: expected {allowed(fields[name])}, got {came}") from None
