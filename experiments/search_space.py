"""A question in YAML -> suggestions -> config. The grammar is in search_spaces/README.md."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from centernet.config import Config, check_path, flatten, load, read_yaml, resolve
from centernet.errors import UserError, did_you_mean
from experiments import budget
from experiments.budget import Budget

NUMERIC = ("low", "high", "step", "log")
FIXED = ("data.folder", "train.device", "train.threads")  # the same for all trials of a study
MANY = 1000  # values of a stepped range beyond which only the bounds are checked
WHEN = "when"  # of any kind: only with these values of other fields
KEYS = {"float": NUMERIC, "int": NUMERIC, "categorical": ("choices",)}
SECTIONS = ("config", "parameters", "enqueue", "sampler", "pruner", "budget")


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """A question: what to vary, from which config, with which sampler, pruner and budget."""

    file: Path
    config: str  # the preset or file that trials start from
    parameters: dict[str, BaseDistribution]
    pinned: dict[str, Any]
    conditions: dict[str, dict[str, list[Any]]]  # the values of other fields that a field needs
    enqueue: tuple[dict[str, Any], ...]  # known points, tried after the default
    sampler: dict[str, Any]  # name and options
    pruner: dict[str, Any]  # name and options
    budget: Budget

    def identity(self) -> dict[str, Any]:
        """What makes trials of this space comparable, as plain JSON."""
        return {
            path: optuna.distributions.distribution_to_json(distribution)
            for path, distribution in self.parameters.items()
        } | {f"{path} when": condition for path, condition in self.conditions.items()}

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
            raise UserError(f"{section} is not a section{did_you_mean(section, SECTIONS)}")
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
        sampler=_named(tree.get("sampler", "tpe"), "sampler"),
        pruner=_named(tree.get("pruner", "median"), "pruner"),
        budget=budget.read(tree.get("budget", {})),
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
        if not _contains(parameters[path], value):
            raise UserError(f"enqueue: {path}: {value!r} is outside of {parameters[path]}")
    resolve(flatten(base.model_dump()) | point)
    return point


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    whole = isinstance(distribution, IntDistribution)
    if not math.isfinite(value) or (whole and not isinstance(value, int)):
        return False
    return distribution._contains(distribution.to_internal_repr(value))


def _named(value: Any, section: str) -> dict[str, Any]:
    """`tpe`, or `{name: tpe, option: ...}`, as the latter."""
    tree = value if isinstance(value, dict) else {"name": value}
    if not isinstance(tree.get("name"), str):
        raise UserError(f"{section}: expected a name, or name and options")
    return tree


def default_point(space: SearchSpace, base: Config) -> dict[str, Any]:
    """The base config's own values of what varies; UserError if the space leaves one out."""
    values = flatten(base.model_dump())
    for path, distribution in space.parameters.items():
        if space.active(path, values) and not _contains(distribution, values[path]):
            raise UserError(
                f"{space.file}: {path}: the default, {values[path]}, is outside of its range; "
                "the first trial is the default config, so widen it"
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


def _suggest(trial: optuna.Trial, path: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(path, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(path, choices)
    raise AssertionError(f"no suggestion for {distribution}")
