"""A trial again, from the tracking store alone: restored, compared, and one verdict."""

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, tiny_values
from journey import SPACE, named, run, suspected, unchecked

from centernet.structures import Epoch
from centernet.train import train
from experiments import objective, provenance
from experiments.settings import Settings, load
from experiments.study.pruning import EpochReporter
from experiments.tracking import connect
from experiments.tracking.record import Archive


def test_a_run_is_found_by_number_id_and_model_version(own: Settings) -> None:
    archive = Archive(own)
    first = archive.find("0", "s")
    assert archive.find(first.info.run_id).info.run_id == first.info.run_id
    assert archive.find(f"runs:/{first.info.run_id}").info.run_id == first.info.run_id
    champion = connect(own).get_model_version_by_alias("centernet-tiny", "champion")
    for name in ("models:/centernet-tiny@champion", f"models:/centernet-tiny/{champion.version}"):
        assert archive.find(name).info.run_id == champion.run_id


@pytest.mark.parametrize(
    ("reference", "study", "message"),
    [
        ("99", "s", "study s has no trial 99; its trials are 0 to 3"),
        ("0", "ss", "no study is named ss in MLflow; did you mean s?"),
        ("0" * 31 + "f", None, "no such run or model version in MLflow"),
        ("models:/nobody@champion", None, "no such run or model version in MLflow"),
        ("models:/nobody", None, "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_what_is_not_there_is_one_line(
    place: Path, reference: str, study: str | None, message: str
) -> None:
    words = ("reproduce", reference, *(("--study", study) if study else ()))
    error = run(place, *words, status=2)
    assert message in error and error.count("\n") == 1


def test_a_run_records_every_file_and_every_attempt(own: Settings) -> None:
    archive = Archive(own)
    then = archive.read(archive.find("1", "s"))  # it was killed on its way
    assert then.manifest is not None and "images/train-0003.jpg" in then.manifest
    assert "centernet/losses.py" in then.identity["sources"] and not then.continued
    assert len(then.identity["packages"]) > 50
    assert archive.find("1", "s").data.tags["attempts"] == "2"
    assert "attempts" not in archive.find("0", "s").data.tags


def test_nothing_differs_where_nothing_was_changed(place: Path) -> None:
    out = run(place, "reproduce", 0, "--study", "s", "--check-only")
    assert "nothing differs now" in out and "expected: the same bits" in out


def test_a_reproduction_is_a_run_of_its_own_and_both_runs_say_so(
    place: Path, own: Settings
) -> None:
    out = run(place, "reproduce", 1, "--study", "s", "--epochs", 2)
    assert "IDENTICAL: the first 2 of 6 epochs" in out
    archive, client = Archive(own), connect(own)
    first = archive.find("1", "s")
    assert first.data.tags["reproduced"] == "IDENTICAL"
    again = client.get_run(first.data.tags["reproduced_by"])
    assert again.data.tags["reproduces"] == first.info.run_id
    assert again.data.tags["role"] == "reproduction" and again.info.status == "FINISHED"
    history = client.get_metric_history(again.info.run_id, "val/AP")
    assert [metric.step for metric in history] == [1, 2]
    error = run(place, "reproduce", again.info.run_id, status=2)
    assert f"it reproduces run {first.info.run_id}" in error


def test_one_other_image_is_named_and_the_training_diverges(place: Path, own_data: Path) -> None:
    picture = own_data / "images" / "train-0003.jpg"
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 1
    picture.write_bytes(content)
    out = run(place, "reproduce", 0, "--study", "s", "--data", own_data, "--epochs", 1, status=1)
    assert named(out) == suspected(out) == ["data images/train-0003.jpg: changed"]
    assert "DIVERGED: first at epoch 1: tensor model/backbone" in out
    (own_data / "train.json").write_text((own_data / "train.json").read_text() + "\n")
    check = ("reproduce", 0, "--study", "s", "--data", own_data, "--check-only")
    assert named(run(place, *check, status=1)) == ["data images/train-0003.jpg: changed"]


def test_one_other_package_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = provenance.packages()
    monkeypatch.setattr(provenance, "packages", lambda: then | {"numpy": "1.0"})
    check = ("reproduce", 0, "--study", "s", "--check-only")
    text = f"package numpy: {then['numpy']} -> 1.0"
    assert named(run(place, *check, status=1)) == [f"{text} (--restore-env restores it)"]
    assert named(run(place, *check, "--restore-env")) == [f"{text} (restored)"]
    assert "IDENTICAL" in run(place, *check[:-1], "--epochs", 1)  # what it says does not decide


def test_another_thread_count_is_named_and_has_a_tolerance(place: Path) -> None:
    words = ("reproduce", 0, "--study", "s", "--threads", 1)
    out = run(place, *words, "--check-only", status=1)
    assert named(out) == ["threads: 2 -> 1"] and "at every epoch AP by" in out


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, stores: Path) -> Path:
    """A folder for studies of one trial."""
    home = tmp_path_factory.mktemp("short")
    shutil.copytree(stores, home / "runs")
    (home / "mlflow.yaml").write_text((REPOSITORY / "mlflow.yaml").read_text())
    unchecked(home)
    return home


def small_study(home: Path, name: str, values: dict[str, object], status: int = 0) -> None:
    """A study of one trial in `home`."""
    lines = (f"{path}: {json.dumps(value)}\n" for path, value in values.items())
    (home / f"{name}.yaml").write_text("".join(lines))
    (home / f"{name}-space.yaml").write_text(SPACE.replace("base.yaml", f"{name}.yaml"))
    words = ("--space", f"{name}-space.yaml", "--study", name, "--trials", 1)
    run(home, "search", *words, status=status)


def test_a_training_whose_loss_diverged_fails_again_as_it_did(short: Path, data: Path) -> None:
    small_study(short, "wild", tiny_values(data) | {"optim.lr": 1e12, "optim.clip_norm": 1e12})
    out = run(short, "reproduce", 0, "--study", "wild")
    assert ": FAIL after " in out and "IDENTICAL" in out and "; it failed as then: epoch " in out


def test_a_pruned_training_is_compared_up_to_its_end(
    short: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = EpochReporter.should_end
    monkeypatch.setattr(EpochReporter, "should_end", lambda *words: heard(*words) or True)
    small_study(short, "cut", tiny_values(data))
    out = run(short, "reproduce", 0, "--study", "cut")
    assert ": PRUNED after 1 epochs" in out and "IDENTICAL: 1 epoch, every loss" in out


def test_a_trial_continued_on_another_processor_keeps_both_and_names_it(
    short: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: Any) -> Iterator[Epoch]:
        yield next(train(*words))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as fault:
        fault.setattr(objective, "train", full)
        small_study(short, "moved", tiny_values(data), status=2)
    with monkeypatch.context() as elsewhere:
        other = provenance.hardware() | {"cpu": "Another CPU"}
        elsewhere.setattr(provenance, "hardware", lambda: other)
        small_study(short, "moved", tiny_values(data))
    archive = Archive(load(short / "mlflow.yaml"))
    then = archive.read(archive.find("0", "moved"))
    assert then.identity["cpu"] == provenance.hardware()["cpu"]
    assert [later["cpu"] for later in then.continued] == ["Another CPU"]
    out = run(short, "reproduce", 0, "--study", "moved", "--epochs", 2)
    assert "with another hardware cpu: " in out and "IDENTICAL: the first 2 of 3" in out
