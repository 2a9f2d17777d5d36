"""What a study keeps for as long as it is."""

from pathlib import Path

import pytest

from centernet.errors import UserError
from experiments import study
from experiments.search_space import SearchSpace, read
from experiments.settings import Settings


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "space.yaml").write_text(
        "parameters: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}"
    )
    return read(tmp_path / "space.yaml")


def test_a_study_of_before_a_field_was_added_goes_on_with_its_default(
    settings: Settings, space: SearchSpace
) -> None:
    def reopen(identity: dict[str, object]) -> None:
        study.open_study(settings, "s", space, identity=identity, points=[], threads=1)

    reopen({"q": 1})
    reopen({"q": 1, "optim.weight_decay": 0.01})
    with pytest.raises(UserError, match=r"optim.weight_decay = 0.01, now it is 0.3"):
        reopen({"q": 1, "optim.weight_decay": 0.3})


def test_a_study_keeps_its_threads_with_any_number_of_workers(
    settings: Settings, space: SearchSpace
) -> None:

    def threads(asked: int | None, share: int) -> int:
        made = study.open_study(
            settings, "s", space, identity={"q": 1}, points=[], threads=asked, share=share
        )
        return int(made.user_attrs[study.THREADS])

    assert threads(None, 3) == 3
    assert threads(None, 1) == 3
    assert threads(3, 1) == 3
    with pytest.raises(UserError, match="was started with threads = 3, now it is 2"):
        threads(2, 1)
