"""What is unwise about a question before it costs a night: remarks, not errors."""

import math
from collections.abc import Iterator
from typing import Any

from centernet.config import Config
from experiments.budget import PATIENCE
from experiments.ranges import NUMBERS
from experiments.search_space import SearchSpace, combinations

WEIGHTS = ("loss.heatmap_weight", "loss.size_weight", "loss.offset_weight")
DECADES = 2.0  # a linear range that spans more puts nearly all its draws into the last one


def lint(space: SearchSpace, base: Config) -> list[str]:
    """Remarks on a space and the config that its trials start from."""
    checks = (redundant, scales, startup, pruning, brackets, grid, conditions, plateau)
    return [remark for check in checks for remark in check(space, base)]


def redundant(space: SearchSpace, base: Config) -> Iterator[str]:
    """Only the ratios of the weights matter to AdamW, which divides by the gradient's size."""
    if all(path in space.parameters for path in WEIGHTS):
        yield (
            "all three loss weights vary: scaling them together changes next to nothing under "
            "AdamW; pin loss.heatmap_weight: 1.0"
        )


def scales(space: SearchSpace, base: Config) -> Iterator[str]:
    """A wide range is searched on a log scale."""
    for path, distribution in space.parameters.items():
        if isinstance(distribution, NUMBERS) and not distribution.log:
            low, high = distribution.low, distribution.high
            if low > 0 and distribution.step in (None, 1) and high / low >= 10**DECADES:
                yield (
                    f"{path}: {low:g} to {high:g} on a linear scale hardly tries small values; "
                    "log: true"
                )


def startup(space: SearchSpace, base: Config) -> Iterator[str]:
    """A sampler that only ever draws at random."""
    trials = space.budget.trials
    random_first = {"tpe": 10, "gp": 10}.get(space.sampler["name"])
    count = space.sampler.get("n_startup_trials", random_first)
    if trials and random_first is not None and isinstance(count, int) and count >= trials:
        yield (
            f"sampler: its first {count} trials are drawn at random, and there are {trials}: none "
            "is left to learn from them; lower n_startup_trials"
        )


def evaluations(base: Config) -> int:
    """How often a trial is evaluated."""
    return math.ceil(base.train.epochs / base.train.evaluate_every)


def pruning(space: SearchSpace, base: Config) -> Iterator[str]:
    """A pruner that can never act, or saves nothing."""
    pruner, epochs = named(space.pruner), base.train.epochs
    if pruner["name"] == "none":
        return
    if space.costs:
        yield "pruner: with several objectives nothing is pruned; write pruner: none"
        return
    if evaluations(base) < 3:
        yield f"pruner: a trial is evaluated {evaluations(base)} times: too seldom to save much"
    warmup = pruner.get("n_warmup_steps", 0)
    if warmup >= epochs:
        yield f"pruner: n_warmup_steps {warmup} is not below the {epochs} epochs of a trial"
    least = pruner.get("min_resource", 1)
    if pruner["name"] in ("halving", "hyperband") and isinstance(least, int) and least >= epochs:
        yield f"pruner: min_resource {least} is not below the {epochs} epochs of a trial"


def named(pruner: dict[str, Any]) -> dict[str, Any]:
    """The pruner that decides: the wrapped one of a patient pruner."""
    wrapped = pruner.get("wrapped")
    if pruner["name"] != "patient" or wrapped is None:
        return pruner
    return wrapped if isinstance(wrapped, dict) else {"name": wrapped}


def brackets(space: SearchSpace, base: Config) -> Iterator[str]:
    """Hyperband spreads trials over brackets; each needs some to compare."""
    pruner, trials = named(space.pruner), space.budget.trials
    if pruner["name"] != "hyperband" or not trials:
        return
    least, factor = pruner.get("min_resource", 1), pruner.get("reduction_factor", 3)
    count = int(math.log(max(base.train.epochs / least, 1), factor)) + 1
    needed = count * factor * 2
    if trials < needed:
        yield (
            f"pruner: hyperband has {count} brackets here; {trials} trials are few, "
            f"{needed} would do"
        )


def grid(space: SearchSpace, base: Config) -> Iterator[str]:
    """A grid that the budget does not cover."""
    if space.sampler["name"] == "grid" and space.budget.trials:
        total = combinations(space)
        if total > space.budget.trials:
            budget = f"the budget {space.budget.trials} trials"
            yield f"sampler: the grid has up to {total} points, {budget}"


def conditions(space: SearchSpace, base: Config) -> Iterator[str]:
    """Multivariate TPE gives up its model for conditional fields unless it may group them."""
    sampler = space.sampler
    if space.conditions and sampler.get("multivariate") and not sampler.get("group"):
        yield "sampler: with `when:`, multivariate TPE needs group: true to model those fields"


def plateau(space: SearchSpace, base: Config) -> Iterator[str]:
    """A plateau that cannot be seen before the trials are used up."""
    trials = space.budget.trials
    if space.budget.until_plateau and trials and trials <= PATIENCE + 1:
        yield (
            f"budget: until_plateau looks at {PATIENCE} trials after the first; {trials} are few"
        )
