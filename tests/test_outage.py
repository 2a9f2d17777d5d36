"""A database server that goes away under load and comes back: nothing is lost, nothing twice."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, tiny_values
from journey import SPACE, command, run, tracker_of, unchecked
from postgres import Postgres

from centernet.config import resolve
from centernet.dataset.coco import read_training
from experiments import study
from experiments.settings import load
from experiments.tracking import Tracker
from experiments.tracking.run import Run


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("pg"))
    yield server
    server.close()


def test_a_search_waits_for_its_database_server_and_goes_on(
    data: Path, tmp_path: Path, postgres: Postgres
) -> None:
    text = postgres.settings((REPOSITORY / "mlflow.yaml").read_text())
    (tmp_path / "mlflow.yaml").write_text(text)
    base = tiny_values(data) | {"train.epochs": 5}
    (tmp_path / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (tmp_path / "space.yaml").write_text(SPACE)
    unchecked(tmp_path)
    words = command("search", "--space", "space.yaml", "--study", "p", "--trials", 2)
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as search:
        assert search.stdout is not None
        rows = iter(search.stdout.readline, "")
        assert any("trial 0: epoch 2/" in row for row in rows)
        postgres.stop()
        time.sleep(3)
        assert search.poll() is None
        postgres.start()
        rest = search.stdout.read()
    assert search.returncode == 0, rest
    assert "2 trials" in (out := run(tmp_path, "status", "p", "--check"))
    assert "all as it should be" in out
    own = load(tmp_path / "mlflow.yaml")
    assert study.load_study(own, "p").get_trials()[0].last_step == 5
    tracker = tracker_of(own, "p")
    first = tracker.find(0)
    assert first is not None
    history = tracker.client.get_metric_history(first.info.run_id, "loss/total")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5]


def test_system_metrics_go_on_after_the_store_was_away(
    data: Path, home: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.stores.retry.LONGEST_WAIT", 0.5)
    text = postgres.settings((home / "mlflow.yaml").read_text()).replace(
        "seconds: 10", "seconds: 0.1"
    )
    (home / "mlflow.yaml").write_text(text)
    tracker = Tracker(load(home / "mlflow.yaml"), "s", "id")
    config = resolve(tiny_values(data))
    splits = read_training(data)

    def steps(run: Run) -> list[int]:
        return [step for step, _ in tracker.history(run.id, "system/cpu_utilization_percentage")]

    def until(count: int, run: Run) -> None:
        while len(steps(run)) < count:
            time.sleep(0.1)

    with tracker.open(tags={}, texts={}) as parent:
        with tracker.trial(
            0, config, parent=parent, data="tiny", splits=splits, begun=False
        ) as run:
            until(2, run)
            before = run.samples
            postgres.stop()
            time.sleep(1)
            kept = run.samples  # meanwhile
            postgres.start()
            until(kept + 3, run)
            run.finish("COMPLETE", costs={})
        found = steps(run)
        assert before < kept and found == list(range(len(found)))
