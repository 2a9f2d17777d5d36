"""The finals: the best trials and the default config, trained again with fresh seeds.

The best of many trials is also the luckiest. The finals are a study of their own, `<study>.finals`,
whose points are all queued when it is opened: they are driven, resumed and checked as any study's.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from centernet.seed import key
from experiments import study
from experiments.budget import Budget
from experiments.objective import Search
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.study.suggest import SEED, default_point, seeded
from experiments.tracking import Tracker

SUFFIX = ".finals"
ORIGIN = "origin"  # user attribute of a final: the trial of the study that it trains again
FINALISTS, SEEDS = "finalists", "seeds"  # user attributes of the finals: who takes part, with what
DEFAULT = 0  # the study's trial of the default config


@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial of the study, and its trainings with fresh seeds."""

    trial: int
    searched: float | None  # its AP in the search; none where it was not completed
    finals: tuple[Any, ...]  # those completed, the lowest AP first
    missing: int  # those that failed or were not run yet

    @property
    def values(self) -> list[float]:
        """AP with each seed, the lowest first."""
        return [study.score(one) or 0.0 for one in self.finals]

    @property
    def mean(self) -> float:
        """Mean AP over the seeds, by which the winner is chosen; NaN without any."""
        return fmean(self.values) if self.finals else math.nan

    @property
    def median(self) -> Any:
        """The training that stands for it: of median AP, so neither a lucky nor an unlucky one."""
        return self.finals[(len(self.finals) - 1) // 2]

    @property
    def optimism(self) -> float | None:
        """By how much its AP in the search lies above the mean with fresh seeds."""
        return self.searched - self.mean if self.finals and self.searched is not None else None


def open_finals(search: Search, count: int, seeds: int) -> tuple[Search, Budget]:
    """The finals of the best `count` trials and the default config, and what they may spend.

    The caller holds the study's lock. All their weights stay: any may win once there are more
    trials (`experiments gc STUDY.finals` deletes them).
    """
    own, parent = search.tracker.settings, search.study
    space = seeded(search.space)
    chosen = leaders(parent, search.space, search, count)
    fresh = fresh_seeds(search.base.train.seed, parent.get_trials(deepcopy=False), seeds)
    finals = study.open_study(
        own,
        parent.study_name + SUFFIX,
        space,
        identity={"study": parent.user_attrs[study.ID]},
        points=[],
        threads=None,
    )
    finals.set_user_attr(study.PARENT, parent.study_name)
    finals.set_user_attr(FINALISTS, list(chosen))
    finals.set_user_attr(SEEDS, fresh)
    for (number, point), seed in itertools.product(chosen.items(), fresh):
        origin = {ORIGIN: number}
        finals.enqueue_trial(point | {SEED: seed}, user_attrs=origin, skip_if_exists=True)
    unlimited = own.model_copy(update={"keep_best": 10**6, "keep_gb": math.inf})
    tracker = Tracker.of(unlimited, finals)
    folder = search.folder.with_name(f"{tracker.study}-{tracker.study_id[:8]}")
    opened = replace(search, study=finals, space=space, tracker=tracker, folder=folder)
    return opened, Budget(trials=len(finals.get_trials(deepcopy=False)))


def leaders(
    parent: Any, space: SearchSpace, search: Search, count: int
) -> dict[int, dict[str, Any]]:
    """Points of the best `count` trials by number, and of the default config."""
    complete = [t for t in study.finished(parent) if study.score(t) is not None]
    ranked = sorted(filter(study.feasible, complete), key=lambda t: (-t.values[0], t.number))
    points: dict[int, dict[str, Any]] = {}
    for trial in ranked[:count]:
        if trial.params not in points.values():
            points[trial.number] = dict(trial.params)
    default = default_point(space, search.base)
    if default not in points.values():
        points[DEFAULT] = default
    return points


def fresh_seeds(base: int, trials: Sequence[Any], count: int) -> list[int]:
    """The first `count` seeds of the finals, none of which any trial was trained with."""
    used = {base, *(trial.params.get(SEED, base) for trial in trials)}
    keyed = (key(base, "finals", number) for number in itertools.count())
    return list(itertools.islice((seed for seed in keyed if seed not in used), count))


def load_standings(own: Settings, parent: Any) -> list[Finalist]:
    """The standings of a study's finals; empty where there were none."""
    name = parent.study_name + SUFFIX
    if not study.exists(parent, name):
        return []
    return standings(parent, study.load_study(own, name))


def standings(parent: Any, finals: Any) -> list[Finalist]:
    """Those who took part last, the best first: complete with every seed, then by mean AP."""
    seeds, found = set(finals.user_attrs[SEEDS]), []
    trials = [t for t in finals.get_trials(deepcopy=False) if t.params.get(SEED) in seeds]
    for number in finals.user_attrs[FINALISTS]:
        own = [t for t in trials if t.user_attrs.get(ORIGIN) == number and study.feasible(t)]
        complete = [t for t in own if study.score(t) is not None]
        ranked = tuple(sorted(complete, key=lambda t: (t.values[0], t.number)))
        searched = study.score(study.find_trial(parent, number))
        found.append(Finalist(number, searched, ranked, len(seeds) - len(ranked)))
    return sorted(found, key=lambda one: (one.missing, -one.mean if one.finals else 0, one.trial))
