"""Times are those of the clock on the wall, wherever the wall is."""

import io
import time
from collections.abc import Iterator
from dataclasses import asdict

import optuna
import pytest
from rich.console import Console
from sqlalchemy import text

from experiments import display, report
from experiments.budget import Budget
from experiments.settings import Settings
from experiments.study.storage import Study, create_study, open_storage


@pytest.fixture(params=["Asia/Tokyo", "America/New_York"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.fixture
def study(settings: Settings) -> Study:
    return create_study("s", open_storage(settings), directions=["maximize"], outage_seconds=0)


def test_a_trial_begins_and_ends_now_as_optunas_own_storage_says(
    settings: Settings, study: Study
) -> None:
    before = time.time()
    study.tell(study.ask(), 1.0)
    (trial,) = study.get_trials()
    assert trial.datetime_start is not None and trial.datetime_complete is not None
    assert before <= trial.datetime_start.timestamp() <= trial.datetime_complete.timestamp()
    assert trial.datetime_complete.timestamp() <= time.time()
    plain = optuna.load_study(study_name=study.study_name, storage=settings.studies)
    assert [trial] == plain.get_trials()


def test_a_running_search_counts_what_it_ran_itself_and_nothing_of_before(study: Study) -> None:
    for end in (4, 4, 2):
        if len(study.trials) == 1:
            time.sleep(0.01)
            began = time.time()
        trial = study.ask()
        trial.set_user_attr("epochs", 4)
        study.report(trial.number, dict.fromkeys(range(1, end + 1), 1.0))
        if end == 4:
            study.tell(trial, 1.0)
    noted = {"began": began, "budget": asdict(Budget(trials=5)), "workers": 1, "gpus": []}
    time.sleep(0.3)
    screen = display.session(Console(file=io.StringIO()), study.get_trials(), noted)
    assert screen.before == {0}
    assert [row.trial for row in screen.now] == [1, 2]
    left = screen.left()  # 1.5 trials took so long; 2.5 are to come
    assert left is not None and left == pytest.approx((time.time() - began) * 2.5 / 1.5, rel=0.1)


def test_a_trial_lasts_as_long_as_it_does_over_the_change_of_the_clocks(study: Study) -> None:
    # in UTC: New York's clocks went back at 6:00 and forward at 7:00; of the hour that they show
    # twice, Optuna does not say which one it is
    spans = {
        "2026-11-01 04:00:00": "2026-11-01 08:00:00",
        "2026-03-08 06:00:00": "2026-03-08 09:00:00",
    }
    for _ in spans:
        study.tell(study.ask(), 1.0)
    with study.database.engine.begin() as connection:
        for number, (start, end) in enumerate(spans.items()):
            change = "UPDATE trials SET datetime_start=:a, datetime_complete=:b WHERE number=:n"
            connection.execute(
                text(change), {"a": f"{start}.000000", "b": f"{end}.000000", "n": number}
            )
    trials = Study("s", study.database, outage_seconds=0).get_trials()  # what is not known yet
    assert report.cost(study, trials, None)["hours of trials"] == "7.00"
