"""The page of a study: what it says follows from the trials."""

import json
import re
import xml.etree.ElementTree as ET
from html import escape
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from experiments import charts, display
from experiments.ranges import position
from experiments.report import importances, report
from experiments.settings import Settings
from experiments.study import EPOCHS, SECONDS, SESSION, open_storage

SPACE = {
    "loss.size_weight": FloatDistribution(0.02, 2.0, log=True),
    "augment.flip_p": FloatDistribution(0.0, 1.0),
    "loss.size_loss": CategoricalDistribution(["l1", "giou"]),
}


def a_study(count: int) -> optuna.Study:
    """AP grows with the size weight, and with nothing else."""
    chance = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", study_name="a<b")
    for number in range(count):
        params = {
            "loss.size_weight": 2.0 if number == 3 else float(np.exp(chance.uniform(-3.9, 0.6))),
            "augment.flip_p": chance.uniform(),
            "loss.size_loss": str(chance.choice(["l1", "giou"])),
        }
        value = 40 + 5 * np.log(params["loss.size_weight"])
        pruned = number % 5 == 4
        curve = {1: value / 2} if pruned else {1: value / 2, 2: value * 0.9, 3: value}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                value=value / 2 if pruned else value,  # as Optuna has it
                params=params,
                distributions=SPACE,
                intermediate_values=curve,
                user_attrs={EPOCHS: 3, "reason": "below <the> others" if pruned else ""},
            )
        )
    return study


def test_the_page_names_the_best_and_counts_what_it_cost() -> None:
    study = a_study(20)
    study.set_user_attr(SECONDS, 7200.0)
    study.set_user_attr(SESSION, {"gpus": [0, 1]})
    links = {3: "http://127.0.0.1/#/3"}
    page = report(study, distributions=SPACE, links=links, picture=b"png", watts=500.0)
    html = page.html
    assert "<b>4.00</b><span>GPU-hours" in html and "<b>1.00</b><span>kWh of the GPUs" in html
    assert "Best: trial 3, val AP 43.5" in html
    assert "16 / 4 / 0" in html and ">52<" in html  # 16 complete with 3 epochs, 4 pruned with 1
    assert "epochs saved by pruning (13%)" in html and ">8<" in html
    assert '<a href="http://127.0.0.1/#/3">3</a>' in html
    assert "a&lt;b" in html and "a<b" not in html and "below <the>" not in html
    assert "hugs the upper end of its range; try high: 20" in html
    assert not re.search(r"(src|href)=\"(?!data:|http://127|#)", html)  # needs nothing else
    assert set(page.pictures) == {"history", "epochs", "importances", "slices", "parallel"}
    assert all(png.startswith(b"\x89PNG") for png in page.pictures.values())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_young_study_has_a_page_too(count: int) -> None:
    page = report(a_study(count), distributions=SPACE, links={}, picture=None, watts=None)
    assert "Best: trial" in page.html and "GPU" not in page.html


def test_importances_find_the_field_that_matters() -> None:
    found = importances(a_study(40).get_trials(), SPACE)
    assert found["loss.size_weight"][0] > 0.8
    assert all(low <= middle <= high for low, middle, high in found.values())
    assert max(found["augment.flip_p"][2], found["loss.size_loss"][2]) < 0.2


def test_positions_are_on_the_scale_that_is_searched() -> None:
    assert position(SPACE["loss.size_weight"], 0.2) == pytest.approx(0.5)
    assert position(SPACE["augment.flip_p"], 0.25) == 0.25
    assert position(SPACE["loss.size_loss"], "giou") == 1.0


CHOICES = {
    "nothing": [None, "imagenet"],
    "yes or no": [False, True],
    "all kinds": [None, "$a_b", True, 3, 0.25, "", "\N{SNOWMAN} " + "long" * 30],
    "whole and not": [1, 0.5],
    "text like numbers": ["1", "2"],
    "one that a study may still have": ["l1"],
    "many": list(range(100)),
}


def test_whatever_may_be_chosen_is_stored_drawn_and_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order: the first trial need not have the first choice."""
    monkeypatch.setattr("experiments.report.RESAMPLES", 1)
    fields = {kind: CategoricalDistribution(choices) for kind, choices in CHOICES.items()}
    study = optuna.create_study(
        direction="maximize", storage=open_storage(settings), study_name="kinds"
    )
    points = [
        {kind: choices[-1 - number % len(choices)] for kind, choices in CHOICES.items()}
        for number in range(7)
    ]
    for number, point in enumerate(points):
        study.add_trial(create_trial(params=point, distributions=fields, value=float(number)))
    loaded = optuna.load_study(study_name="kinds", storage=open_storage(settings))
    for trial, point in zip(loaded.get_trials(), points, strict=True):
        for kind, choice in point.items():
            kept = trial.params[kind]
            assert (type(kept), kept) == (type(choice), choice)
    page = report(loaded, distributions=fields, links={}, picture=None, watts=None)
    console = Console(record=True, width=1000)
    console.print(display.table([display.row(trial) for trial in loaded.get_trials()], best=None))
    screen = console.export_text()
    for choice in (choice for point in points for choice in point.values()):
        assert f"<td>{escape(told(choice))}</td>" in page.html and told(choice) in screen


def told(choice: Any) -> str:
    """As YAML has it."""
    return json.dumps(choice) if choice is None or isinstance(choice, bool) else str(choice)


def test_the_same_chart_is_the_same_svg() -> None:
    rows = [charts.Row(0, "COMPLETE", 3.0, {1: 1.0, 2: 3.0}, {})]
    first, second = (charts.curves(rows, best=0)[0] for _ in range(2))
    assert first == second
    ET.fromstring(first)  # noqa: S314  # our own text
