"""A question in YAML, read and checked. The grammar is in search_spaces/README.md."""

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
from centernet.wording import brief, written
from experiments import budget
from experiments.budget import Budget
from experiments.grammar import (
    KINDS,
    Categorical,
    Constraints,
    Document,
    Finals,
    Float,
    Int,
    parse,
)
from experiments.pruners import PRUNERS
from experiments.ranges import NUMBERS, choices, contains, described
from experiments.samplers import SAMPLERS, options

FIXED = ("data.folder", "data.follow_links", "train.device", "train.threads")  # of a study
MANY = 1000  # values of a stepped range that are checked; of a longer one also the last
GRID = 100_000  # points of a grid: Optuna keeps them all in memory
WHEN = "when"  # of any kind: only with these values of other fields
AP, COSTS = "AP", tuple(Constraints.model_fields)  # to be maximised; to be minimised


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
    finals: Finals = field(default_factory=Finals)  # the best trials, again

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
    document = parse(Document, read_yaml(file), "")
    parameters, pinned, conditions = _parameters(document.parameters)
    space = SearchSpace(
        file=file,
        config=document.config,
        parameters=parameters,
        pinned=pinned,
        conditions=conditions,
        enqueue=tuple(document.enqueue),
        warm_start=tuple(_listed(document.warm_start)),
        sampler=_method(SAMPLERS, document.sampler, "sampler"),
        pruner=_method(PRUNERS, document.pruner, "pruner"),
        budget=budget.read(document.budget),
        costs=_costs(_listed(document.objectives)),
        limits=parse(Constraints, document.constraints, "constraints").model_dump(
            exclude_unset=True
        ),
        finals=parse(Finals, document.finals, "finals"),
    )
    _check_sampler(space)
    check_fields(space, load(space.config))
    return space


def check_fields(space: SearchSpace, base: Config) -> None:
    """UserError unless every value that may be suggested is one that the config accepts."""
    flat = flatten(base.model_dump()) | space.pinned
    resolve(flat)
    for path, distribution in space.parameters.items():
        for value in _values(distribution):
            resolve(flat | {path: value})
    for point in space.enqueue:
        _check_point(point, space.parameters)
        resolve(flat | point)


def _check_sampler(space: SearchSpace) -> None:
    """UserError for a sampler that cannot do what the space asks of it."""
    name = space.sampler["name"]
    if space.costs and not SAMPLERS[name].several:
        able = ", ".join(other for other, kind in SAMPLERS.items() if kind.several)
        raise UserError(f"sampler: {name} cannot do several objectives; {able} can")
    free = [
        path
        for path, distribution in space.parameters.items()
        if isinstance(distribution, NUMBERS) and path not in space.conditions
    ]
    if space.sampler.get("use_separable_cma") and len(free) < 2:
        raise UserError(
            f"sampler: use_separable_cma needs two numeric fields without `when`, got {len(free)}"
        )
    if name == "grid" and (total := combinations(space)) > GRID:
        raise UserError(f"sampler: the grid has {total} points, and {GRID} is the most")


def combinations(space: SearchSpace) -> int:
    """Number of points of a grid, at most; UserError where a field has no finite grid."""
    total = 1
    for path, distribution in space.parameters.items():
        count = choices(distribution)
        if count is None:
            raise UserError(f"{path}: the grid sampler needs a `step`")
        total *= count
    return total


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
            if not contains(distribution, value):
                may = described(distribution)
                raise UserError(f"{path}: when: {other} is never {brief(value)}; it is {may}")
    return condition


def _distribution(path: str, value: dict[str, Any]) -> BaseDistribution:
    """One parameter in Optuna's vocabulary."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise UserError(f"{path}: type is one of {', '.join(KINDS)}, got {brief(kind)}{hint}")
    match parse(KINDS[kind], value, path):
        case Int(low=low, high=high, step=step, log=log):
            return IntDistribution(low, high, log=log, step=step or 1)
        case Float(low=low, high=high, step=step, log=log):
            return FloatDistribution(low, high, log=log, step=step)
        case Categorical(choices=values):
            return CategoricalDistribution(values)
    raise AssertionError(f"no distribution for {kind}")


def _values(distribution: BaseDistribution) -> list[Any]:
    """All values of a finite distribution, else its bounds."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        whole = range(distribution.low, distribution.high + 1, distribution.step)
        return [*whole[:MANY], whole[-1]]
    assert isinstance(distribution, FloatDistribution)
    return [distribution.low, distribution.high]


def _check_point(point: Mapping[str, Any], parameters: Mapping[str, BaseDistribution]) -> None:
    """UserError for a known point that the space cannot suggest."""
    for path, value in point.items():
        if path not in parameters:
            hint = did_you_mean(str(path), parameters) or f" (it varies {', '.join(parameters)})"
            raise UserError(f"enqueue: {path} is not varied by this space{hint}")
        if not contains(parameters[path], value):
            may = described(parameters[path])
            raise UserError(f"enqueue: {path}: expected {may}, got {brief(value)}")


def told(what: str, identity: Mapping[str, Any]) -> str:
    """What a part of a study's identity is, in words; a range as `a number from 0.1 to 2`."""
    value = identity.get(what)
    if not what.startswith("space ") or what.endswith(f" {WHEN}"):
        return written(value)
    if value is None:
        return "fixed"
    return described(optuna.distributions.json_to_distribution(value))


def _listed(value: list[str] | str) -> list[str]:
    """`name`, or `[name, ...]`, as the latter."""
    return value if isinstance(value, list) else [value]


def _method(table: dict[str, Any], tree: Any, section: str) -> dict[str, Any]:
    """A sampler or pruner, checked, as its name and options."""
    options(table, tree, section)
    return dict(tree) if isinstance(tree, dict) else {"name": tree}


def _costs(names: list[str]) -> tuple[str, ...]:
    """`objectives: [AP, latency_ms]`: AP, and costs beside it."""
    for name in names:
        if name != AP and name not in COSTS:
            known = did_you_mean(name, (AP, *COSTS)) or f" (there is {AP}, {', '.join(COSTS)})"
            raise UserError(
                f"objectives: there is no {name}{known}; losses of different weights do not compare"
            )
    if names[:1] != [AP] or len(set(names)) != len(names):
        raise UserError(f"objectives: AP comes first, and each one once, got {', '.join(names)}")
    return tuple(names[1:])
