"""More than AP: costs as objectives and as constraints."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journey import run

from experiments import study
from experiments.charts import pareto
from experiments.settings import Settings

SPACE = """
config: base.yaml
objectives: [AP, parameters_m]
constraints: {parameters_m: 1.35}
parameters:
  model.channels: {type: int, low: 16, high: 48, step: 16}
  train.epochs: 1
sampler: grid
pruner: none
budget: {trials: 3}
finals: {finalists: 0}
"""


def test_a_front_is_reported_and_only_what_keeps_to_the_limits_is_registered(
    place: Path, own: Settings
) -> None:
    (place / "front.yaml").write_text(SPACE)
    out = run(place, "search", "--space", "front.yaml", "--study", "front")
    trials = study.load_study(own, "front").get_trials()
    millions = {t.params["model.channels"]: t.values[1] for t in trials}
    assert sorted(millions) == [16, 32, 48]  # the grid, once
    assert millions[16] < millions[32] < millions[48]
    over = [t.number for t in trials if t.values[1] > 1.35]
    assert over and [t.number for t in trials if not study.feasible(t)] == over
    best = study.best_trial(study.load_study(own, "front"))
    assert best is not None and best.number not in over
    assert f"Best     trial {best.number}:" in out and "Front    trial " in out
    assert "all as it should be" in run(place, "status", "front", "--check")
    page = (place / "runs" / "reports" / "front" / "report.html").read_text()
    assert "AP against parameters_m" in page


EARLY = """
config: still.yaml
parameters:
  loss.size_weight: {type: float, low: 0.02, high: 2.0, log: true}
  train.patience: 1
budget: {trials: 1}
finals: {finalists: 0}
"""


def test_a_trial_that_runs_out_of_patience_is_complete_and_reproduced(
    place: Path, own: Settings
) -> None:
    base = (place / "base.yaml").read_text().replace("optim.lr: 0.01", "optim.lr: 1.0e-12")
    (place / "still.yaml").write_text(base)
    (place / "early.yaml").write_text(EARLY)
    run(place, "search", "--space", "early.yaml", "--study", "early")
    (trial,) = study.load_study(own, "early").get_trials()
    assert trial.state.name == "COMPLETE" and trial.values is not None
    epochs = trial.last_step or 0
    assert 1 < epochs < 6  # it does not learn; only its batch norms change the AP a little
    assert study.spent(study.load_study(own, "early"))[0].epochs == epochs
    assert "all as it should be" in run(place, "status", "early", "--check")
    assert f"IDENTICAL: {epochs} epochs" in run(place, "reproduce", "0", "--study", "early")


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(points)
def test_the_front_is_what_no_other_point_beats(found: list[tuple[int, int]]) -> None:
    slow = {
        (cost, value)
        for cost, value in found
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in found)
    }
    assert set(pareto(found)) == slow


@pytest.mark.parametrize("values", [[], [(1.0, 2.0)]])
def test_a_front_of_next_to_nothing(values: list[tuple[float, float]]) -> None:
    assert pareto(values) == values
