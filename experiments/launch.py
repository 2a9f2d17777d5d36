"""Who runs the trials: LAUNCHERS by name."""

from collections.abc import Callable, Generator

from experiments.objective import Progress, Search, objective
from experiments.study import ask, finished, put_back, states


def inline(search: Search, *, trials: int) -> Generator[Progress, None, None]:
    """One trial after the other in this process, until the study has `trials` finished ones.

    The caller holds the study's lock, so a trial that is RUNNING now was interrupted: it goes
    first, from its checkpoint.
    """
    put_back(search.study)
    search.tracker.reconcile(states(search.study))
    try:
        while len(finished(search.study)) < trials:
            trial = ask(search.study, search.space, seed=search.base.train.seed)
            yield from objective(trial, search)
    finally:
        put_back(search.study)
        search.tracker.reconcile(states(search.study))


LAUNCHERS: dict[str, Callable[..., Generator[Progress, None, None]]] = {"inline": inline}
