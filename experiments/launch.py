"""Who runs the trials: LAUNCHERS by name."""

from collections.abc import Callable, Iterator

from experiments.objective import Progress, Search, objective
from experiments.study import ask, finished, put_back


def inline(search: Search, *, trials: int) -> Iterator[Progress]:
    """One trial after the other in this process, until the study has `trials` finished ones.

    The caller holds the study's lock, so a trial that is RUNNING now was interrupted: it goes
    first, from its checkpoint.
    """
    put_back(search.study)
    try:
        while len(finished(search.study)) < trials:
            trial = ask(search.study, search.space, seed=search.base.train.seed)
            yield from objective(trial, search)
    finally:
        put_back(search.study)


LAUNCHERS: dict[str, Callable[..., Iterator[Progress]]] = {"inline": inline}
