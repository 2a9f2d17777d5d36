"""A study begins with what earlier ones found."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from journey import SPACE

from centernet.errors import UserError
from centernet.presets import load
from experiments import study
from experiments.search_space import SearchSpace, read
from experiments.settings import Settings
from experiments.study.warm_start import first_points, inherited


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    text = SPACE.replace("config: base.yaml", "config: light\nwarm_start: before")
    (tmp_path / "space.yaml").write_text(text)
    return read(tmp_path / "space.yaml")


def earlier(
    settings: Settings, space: SearchSpace, values: list[tuple[float, dict[str, Any]]]
) -> optuna.Study:
    made = study.open_study(
        settings, "before", space, identity={"loss.size_weight": 0.5}, points=[], threads=1
    )
    for value, params in values:
        trial = optuna.trial.create_trial(
            params=params,
            distributions={path: space.parameters[path] for path in params},
            value=value,
        )
        made.add_trial(trial)
    return made


def test_the_best_three_come_after_the_known_points_the_best_first(
    settings: Settings, space: SearchSpace
) -> None:
    found = [(float(n), {"targets.sigma_divisor": 4.0 + n}) for n in (1, 5, 3, 2, 4)]
    earlier(settings, space, found)
    base = load("light")
    default, enqueued, *rest = first_points(space, base, settings)
    assert default["targets.sigma_divisor"] == base.targets.sigma_divisor
    assert enqueued["targets.sigma_divisor"] == 11.0
    assert [point["targets.sigma_divisor"] for point in rest] == [9.0, 8.0, 7.0]
    assert {point["loss.size_weight"] for point in rest} == {0.5}  # what it had there, fixed


def test_points_outside_of_the_new_space_are_left_out(
    settings: Settings, space: SearchSpace
) -> None:
    wide = read_wide(space)
    made = earlier(
        settings,
        wide,
        [(9.0, {"targets.sigma_divisor": 90.0}), (1.0, {"targets.sigma_divisor": 5.0})],
    )
    (point,) = inherited(made, space, load("light"))
    assert point["targets.sigma_divisor"] == 5.0


def read_wide(space: SearchSpace) -> SearchSpace:
    file = space.file.with_name("wide.yaml")
    file.write_text(space.file.read_text().replace("high: 40.0", "high: 99.0"))
    return read(file)


def test_a_study_with_nothing_to_give_is_refused(settings: Settings, space: SearchSpace) -> None:
    with pytest.raises(UserError, match="there is no study yet"):
        first_points(space, load("light"), settings)
    earlier(settings, space, [])
    with pytest.raises(UserError, match="before has no complete trial that lies in this space"):
        first_points(space, load("light"), settings)
