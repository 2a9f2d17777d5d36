"""Which run `7`, or in the finals `7.2`, means where only MLflow is there to ask.

A study is known by its id: several may have had its name, and the runs of its finals lie beside
its own. Those of earlier versions have the tags of a trial, and say neither whose nor which
training they are: that is derived from their config.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from centernet.errors import UserError, did_you_mean
from centernet.state import FREE
from experiments.label import Label, parse
from experiments.next_steps import first_search
from experiments.study.finals import seed_number
from experiments.study.suggest import SEED
from experiments.tracking.run import BEST_AP, PARENT, STATE
from experiments.tracking.tracker import NUMBER, STUDY, STUDY_ID, TRIAL

MANY = 50_000
FINAL = "final "  # began the name of a final's run in earlier versions
# parameters that may differ between a trial and its final
MAY_DIFFER = {*FREE, SEED, "optim.accumulate", "train.threads"}


@dataclass(frozen=True, slots=True)
class Logged:
    """A study as MLflow has it."""

    name: str
    experiment: str
    parent: str  # its own run, above those of its trials and of its finals
    study_id: str


class Lookup:
    """The runs of all studies, by what people call them."""

    def __init__(self, client: MlflowClient) -> None:
        """Nothing is read yet."""
        self.client = client

    def last_study(self) -> str:
        """The name of the study of which something began last; UserError if there is none."""
        places = [place.experiment_id for place in self.client.search_experiments()]
        for run in self._runs(places, f"tags.{STUDY_ID} LIKE '%'", most=1):
            return str(run.data.tags[STUDY])
        raise UserError(f"there is no study yet: {first_search()}")

    def logged(self, name: str) -> Logged:
        """A study by its name; of several that had it, the last. UserError if there is none."""
        place = self.client.get_experiment_by_name(name)
        if place is None:
            known = [one.name for one in self.client.search_experiments()]
            raise UserError(f"no study is named {name} in MLflow{did_you_mean(name, known)}")
        places = [place.experiment_id]
        for run in self._runs(places, "tags.role = 'study'", most=1, view=ViewType.ALL):
            return Logged(name, places[0], run.info.run_id, run.data.tags[STUDY_ID])
        for run in self._runs(places, "tags.role = 'trial'"):  # its own run is gone for good
            if not str(run.info.run_name).startswith(FINAL):
                tags = run.data.tags
                return Logged(name, places[0], tags.get(PARENT, ""), tags[STUDY_ID])
        raise UserError(f"study {name} has no run in MLflow")

    def run(self, label: Label, name: str) -> MlflowRun:
        """The run of a study's trial or final; UserError if there is none such."""
        found = self.logged(name)
        if not label.seed:
            for run in self.trials(found, f" and tags.{TRIAL} = '{label}'"):
                return run
            numbers = [int(run.data.tags[TRIAL]) for run in self.trials(found)]
            have = f"its trials are 0 to {max(numbers)}" if numbers else "it has no trial"
            raise UserError(f"study {name} has no trial {label}; {have}")
        finals = self.finals(found)
        if label in finals:
            return finals[label]
        there = ", ".join(map(str, sorted(finals))) or "none"
        raise UserError(f"study {name} has no final {label}; its finals are {there}")

    def trials(self, found: Logged, condition: str = "") -> list[MlflowRun]:
        """The runs of a study's trials, without those of its finals; the newest first."""
        of = f"tags.role = 'trial' and tags.{STUDY_ID} = '{found.study_id}'"
        runs = self._runs([found.experiment], of + condition)
        return [run for run in runs if parse(run.data.tags.get(TRIAL, ""))]  # tags can be edited

    def finals(self, found: Logged) -> dict[Label, MlflowRun]:
        """The runs of a study's finals."""
        below = f"tags.{PARENT} = '{found.parent}' and tags.{STUDY_ID} != '{found.study_id}'"
        runs = self._runs([found.experiment], below)
        trials = self.trials(found) if any(NUMBER not in run.data.tags for run in runs) else []
        named = [(label_of_final(run, trials), run) for run in reversed(runs)]
        return {label: run for label, run in named if label is not None}

    def label(self, run: MlflowRun) -> Label | None:
        """What the training of a run is called; none for a final whose trial is no longer there."""
        tags = run.data.tags
        study_id = self._of(run)
        if NUMBER in tags or study_id == tags.get(STUDY_ID):
            return parse(tags.get(TRIAL, ""))
        logged = Logged(tags.get(STUDY, ""), run.info.experiment_id, tags.get(PARENT, ""), study_id)
        return label_of_final(run, self.trials(logged))

    def _of(self, run: MlflowRun) -> str:
        """The id of the study that a run's trial, or final, belongs to."""
        own, parent = str(run.data.tags.get(STUDY_ID, "")), run.data.tags.get(PARENT)
        try:
            return str(self.client.get_run(parent).data.tags.get(STUDY_ID, own)) if parent else own
        except MlflowException:  # deleted for good
            if not str(run.info.run_name).startswith(FINAL):
                return own
        beside = f"tags.{PARENT} = '{parent}' and tags.{STUDY_ID} != '{own}'"
        others = self._runs([run.info.experiment_id], beside, most=1)
        return str(others[0].data.tags.get(STUDY_ID, "")) if others else ""

    def _runs(
        self, places: list[str], wanted: str, most: int = MANY, view: int = ViewType.ACTIVE_ONLY
    ) -> list[MlflowRun]:
        newest = ["attributes.start_time DESC"]
        return list(self.client.search_runs(places, wanted, view, most, newest) if places else [])


def label_of_final(final: MlflowRun, trials: Iterable[MlflowRun]) -> Label | None:
    """What a final's run says it is called; else what follows from its config.

    The trial is the best of those with the same parameters, as when the finalists were chosen.
    """
    tags, params = final.data.tags, final.data.params
    if NUMBER in tags:
        return parse(tags.get(TRIAL, ""))
    numbered = sorted(trials, key=lambda run: int(run.data.tags[TRIAL]))
    seeds = [run.data.params[SEED] for run in numbered if SEED in run.data.params]
    same = [run for run in numbered if alike(run.data.params, params)]
    if not same or not seeds or SEED not in params:
        return None
    origin = min(same, key=lambda run: (not_complete(run), -run.data.metrics.get(BEST_AP, 0.0)))
    number = seed_number(int(seeds[0]), int(params[SEED]))
    return Label(int(origin.data.tags[TRIAL]), number)


def alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two trainings differ in nothing but the seed, or in what changes no result."""
    shared = (one.keys() & other.keys()) - MAY_DIFFER
    return bool(shared) and all(one[name] == other[name] for name in shared)


def not_complete(run: MlflowRun) -> bool:
    """Whether a trial did not come to its end."""
    return bool(run.data.tags.get(STATE) != "COMPLETE")
