from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import untrained
from hypothesis import given
from hypothesis import strategies as st
from journey import run, tracker_of

from centernet.config import Config
from centernet.errors import UserError
from centernet.structures import Epoch
from experiments import study
from experiments.retention import Stored, excess
from experiments.settings import Settings

trials = st.lists(
    st.tuples(st.floats(0, 100) | st.none(), st.integers(1, 1000), st.booleans()),
    max_size=12,
).map(
    lambda rows: [Stored(n, value, str(n), size, pin) for n, (value, size, pin) in enumerate(rows)]
)


@given(trials, st.integers(1, 5), st.floats(1, 3000))
def test_the_best_stay_within_the_bytes_and_what_is_pinned_stays(
    stored: list[Stored], keep_best: int, keep_bytes: float
) -> None:
    gone = excess(stored, keep_best=keep_best, keep_bytes=keep_bytes)
    stay = [one for one in stored if one not in gone]
    free = [one for one in stay if not one.pinned]
    assert not any(one.pinned for one in gone)
    assert len(free) <= keep_best
    assert sum(one.bytes for one in stay) <= keep_bytes or len(free) <= 1
    best = max(stored, key=lambda one: (one.value or -1.0, -one.number), default=None)
    assert best is None or best in stay
    again = excess(stay, keep_best=keep_best, keep_bytes=keep_bytes)
    assert not again  # done once is done


def test_the_worst_go_first() -> None:
    stored = [Stored(n, float(n), str(n), 1, pinned=False) for n in range(6)]
    gone = excess(stored, keep_best=2, keep_bytes=1e9)
    assert [one.number for one in gone] == [0, 1, 2, 3]


def test_a_search_keeps_the_weights_of_its_best_trials_alone(
    place: Path, own: Settings, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([3.0, 1.0, 4.0, 6.0, 5.0, 9.0, 2.0, 7.0])

    def at_once(_: Config, folder: Path) -> Iterator[Epoch]:
        untrained(data, folder)
        yield Epoch(1, {"total": 1.0}, {"AP": next(values)}, 1e-3, 1.0, 0.1, 9.0, "0" * 32, True)

    monkeypatch.setattr("experiments.objective.train", at_once)
    run(place, "search", "--space", "space.yaml", "--study", "kept", "--trials", "8")
    ours, tracker = study.load_study(own, "kept"), tracker_of(own, "kept")
    assert own.keep_best == 5
    for trial in ours.get_trials():
        wanted = trial.values[0] in (4.0, 5.0, 6.0, 7.0, 9.0)
        try:
            tracker.weights(trial.user_attrs["run_id"])
        except UserError:
            assert not wanted
        else:
            assert wanted, trial.values
