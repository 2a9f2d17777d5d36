"""Which finals a study has, and what their trials are called."""

from typing import Any

from centernet.errors import UserError
from centernet.seed import key
from experiments import study
from experiments.label import Label, parse
from experiments.study import ID, IDENTITY, PARENT, RUN, Study, Trial
from experiments.study.suggest import SEED

SUFFIX = ".finals"  # of the name of the study that holds another one's finals
ORIGIN = "origin"  # user attribute of a final: the trial of the study that it trains again
LABEL = "label"  # user attribute of a final: 7.2, where it was queued by a version that kept it
OF = "study"  # in the identity of finals: the id of the study that they are of
MOST = 1000  # fresh seeds that are looked through


def keyed(base: int, number: int) -> int:
    """The seeds of finals in their order: `number` counts from 0."""
    return key(base, "finals", number)


def seed_number(base: int, seed: int) -> int:
    """Which of the fresh seeds it is, from 1; one that is none of them is called by itself."""
    return next((n + 1 for n in range(MOST) if keyed(base, n) == seed), seed)


def is_finals(holder: Study) -> bool:
    """Whether a study holds the finals of another one."""
    return PARENT in holder.user_attrs


def refuse(holder: Study, why: str) -> None:
    """UserError where a study holds the finals of another one, which should be named instead."""
    if is_finals(holder):
        of = holder.user_attrs[PARENT]
        raise UserError(f"{holder.study_name} are the finals of study {of}: name {of}; {why}")


def load_finals(parent: Study) -> Study | None:
    """The finals of a study, if it has any; not those of a deleted study of its name."""
    name = parent.study_name + SUFFIX
    if not study.exists(parent, name):
        return None
    finals = study.beside(parent, name)
    return finals if is_finals_of(finals, parent) else None


def is_finals_of(finals: Study, parent: Study) -> bool:
    """Whether they are of this study, by its id."""
    of = finals.user_attrs.get(IDENTITY, {}).get(OF)
    return of is not None and of == parent.user_attrs.get(ID)


def labels(holder: Study) -> dict[int, Label]:
    """What the trials of a study are called, by their number in Optuna."""
    trials = holder.get_trials(deepcopy=False)
    if not is_finals(holder):
        return {trial.number: Label(trial.number) for trial in trials}
    known = {trial.number: parse(str(trial.user_attrs.get(LABEL))) for trial in trials}
    base = None if all(known.values()) else base_seed(holder)  # queued by an earlier version
    return {trial.number: known[trial.number] or derived(trial, base) for trial in trials}


def derived(final: Trial, base: int | None) -> Label:
    """What a final is called that does not say it; base: the seed of the search."""
    seed = int(queued(final).get(SEED, final.number))
    origin = final.user_attrs.get(ORIGIN, final.number)
    return Label(origin, seed if base is None else seed_number(base, seed))


def queued(trial: Trial) -> dict[str, Any]:
    """The values with which a trial was queued."""
    return dict(trial.system_attrs.get("fixed_params", trial.params))


def base_seed(finals: Study) -> int | None:
    """The seed of the search whose finals these are; none if that study was deleted."""
    name = finals.user_attrs[PARENT]
    if not study.exists(finals, name):
        return None
    parent = study.beside(finals, name)
    return seed_of(parent) if is_finals_of(finals, parent) else None


def seed_of(parent: Study) -> int:
    """The seed of the config that the trials of a study start from."""
    known = parent.user_attrs[IDENTITY]
    return int(known[SEED] if SEED in known else study.find_trial(parent, 0).params[SEED])


def find(parent: Study, wanted: Label) -> tuple[Study, Trial]:
    """The trial that `status` shows under a label, and the study, or its finals, that holds it.

    UserError if there is none such, or for the study of the finals itself: it has no numbers.
    """
    refuse(parent, "its trials are called 7.2: trial 7, seed 2")
    if not wanted.seed:
        return parent, study.find_trial(parent, wanted.trial)
    finals = load_finals(parent)
    known = {} if finals is None else labels(finals)
    number = next((number for number, label in known.items() if label == wanted), None)
    if finals is not None and number is not None:
        return finals, study.find_trial(finals, number)
    there = ", ".join(map(str, sorted(known.values()))) or "none"
    raise UserError(f"study {parent.study_name} has no final {wanted}; its finals are {there}")


def run_of(parent: Study, wanted: Label, trial: Trial) -> str:
    """The id of a trial's run; UserError if it has none."""
    if RUN not in trial.user_attrs:
        state = trial.state.name
        raise UserError(
            f"{wanted.words} of study {parent.study_name} has no run in MLflow: it is {state}"
        )
    return str(trial.user_attrs[RUN])
