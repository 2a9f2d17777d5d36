"""Known points of a new study: the default, those its YAML names, the best of earlier studies."""

from typing import Any

import optuna

from centernet.config import Config, flatten
from centernet.errors import UserError
from experiments import study
from experiments.ranges import contains
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.study.finals import refuse
from experiments.study.suggest import default_point

BEST = 3  # trials that a study gives to the next one


def first_points(space: SearchSpace, base: Config, own: Settings) -> list[dict[str, Any]]:
    """The default config's point, then those of `enqueue`, then those of `warm_start`."""
    default = default_point(space, base)
    points = [default, *(default | point for point in space.enqueue)]
    for name in space.warm_start:
        points += inherited(study.load_study(own, name), space, base)
    return [point for index, point in enumerate(points) if point not in points[:index]]


def inherited(earlier: study.Study, space: SearchSpace, base: Config) -> list[dict[str, Any]]:
    """The best trials of an earlier study, as points of this space, the best first.

    What it did not vary has the value that it had there. Its scores are not taken over: they may be
    of other data, or of longer trainings. UserError if none of its points lies in this space.
    """
    refuse(earlier, "its best trials are known points")
    points = []
    for trial in ranked(earlier):
        values = flatten(base.model_dump())
        known = earlier.user_attrs.get(study.IDENTITY, {}) | trial.params
        point = {}
        for path in space.parameters:
            if space.active(path, values):
                point[path] = values[path] = known.get(path, values[path])
        if all(contains(space.parameters[path], value) for path, value in point.items()):
            points.append(point)
    if not points:
        raise UserError(
            f"warm_start: {earlier.study_name} has no complete trial that lies in this space"
        )
    return points[:BEST]


def ranked(earlier: study.Study) -> list[optuna.trial.FrozenTrial]:
    """Complete trials that keep to the constraints, the highest AP first."""
    complete = [trial for trial in study.finished(earlier) if study.score(trial) is not None]
    return sorted(
        filter(study.feasible, complete), key=lambda trial: (-trial.values[0], trial.number)
    )
