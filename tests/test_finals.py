"""The finals: who is trained again, with what, who wins; and that they go on where they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journey import SPACE, run
from optuna.trial import FrozenTrial, create_trial

from centernet.config import Config
from centernet.seed import key
from centernet.structures import Epoch
from centernet.train import train
from experiments import study
from experiments.finalists import Finalist, fresh_seeds, load_standings
from experiments.label import Label
from experiments.outcome import finals_result
from experiments.registry import Registry
from experiments.settings import Settings
from experiments.study.finals import labels
from experiments.tracking import Tracker, connect


def final(value: float) -> FrozenTrial:
    return create_trial(value=value)


@given(st.lists(st.floats(1, 90), min_size=1, max_size=6))
def test_a_finalist_is_its_mean_and_stands_by_its_median(values: list[float]) -> None:
    one = Finalist(3, 50.0, tuple(final(value) for value in sorted(values)), 0)
    assert min(values) <= one.mean + 1e-9 and one.mean <= max(values) + 1e-9
    median = study.score(one.median)
    assert median is not None
    assert sum(v <= median for v in values) >= len(values) / 2
    assert one.optimism == pytest.approx(50 - one.mean)


def test_the_winner_of_the_finals_is_told_first_and_the_lucky_trial_below_it() -> None:
    winner = Finalist(1, 45.0, (final(42.0),), 0, {-1: Label(1, 1)})
    lucky = Finalist(3, 50.0, (final(40.0),), 0, {-1: Label(3, 1)})
    default = Finalist(0, 41.0, (final(39.0),), 0, {-1: Label(0, 1)})
    none = Finalist(5, 48.0, (), 1)
    lines = finals_result([winner, lucky, default, none])
    assert lines[0] == (
        "Winner   trial 1: mean AP 42.0 with a fresh seed; the default config (trial 0): 39.0 (+3.0)"
    )
    assert [line.split()[0] for line in lines[1:]] == ["Finals"] * 4 + ["Chosen", "Luck"]
    assert "Finals   trial 5: none was completed" in lines
    assert lines[-2] == "Chosen   trial 1, seed 1 (TRIAL=1.1): its training of median AP"
    assert lines[-1] == (
        "Luck     trial 3 was best in the search with AP 50.0; "
        "with fresh seeds its mean AP is 40.0 (-10.0)"
    )


def test_fresh_seeds_are_none_that_a_trial_had() -> None:
    first = key(0, "finals", 0)
    trials = [create_trial(value=1.0), create_trial(value=1.0)]
    seeds = fresh_seeds(0, trials, 3)
    assert len(set(seeds)) == 3 and seeds[0] == first and 0 not in seeds
    assert fresh_seeds(0, trials, 5)[:3] == seeds
    trials[0]._params = {"train.seed": first}
    assert first not in fresh_seeds(0, trials, 3)


def test_the_best_and_the_default_are_trained_again_and_the_winner_is_registered(
    place: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SPACE.replace("finalists: 0", "finalists: 1, seeds: 2").replace(
        "trials: 4", "trials: 2"
    )
    (place / "finals.yaml").write_text(space)
    words = ("search", "--space", "finals.yaml", "--study", "f", "--set", "train.epochs=2")

    def interrupted(config: Config, folder: Path) -> Iterator[Epoch]:
        for epoch in train(config, folder):
            yield epoch
            if config.train.seed:  # a final
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("experiments.objective.train", interrupted)
        out = run(place, *words, status=130)
    assert "Finals   trial" in out and "Winner  " not in out
    out = run(place, *words)
    parent, finals = study.load_study(own, "f"), study.load_study(own, "f.finals")
    standings = load_standings(parent)
    best = study.best_trial(parent)
    assert best is not None and {one.trial for one in standings} == {0, best.number}
    trials = finals.get_trials()
    assert len(trials) == 2 * len(standings) and not any(one.missing for one in standings)
    seeds = [trial.params["train.seed"] for trial in trials]
    assert len(set(seeds)) == 2 and 0 not in seeds
    assert standings[0].mean == max(one.mean for one in standings)
    tracker = Tracker.of(own, finals)
    runs = tracker.trials()
    assert tracker.study == "f" and len(runs) == len(trials)
    parents = {found.data.tags["mlflow.parentRunId"] for found in runs}
    assert [connect(own).get_run(one).info.run_name for one in parents] == ["study f"]
    assert "all as it should be" in run(place, "status", "f.finals", "--check")
    assert study.load_study(own, None).study_name == "f"  # the finals are never the last study
    first = standings[0]
    assert out.count(f"\nWinner   trial {first.trial}") == 1 and "\nBest  " not in out
    assert out.index("Winner  ") < out.index("Finals   trial", out.index("Winner  "))
    assert "Luck     trial" in out and f" reproduce {first.stands} " in out
    version = Registry(own, "centernet-tiny").find(standings[0].median.user_attrs[study.RUN])
    assert version is not None and version.tags["trial"] == str(first.stands)
    assert "mean AP" in version.tags["finals"]
    assert f"study f, {first.stands.words}, val AP" in run(place, "models")
    page = (place / "runs" / "reports" / "f" / "report.html").read_text()
    assert f"Winner of the finals: trial {first.trial}" in page
    check_names(place, own)
    again = run(place, *words)
    assert "trial 0: epoch" not in again and "as decided" not in again


def check_names(place: Path, own: Settings) -> None:
    """Every command calls a trial and a final what `status` calls them."""
    parent, finals = study.load_study(own, "f"), study.load_study(own, "f.finals")
    names = [*labels(parent).values(), *labels(finals).values()]
    shown = [line.split()[0].rstrip("*") for line in run(place, "status", "f").splitlines()]
    assert [word for word in shown if word[0].isdecimal()] == [str(name) for name in names]
    for name in names:
        out = run(place, "reproduce", name, "--study", "f", "--check-only")
        assert out.startswith(f"{name.words.capitalize()} of study f: COMPLETE")
    word = run(place, "register", names[-1], "--study", "f")
    assert f"study f, {names[-1].words}, val AP" in word
    for words in (("report",), ("reproduce", 1, "--study"), ("register", 1, "--study")):
        error = run(place, *words, "f.finals", status=2)
        assert "f.finals are the finals of study f: name f; " in error and error.count("\n") == 1
    assert "Study f.finals: weights of " in run(place, "gc", "f.finals", "--dry-run")


def test_no_finals_are_skipped_visibly(place: Path) -> None:
    assert "Finals   skipped" in (place / "out.txt").read_text()
