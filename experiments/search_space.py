"""A question in YAML, read and checked. The grammar is in search_spaces/README.md."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.config import Config, check_path, flatten, resolve
from centernet.errors import UserError, did_you_mean
from centernet.presets import load, read_yaml
from experiments import budget
from experiments.budget import Budget

NUMERIC = ("low", "high", "step", "log")
FIXED = ("data.folder", "data.follow_links", "train.device", "train.threads")  # of a study
MANY = 1000  # values of a stepped range beyond which only the bounds are checked
WHEN = "when"  # of any kind: only with these values of other fields
KEYS = {"float": NUMERIC, "int": NUMERIC, "categorical": ("choices",)}
SECTIONS = (
    "config", "objectives", "constraints", "parameters", "enqueue", "warm_start", "sampler",
    "pruner", "budget", "finals",
)  # fmt: skip
NUMBERS = (FloatDistribution, IntDistribution)
AP, COSTS = "AP", ("latency_ms", "parameters_m")  # to be maximised; to be minimised


@dataclass(frozen=True, slots=True)
class Finals:
    """How many of the best trials are trained again, and with how many fresh seeds each."""

    finalists: int = 3
    seeds: int = 3


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """A question: what to vary, from which config, with which sampler, pruner and budget."""

    file: Path
    config: str  # the preset or file that trials start from
    parameters: dict[str, BaseDistribution]
    pinned: dict[str, Any]
    conditions: dict[str, dict[str, list[Any]]]  # the values of other fields that a field needs
    enqueue: tuple[dict[str, Any], ...]  # known points, tried after the default
    warm_start: tuple[str, ...]  # studies whose best points are tried after those
    sampler: dict[str, Any]  # name and options
    pruner: dict[str, Any]  # name and options
    budget: Budget
    costs: tuple[str, ...] = ()  # to be minimised, beside AP
    limits: Mapping[str, float] = field(default_factory=dict)  # the most that a cost may be
    finals: Finals = Finals()

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Of AP, then of each cost."""
        below: list[Literal["maximize", "minimize"]] = ["minimize"] * len(self.costs)
        return ["maximize", *below]

    def identity(self) -> dict[str, Any]:
        """What makes trials of this space comparable, as plain JSON."""
        return {
            path: optuna.distributions.distribution_to_json(distribution)
            for path, distribution in self.parameters.items()
        } | {f"{path} when": condition for path, condition in self.conditions.items()}

    def question(self) -> dict[str, Any]:
        """What is asked for, as plain JSON."""
        return {"objectives": [AP, *self.costs], "constraints": dict(self.limits)}

    def active(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether a field is varied where other fields have these values."""
        return all(
            values[other] in allowed for other, allowed in self.conditions.get(path, {}).items()
        )


def read(file: Path) -> SearchSpace:
    """Read and check a search space; UserError names the file, the key and the rule."""
    try:
        return _read(file)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _read(file: Path) -> SearchSpace:
    tree = read_yaml(file)
    for section in tree:
        if section not in SECTIONS:
            raise UserError(f"a search space has no {section}{did_you_mean(section, SECTIONS)}")
    preset = str(tree.get("config", "default"))
    base = load(preset)
    parameters, pinned, conditions = _parameters(tree.get("parameters"))
    resolve(flatten(base.model_dump()) | pinned)
    for path, distribution in parameters.items():
        _check_bounds(base, path, distribution)
    points = tree.get("enqueue", [])
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise UserError("enqueue: expected a list of points, each `field: value`")
    return SearchSpace(
        file=file,
        config=preset,
        parameters=parameters,
        pinned=pinned,
        conditions=conditions,
        enqueue=tuple(_point(point, parameters, base) for point in points),
        warm_start=_names(tree.get("warm_start", [])),
        sampler=_named(tree.get("sampler", "tpe"), "sampler"),
        pruner=_named(tree.get("pruner", "median"), "pruner"),
        budget=budget.read(tree.get("budget", {})),
        costs=_costs(tree.get("objectives", [AP])),
        limits=_limits(tree.get("constraints", {})),
        finals=_finals(tree.get("finals", {})),
    )


def _parameters(
    tree: Any,
) -> tuple[dict[str, BaseDistribution], dict[str, Any], dict[str, dict[str, list[Any]]]]:
    """Distributions, pinned values and conditions by dotted path."""
    if not isinstance(tree, dict) or not tree:
        raise UserError("parameters: expected at least one `field: {type: ...}`")
    parameters: dict[str, BaseDistribution] = {}
    pinned, conditions = {}, {}
    for path, value in tree.items():
        check_path(str(path))
        if path in FIXED:
            raise UserError(f"{path}: it is the same for all trials of a study (--set, --data)")
        if not isinstance(value, dict):
            pinned[path] = value
            continue
        options = dict(value)
        if WHEN in options:
            conditions[path] = _condition(path, options.pop(WHEN), parameters)
        parameters[path] = _distribution(path, options)
    if not parameters:
        raise UserError("parameters: nothing varies; give at least one field a type and bounds")
    return parameters, pinned, conditions


def _condition(
    path: str, tree: Any, before: Mapping[str, BaseDistribution]
) -> dict[str, list[Any]]:
    """`when: {field: value or list of values}`, of categorical fields that stand before."""
    if not isinstance(tree, dict) or not tree:
        raise UserError(f"{path}: when: expected `field: value` or `field: [values]`")
    condition = {}
    for other, allowed in tree.items():
        check_path(str(other))
        distribution = before.get(other)
        if not isinstance(distribution, CategoricalDistribution):
            raise UserError(f"{path}: when: {other} has to be a categorical field above it")
        condition[other] = allowed if isinstance(allowed, list) else [allowed]
        for value in condition[other]:
            if value not in distribution.choices:
                raise UserError(f"{path}: when: {other} is never {value!r}")
    return condition


def _distribution(path: str, value: dict[str, Any]) -> BaseDistribution:
    """One parameter in Optuna's vocabulary."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in KEYS:
        raise UserError(f"{path}: type is one of {', '.join(KEYS)}, got {kind!r}")
    options = {key: option for key, option in value.items() if key != "type"}
    for key in options:
        if key not in KEYS[kind]:
            hint = did_you_mean(str(key), KEYS[kind])
            raise UserError(f"{path}: {key} is not an option of a {kind}{hint}")
    if kind == "categorical":
        choices = options.get("choices")
        if not isinstance(choices, list) or not choices:
            raise UserError(f"{path}: choices: expected a list of values")
        return CategoricalDistribution(choices)
    _check_range(path, kind, options)
    try:
        if kind == "int":
            return IntDistribution(**options)
        return FloatDistribution(**options)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{path}: {error}") from None


def _check_range(path: str, kind: str, options: dict[str, Any]) -> None:
    """`low` and `high` are numbers of the kind, in this order."""
    number = int if kind == "int" else int | float
    for key in ("low", "high", *(["step"] if "step" in options else [])):
        if not isinstance(options.get(key), number) or isinstance(options.get(key), bool):
            raise UserError(f"{path}: {key}: a {kind} needs a number, got {options.get(key)!r}")
    if options["low"] > options["high"]:
        raise UserError(f"{path}: low {options['low']} is above high {options['high']}")


def _check_bounds(base: Config, path: str, distribution: BaseDistribution) -> None:
    """Every value that may be suggested is one that the config accepts."""
    for value in _values(distribution):
        resolve(flatten(base.model_dump()) | {path: value})


def _values(distribution: BaseDistribution) -> list[Any]:
    """All values of a finite distribution, else its bounds."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        whole = range(distribution.low, distribution.high + 1, distribution.step)
        return list(whole) if len(whole) <= MANY else [distribution.low, distribution.high]
    assert isinstance(distribution, FloatDistribution)
    return [distribution.low, distribution.high]


def _point(
    point: dict[str, Any], parameters: Mapping[str, BaseDistribution], base: Config
) -> dict[str, Any]:
    """A known point; fields that the space does not vary are refused."""
    for path, value in point.items():
        if path not in parameters:
            hint = did_you_mean(str(path), parameters)
            raise UserError(f"enqueue: {path} is not varied by this space{hint}")
        if not contains(parameters[path], value):
            raise UserError(f"enqueue: {path}: {value!r} is outside of {parameters[path]}")
    resolve(flatten(base.model_dump()) | point)
    return point


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value is one that may be suggested."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    whole = isinstance(distribution, IntDistribution)
    if not math.isfinite(value) or (whole and not isinstance(value, int)):
        return False
    return distribution._contains(distribution.to_internal_repr(value))


def _names(value: Any) -> tuple[str, ...]:
    """`study`, or `[study, ...]`."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise UserError("warm_start: expected names of studies")
    return tuple(names)


def _named(value: Any, section: str) -> dict[str, Any]:
    """`tpe`, or `{name: tpe, option: ...}`, as the latter."""
    tree = value if isinstance(value, dict) else {"name": value}
    if not isinstance(tree.get("name"), str):
        raise UserError(f"{section}: expected a name, or name and options")
    return tree


def _costs(tree: Any) -> tuple[str, ...]:
    """`objectives: [AP, latency_ms]`: AP, and costs beside it."""
    names = tree if isinstance(tree, list) else [tree]
    for name in names:
        if name != AP and name not in COSTS:
            known = did_you_mean(str(name), (AP, *COSTS)) or f" (AP, {', '.join(COSTS)})"
            raise UserError(
                f"objectives: {name} is none{known}; losses of different weights do not compare"
            )
    if names[:1] != [AP] or len(set(names)) != len(names):
        raise UserError("objectives: AP comes first, and each one once")
    return tuple(names[1:])


def _limits(tree: Any) -> dict[str, float]:
    """`constraints: {latency_ms: 10}`: the most that a cost may be."""
    if not isinstance(tree, dict):
        raise UserError("constraints: expected `cost: the most that it may be`")
    for name, value in tree.items():
        if name not in COSTS:
            known = did_you_mean(str(name), COSTS) or f" (one of {', '.join(COSTS)})"
            raise UserError(f"constraints: {name} is not a cost{known}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise UserError(f"constraints: {name}: expected a number above 0, got {value!r}")
    return {name: float(value) for name, value in tree.items()}


def _finals(tree: Any) -> Finals:
    """`finals: {finalists: 3, seeds: 3}`; no finalists: none are held."""
    least = {"finalists": 0, "seeds": 1}
    if not isinstance(tree, dict):
        raise UserError("finals: expected `finalists: N` and `seeds: N`")
    for name, value in tree.items():
        if name not in least:
            raise UserError(f"finals: {name} is no option{did_you_mean(str(name), least)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < least[name]:
            what = f"a whole number from {least[name]}"
            raise UserError(f"finals: {name}: expected {what}, got {value!r}")
    return Finals(**tree)
