"""The finals: the best trials and the default config, trained again with fresh seeds.

The best of many trials is also the luckiest. The finals are a study of their own, `<study>.finals`,
whose points are all queued when it is opened: they are driven, resumed and checked as any study's.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from centernet.errors import UserError
from experiments import study
from experiments.budget import Budget
from experiments.label import Label
from experiments.next_steps import option
from experiments.objective import Search
from experiments.search_space import SearchSpace
from experiments.study.finals import (
    LABEL,
    OF,
    ORIGIN,
    SUFFIX,
    is_finals_of,
    keyed,
    labels,
    load_finals,
    queued,
    seed_number,
)
from experiments.study.suggest import SEED, default_point, seeded
from experiments.tracking import Tracker

FINALISTS, SEEDS = "finalists", "seeds"  # user attributes of the finals: who takes part, with what
DEFAULT = 0  # the study's trial of the default config


@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial of the study, and its trainings with fresh seeds."""

    trial: int
    searched: float | None  # its AP in the search; none where it was not completed
    finals: tuple[Any, ...]  # those completed, the lowest AP first
    missing: int  # those that failed or were not run yet
    names: Mapping[int, Label] = field(default_factory=dict)  # of the finals, by their number

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
    def stands(self) -> Label:
        """What that training is called."""
        return self.names[self.median.number]

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
        identity={OF: parent.user_attrs[study.ID]},
        points=[],
        threads=None,
    )
    finals.set_user_attr(study.PARENT, parent.study_name)
    chosen = {taking_part(finals, number, point): point for number, point in chosen.items()}
    finals.set_user_attr(FINALISTS, list(chosen))
    finals.set_user_attr(SEEDS, fresh)
    for (number, point), seed in itertools.product(chosen.items(), fresh):
        label = Label(number, seed_number(search.base.train.seed, seed))
        names = {ORIGIN: number, LABEL: str(label)}
        finals.enqueue_trial(point | {SEED: seed}, user_attrs=names, skip_if_exists=True)
    unlimited = own.model_copy(update={"keep_best": 10**6, "keep_gb": math.inf})
    tracker = Tracker.of(unlimited, finals)
    folder = search.folder.with_name(f"{tracker.study}-{tracker.study_id[:8]}")
    opened = replace(search, study=finals, space=space, tracker=tracker, folder=folder)
    return opened, Budget(trials=len(finals.get_trials(deepcopy=False)))


def check_name(parent: Any) -> None:
    """UserError where the finals' name is taken: better before a search than at its end."""
    name = parent.study_name + SUFFIX
    if study.exists(parent, name):
        finals = study.beside(parent, name)
        if study.IDENTITY in finals.user_attrs and not is_finals_of(finals, parent):
            raise UserError(
                f"study {name} is not of this study {parent.study_name}, but of an earlier one of "
                "its name: delete it too (optuna delete-study), or name another study"
                f" ({option('study', 'NAME')})"
            )


def taking_part(finals: Any, number: int, point: dict[str, Any]) -> int:
    """The trial under which a point takes part already; `number` where it does not."""
    for final in finals.get_trials(deepcopy=False):
        if without_seed(queued(final)) == point:
            return int(final.user_attrs[ORIGIN])
    return number


def without_seed(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the study's question, which the finals ask with other seeds."""
    return {path: value for path, value in point.items() if path != SEED}


def leaders(
    parent: Any, space: SearchSpace, search: Search, count: int
) -> dict[int, dict[str, Any]]:
    """Points of the best `count` trials by number, and of the default config."""
    complete = [t for t in study.finished(parent) if study.score(t) is not None]
    ranked = sorted(filter(study.feasible, complete), key=lambda t: (-t.values[0], t.number))
    points: dict[int, dict[str, Any]] = {}
    for trial in ranked[:count]:
        point = without_seed(trial.params)
        if point not in points.values():
            points[trial.number] = point
    default = without_seed(default_point(space, search.base))
    if default not in points.values():
        points[DEFAULT] = default
    return points


def fresh_seeds(base: int, trials: Sequence[Any], count: int) -> list[int]:
    """The first `count` seeds of the finals, none of which any trial was trained with."""
    used = {base, *(trial.params.get(SEED, base) for trial in trials)}
    every = (keyed(base, number) for number in itertools.count())
    return list(itertools.islice((seed for seed in every if seed not in used), count))


def load_standings(parent: Any) -> list[Finalist]:
    """The standings of a study's finals; empty where there were none."""
    finals = load_finals(parent)
    return [] if finals is None else standings(parent, finals)


def standings(parent: Any, finals: Any) -> list[Finalist]:
    """Those who took part last, the best first: complete with every seed, then by mean AP."""
    seeds, names = set(finals.user_attrs.get(SEEDS, ())), labels(finals)
    trials = [t for t in finals.get_trials(deepcopy=False) if t.params.get(SEED) in seeds]
    ranked: list[Finalist] = []
    for number in finals.user_attrs.get(FINALISTS, ()):  # killed in `open_finals`: not yet
        again = [t for t in trials if t.user_attrs.get(ORIGIN) == number and study.feasible(t)]
        complete = [t for t in again if study.score(t) is not None]
        ordered = tuple(sorted(complete, key=lambda t: (t.values[0], t.number)))
        searched = study.score(study.find_trial(parent, number))
        ranked.append(Finalist(number, searched, ordered, len(seeds) - len(ordered), names))
    return sorted(ranked, key=lambda one: (one.missing, -one.mean if one.finals else 0, one.trial))
