"""What follows the trials of a search: the finals, the gate, and what to say about them."""

import argparse
from contextlib import closing

from rich.console import Console

from experiments import display, launch, outcome, study
from experiments.drive import drive
from experiments.finalists import Finalist, open_finals, standings
from experiments.label import Label
from experiments.next_steps import command, option
from experiments.objective import Search
from experiments.promote import Candidate, promote_first


def hold_finals(
    shared: Search, options: argparse.Namespace, *, workers: int, console: Console
) -> tuple[Search, list[Finalist]] | None:
    """Train the finalists with fresh seeds, or go on with it; none where they are skipped."""
    asked = shared.space.finals
    count = asked.finalists if options.finalists is None else options.finalists
    seeds = options.seeds or asked.seeds
    if study.best_trial(shared.study) is None:
        return None
    if count == 0:
        console.print(
            "\nFinals   skipped: the best trial may be a lucky one "
            f"({option('finalists', 3)} would tell)"
        )
        return None
    finals, budget = open_finals(shared, count, seeds)
    console.print(
        f"\nFinals   {outcome.finals_plan(finals.study)}", highlight=False, soft_wrap=True
    )
    known = filter(display.over, display.rows(finals.study))
    crew = launch.crew(finals, workers=workers, per_gpu=options.per_gpu, gpus=options.gpus)
    with (
        closing(drive(finals, budget, crew)) as events,
        display.Screen(console, budget=budget, known=known) as screen,
    ):
        screen.follow(events)
    return finals, standings(shared.study, finals.study)


def conclude(shared: Search, finals: tuple[Search, list[Finalist]] | None) -> str:
    """Register the winner, and say what was found."""
    own = shared.tracker.settings
    best = study.best_trial(shared.study)
    value = None if best is None else study.score(best)
    if best is None or value is None:
        kind = "completed within the constraints" if shared.space.limits else "completed"
        return f"No trial was {kind}: nothing to register. {command('status')} shows the reasons."
    by_ap = searched(shared)
    candidate = by_ap[0]
    headline = outcome.search_result(best, study.find_trial(shared.study, 0))
    params, lines = best.params, []
    if finals is not None:
        held, ranked = finals
        lines = outcome.finals_result(ranked)
        if ranked and ranked[0].finals:
            candidate = winner(held, ranked[0], lines)
            params = study.find_trial(shared.study, ranked[0].trial).params
            headline, *lines = lines
    others = [other for other in by_ap if other is not candidate]
    registered, missing = promote_first(own, [candidate, *others])
    found = [headline, *outcome.values(params), *lines, *missing, *fronts(shared)]
    chosen, verdict = registered or (candidate, None)
    return outcome.summary(shared.study.study_name, found, chosen.label, verdict, own.alias)


def searched(shared: Search) -> list[Candidate]:
    """The complete trials of the search, the best first, each with its run."""
    complete = [t for t in study.finished(shared.study) if study.score(t) is not None]
    ranked = sorted(filter(study.feasible, complete), key=lambda t: (-t.values[0], t.number))
    found = {number: run.info.run_id for number, run in shared.tracker.numbered().items()}
    runs = {t.number: t.user_attrs.get(study.RUN) or found.get(t.number, "") for t in ranked}
    return [Candidate(shared.tracker, runs[t.number], Label(t.number), t.values[0]) for t in ranked]


def winner(held: Search, first: Finalist, lines: list[str]) -> Candidate:
    """The finalist of the highest mean AP, by its training of median AP."""
    chosen = first.median
    notes = {"finals": "\n".join(lines)}
    run_id = chosen.user_attrs.get(study.RUN, "")
    return Candidate(held.tracker, run_id, first.stands, study.score(chosen) or 0.0, notes)


def fronts(shared: Search) -> list[str]:
    """The trials that nothing beats in every objective, where there are several."""
    names = shared.space.costs
    return [
        f"Front    trial {trial.number}: AP {trial.values[0]:.1f}, "
        + ", ".join(map("{} {:.2f}".format, names, trial.values[1:]))
        for trial in (shared.study.best_trials if names else [])
    ]
