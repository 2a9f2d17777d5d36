"""The gate's policy and statistics: laws first."""

import numpy as np
import pytest
from test_bootstrap import a_split, detected

from centernet.bootstrap import match
from experiments.costs import COSTS
from experiments.gate import Comparison, Estimate, bounded, compare, decide, estimate, narrowed
from experiments.settings import Cost, Policy

SPLIT = a_split(30, seed=2)
GOOD = match(detected(SPLIT, 1, scores=50), SPLIT)
BAD = match(list(detected(SPLIT, 9, scores=3))[::-1], SPLIT)  # of other images
POLICY = Policy(resamples=300)


def between(low: float, high: float) -> Comparison:
    one = Estimate(40.0, 37.0, 43.0)
    return Comparison(one, one, Estimate((low + high) / 2, low, high), (0.0,))


def test_a_model_is_never_better_than_itself() -> None:
    found = compare(GOOD, GOOD, POLICY)
    assert found.difference == Estimate(0.0, 0.0, 0.0)
    own = found.challenger
    assert not decide(POLICY, own, comparison=found, costs={}, alias="champion").promote


def test_the_comparison_of_two_models_is_the_mirror_of_the_other_way_round() -> None:
    there, back = compare(GOOD, BAD, POLICY), compare(BAD, GOOD, POLICY)
    assert there.difference.value == -back.difference.value > 10
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.challenger == back.champion == estimate(GOOD, POLICY)
    assert there.difference.low < there.difference.value < there.difference.high
    np.testing.assert_allclose(there.drawn, [-one for one in back.drawn])


def test_the_same_images_give_the_same_bounds() -> None:
    assert compare(GOOD, BAD, POLICY) == compare(GOOD, BAD, POLICY)


@pytest.mark.parametrize(
    ("low", "margin", "promote", "words"),
    [
        (0.1, 0.0, True, "it is 95% sure to be better than the champion: test AP 40.0"),
        (0.0, 0.0, False, "it is not 95% sure to be better than the champion"),
        (-0.1, 0.0, False, "difference +1.4 [-0.1, +3.0]"),
        (0.4, 0.5, False, "not 95% sure to be better than the champion by more than 0.5"),
        (0.6, 0.5, True, "better than the champion by more than 0.5"),
    ],
)
def test_the_alias_moves_only_where_the_lower_bound_is_above_the_margin(
    low: float, margin: float, promote: bool, words: str
) -> None:
    found, policy = between(low, 3.0), Policy(margin=margin)
    decision = decide(policy, found.challenger, comparison=found, costs={}, alias="champion")
    assert decision.promote == promote and words in decision.why


def test_a_first_champion_needs_the_minimum_and_every_champion_keeps_to_the_limits() -> None:
    own = Estimate(5.0, 2.0, 8.0)
    policy = Policy(minimum_ap=1.0, limits={"latency_ms": 20.0})
    fast, slow = {"latency_ms": 19.0}, {"latency_ms": 31.5}
    assert decide(policy, own, comparison=None, costs=fast, alias="champion").promote
    too_slow = decide(policy, own, comparison=between(5, 9), costs=slow, alias="champion")
    assert not too_slow.promote and "latency_ms is 31.5, the gate's limit 20" in too_slow.why
    strict = decide(Policy(minimum_ap=3.0), own, comparison=None, costs={}, alias="champion")
    assert not strict.promote and "does not surely reach the minimum 3" in strict.why


def test_the_limits_are_the_costs_there_are() -> None:
    from typing import get_args

    assert set(get_args(Cost)) == set(COSTS)


def test_bounds_lie_further_out_for_fewer_images_and_hold_all_that_was_drawn_for_very_few() -> None:
    tails = [narrowed(0.05, images) for images in (5, 10, 50, 1000)]
    assert tails == sorted(tails) and tails[-1] == pytest.approx(0.05, abs=3e-4)
    drawn = np.random.default_rng(0).normal(2.0, 1.0, 4000) ** 2  # skewed
    few, many = (bounded(4.0, drawn, images=n, confidence=0.95) for n in (8, 800))
    assert few.low < many.low < 4.0 < many.high < few.high
    assert bounded(4.0, np.append(drawn, np.nan), images=800, confidence=0.95) == many
