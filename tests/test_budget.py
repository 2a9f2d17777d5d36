from hypothesis import given
from hypothesis import strategies as st

from experiments.budget import NOISE, PATIENCE, Budget, changed, plateau, spent_out
from experiments.study import Spent

spenders = st.lists(
    st.builds(Spent, st.booleans(), st.integers(0, 30), st.floats(0, 100) | st.none()), max_size=20
)


@given(spenders, st.integers(1, 200), st.integers(1, 30))
def test_a_total_of_epochs_is_never_exceeded(
    there: list[Spent], epochs: int, next_epochs: int
) -> None:
    used = sum(trial.epochs for trial in there)
    may = spent_out(Budget(epochs=epochs), there, hours=0, next_epochs=next_epochs) is None
    assert may == (used + next_epochs <= epochs)


@given(spenders, st.integers(1, 20))
def test_running_trials_count(there: list[Spent], trials: int) -> None:
    may = spent_out(Budget(trials=trials), there, hours=0, next_epochs=1) is None
    assert may == (len(there) < trials)


def test_hours_and_the_first_limit_that_is_reached() -> None:
    budget = Budget(trials=9, hours=1.5)
    assert spent_out(budget, [], hours=1.4, next_epochs=1) is None
    assert spent_out(budget, [], hours=1.5, next_epochs=1) == "1.5 hours"
    assert str(budget) == "9 trials, 1.5 hours"


def test_a_plateau_is_ten_trials_that_bring_less_than_the_noise() -> None:
    assert not plateau([50.0] * PATIENCE)  # nothing before them to compare with
    assert plateau([50.0] + [50.0 + NOISE / 2] * PATIENCE)
    assert not plateau([50.0] + [49.0] * (PATIENCE - 1) + [50.0 + 2 * NOISE])
    assert plateau([50.0] + [None] * PATIENCE)  # pruned and failed trials bring nothing


def test_limits_that_are_given_replace_those_of_the_space() -> None:
    space = Budget(trials=20)
    assert changed(space, trials=None, epochs=None) == space
    assert changed(space, hours=2.0) == Budget(hours=2.0)
    assert changed(space, until_plateau=True) == Budget(trials=20, until_plateau=True)
