"""Do Optuna and MLflow tell the same story? Every trial one run, every metric once."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from centernet.lock import holder
from experiments import study
from experiments.study import Trial
from experiments.tracking import Tracker
from experiments.tracking.run import STATUS, metric_name

SYSTEM = "system/"  # metrics that count seconds, not epochs
ONCE = ("best/", "cost/")  # of the trial as a whole


@dataclass(frozen=True, slots=True)
class Audit:
    """What was compared, and one line for everything that does not fit."""

    trials: int
    points: int  # (metric, epoch) pairs
    problems: list[str]


def audit(ours: Any, tracker: Tracker, locks: Any) -> Audit:
    """Compare a study's trials with their runs; `locks` gives a trial's lock file."""
    runs: dict[int, list[Any]] = {}
    problems, points = [], 0
    for run in tracker.trials():
        number = tracker.number(run)
        if number is None:
            problems.append(f"run {run.info.run_id} does not say which trial it is of")
        else:
            runs.setdefault(number, []).append(run)
    trials = ours.get_trials(deepcopy=False)
    for number in runs.keys() - {trial.number for trial in trials}:
        problems.append(f"a run of trial {number}, which the study does not have")
    names = {trial.number: tracker.label(trial.number).words for trial in trials}
    for trial in trials:
        own = runs.get(trial.number, [])
        if trial.state.name == "WAITING" and not own:
            continue  # queued, not begun
        name = names[trial.number]
        problems += [f"{name}: {text}" for text in process(trial, locks)]
        if len(own) != 1:
            problems.append(f"{name}: {len(own)} runs, expected 1")
            continue
        count, found = compare(trial, own[0], tracker)
        points += count
        problems += [f"{name}: {text}" for text in found]
    return Audit(len(trials), points, problems)


def process(trial: Trial, locks: Any) -> list[str]:
    """Whether what is RUNNING has a process."""
    if trial.state.name == "RUNNING" and holder(locks(trial.number)) is None:
        return ["RUNNING without a live process (the next search continues it)"]
    return []


def compare(trial: Trial, run: Any, tracker: Tracker) -> tuple[int, list[str]]:
    """State, values and metric points of a trial and its run: how many points, what is wrong."""
    problems = []
    if run.info.status != STATUS[trial.state.name]:
        problems.append(f"{trial.state.name} in Optuna, {run.info.status} in MLflow")
    if trial.user_attrs.get(study.RUN, run.info.run_id) != run.info.run_id:
        problems.append("Optuna names another run")
    for path, value in trial.params.items():
        same = {str(value), str(float(value))} if type(value) is int else {str(value)}
        if run.data.params.get(path, str(value)) not in same:  # a choice 1 of a float field: 1.0
            problems.append(f"{path} is {value} in Optuna, {run.data.params[path]} in MLflow")
    points = 0
    for name in run.data.metrics:
        if name.startswith(SYSTEM) or name.startswith(ONCE):
            continue
        history = tracker.history(run.info.run_id, name)
        points += len(history)
        problems += [f"{name}: {text}" for text in gaps([step for step, _ in history], name)]
        if name == metric_name(f"val/{study.VALUE}"):
            problems += values(trial, dict(history))
    return points, problems


def gaps(steps: list[int], name: str) -> list[str]:
    """Epochs that are there twice, or not at all."""
    twice = [step for step, count in Counter(steps).items() if count > 1]
    problems = [f"{len(twice)} epochs are there twice"] if twice else []
    missing = set(range(1, max(steps) + 1)) - set(steps)
    if missing and not name.startswith("val/"):  # val may be evaluated less often
        problems.append(f"{len(missing)} epochs are missing")
    return problems


def values(trial: Trial, history: dict[int, float]) -> list[str]:
    """Whether Optuna was told what MLflow shows; a running trial may be one epoch ahead."""
    ahead = 0 if trial.state.is_finished() else 1
    differ = [e for e, v in trial.intermediate_values.items() if history.get(e, v) != v]
    problems = [f"AP of epochs {differ} differs between Optuna and MLflow"] if differ else []
    if abs(len(history) - len(trial.intermediate_values)) > ahead:
        count = len(trial.intermediate_values)
        problems.append(f"Optuna has {count} epochs, MLflow {len(history)}")
    best = max(history.values(), default=None)
    value = study.score(trial)
    if value is not None and value != best:
        problems.append(f"its value is {value}, its best AP {best}")
    return problems
