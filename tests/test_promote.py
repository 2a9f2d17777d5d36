"""From trials to the champion, and back again, on a real registry."""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from journey import run, tracker_of

from centernet import checkpoint
from centernet.errors import UserError
from experiments import exam, promote, study
from experiments.checks import CHECKS, Examined, first_failure
from experiments.label import Label
from experiments.outcome import judged
from experiments.promote import Candidate
from experiments.registry import Registry, requirements
from experiments.settings import Check, Settings, load
from experiments.tracking import connect

WATCHED: dict[str, Any] = {"opened": None}  # an audit hook stays for the life of the process


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note which of our files were on the stack when a test image or the test JSON was opened."""
    if event != "open" or WATCHED["opened"] is None or not isinstance(arguments[0], str | bytes):
        return
    name = Path(str(arguments[0])).name
    if name == "test.json" or name.startswith("test-0"):
        frame, stack = sys._getframe(), []
        while frame is not None:
            stack.append(Path(frame.f_code.co_filename).name)
            frame = frame.f_back  # type: ignore[assignment]
        WATCHED["opened"].append((name, stack))


sys.addaudithook(hook)


@pytest.fixture
def apart(place: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """The settings of `place`, with a registered model for this test alone, and no checks."""
    text = (place / "mlflow.yaml").read_text()
    text = text.replace("registered_model: centernet-", f"registered_model: {request.node.name}-")
    text = re.sub(r"checks: \[.*\]", "checks: []", text)
    text = text.replace("minimum_ap: 1.0", "minimum_ap: 0.0")
    file = place / f"{request.node.name}.yaml"
    file.write_text(text)
    with patch.dict(os.environ):  # MLflow writes its tracking URI there
        yield load(file)


def candidate(own: Settings, number: int) -> Candidate:
    trial = study.find_trial(study.load_study(own, "s"), number)
    run_id, value = trial.user_attrs[study.RUN], max(trial.intermediate_values.values())
    return Candidate(tracker_of(own), run_id, Label(number), value)


def complete(own: Settings) -> list[int]:
    """Complete trials, the best first."""
    trials = [t for t in study.load_study(own, "s").get_trials() if study.score(t) is not None]
    return [t.number for t in sorted(trials, key=lambda t: -t.values[0])]


def sided(monkeypatch: pytest.MonkeyPatch, low: float) -> None:
    """Make the lower bound of every difference `low`: what the gate finds is not the question."""
    found = promote.gate.compare

    def fixed(*arguments: Any) -> Any:
        from dataclasses import replace

        real = found(*arguments)
        return replace(real, difference=replace(real.difference, low=low))

    monkeypatch.setattr("experiments.promote.gate.compare", fixed)


def test_the_first_is_promoted_an_unsure_one_is_refused_and_a_sure_one_takes_its_place(
    apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = complete(apart)[:2]
    one = promote.promote(apart, candidate(apart, second))
    assert one.moved and one.version.aliases == ("champion",) and one.test is not None
    assert "there was no champion" in one.decision.why
    sided(monkeypatch, -0.1)
    two = promote.promote(apart, candidate(apart, first))
    assert not two.moved and two.version.aliases == ("challenger",)
    assert two.champion is not None and two.champion.version == one.version.version
    again = promote.promote(apart, candidate(apart, first))
    assert again.version == two.version and not again.moved  # it is decided once
    assert judged(again, "champion") == [
        f"Model    {two.version.name} version 2 is registered; champion is version 1; "
        f"decided earlier: {two.decision.why}"
    ]
    sided(monkeypatch, 0.1)
    assert not promote.promote(apart, candidate(apart, first)).moved
    by_hand = promote.promote(apart, candidate(apart, first), by_hand=True)
    assert by_hand.moved and by_hand.version.aliases == ("champion",)
    found = by_hand.version.tags
    assert found["replaced"] == "1" and found["decision"].startswith("moved by hand; the gate")


def test_a_version_says_where_it_came_from_and_what_was_decided(apart: Settings) -> None:
    first, second = complete(apart)[:2]
    promote.promote(apart, candidate(apart, first))
    version = promote.promote(apart, candidate(apart, second)).version
    found = version.tags
    assert {"study", "trial", "run", "data", "config", "val_AP", "test_AP", "decision"} <= set(
        found
    )
    assert found["study"] == "s" and found["trial"] == str(second)
    assert json.loads(found["config"])["train.epochs"] == 6
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", found["test_AP"])
    assert found["comparison"].startswith("version 1: ")
    client = connect(apart)
    text = client.get_model_version(version.name, str(version.version)).description
    for part in (found["test_AP"], found["decision"], found["data"], found["run"], "size_weight"):
        assert part in text
    files = {file.path for file in client.list_artifacts(version.run_id, "gate")}
    assert {"gate/version-2-gate.png", "gate/version-2-gate.json"} <= files


def test_a_rollback_moves_the_alias_back_and_says_why(place: Path, apart: Settings) -> None:
    first, second = complete(apart)[:2]
    promote.promote(apart, candidate(apart, first), by_hand=True)
    promote.promote(apart, candidate(apart, second), by_hand=True)
    name = apart.model_name("tiny")
    words = ("--settings", f"{name.removesuffix('-tiny')}.yaml")
    error = run(place, *words, "rollback", "--model", name, "--why", "x", "--to", 9, status=2)
    assert f"{name} has no version 9" in error
    out = run(place, *words, "rollback", "--model", name, "--why", "blind at night")
    assert f"models:/{name}@champion: version 2 -> 1" in out
    registry = Registry(apart, name)
    now = registry.at("champion")
    assert now is not None and now.version == 1
    assert "to version 1: blind at night" in registry.get(2).tags["rolled_back"]
    error = run(place, *words, "rollback", "--model", name, "--why", "x", status=2)
    assert "replaced no other champion; name one: --to VERSION" in error
    out = run(place, *words, "rollback", "--model", name, "--why", "by day", "--to", 2)
    assert "version 1 -> 2" in out
    out = run(place, *words, "models", "--model", name)
    assert "blind at" in out and "champion" in out


def test_two_promotions_at_once_are_one_after_the_other(apart: Settings) -> None:
    found: list[Any] = []

    def go(number: int) -> None:
        found.append(promote.promote(apart, candidate(apart, number)))

    threads = [threading.Thread(target=go, args=(number,)) for number in complete(apart)[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.version.version for one in found) == [1, 2]
    second = next(one for one in found if one.version.version == 2)
    assert second.champion is not None and second.champion.version == 1


def test_a_champion_that_another_machine_moved_meanwhile_is_compared_with(
    apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = complete(apart)[:2]
    one = promote.promote(apart, candidate(apart, first), by_hand=True).version
    two = promote.promote(apart, candidate(apart, second)).version
    registry = Registry(apart, one.name)
    judge, seen = promote.judge, []

    def slow(*arguments: Any) -> Any:
        seen.append(arguments[3].version)
        if len(seen) == 1:
            registry.point("champion", two)
        return judge(*arguments)

    monkeypatch.setattr(promote, "judge", slow)
    client = connect(apart)
    client.delete_model_version_tag(two.name, str(two.version), "decision")
    promote.promote(apart, candidate(apart, second))
    assert seen == [one.version, two.version]


def test_without_test_images_nothing_is_promoted_but_a_person_may(
    apart: Settings, own_data: Path
) -> None:
    (own_data / "test.json").unlink()
    number = complete(apart)[0]
    refused = promote.promote(apart, candidate(apart, number), folder=own_data)
    assert not refused.moved and "could not be judged" in refused.decision.why
    assert "it has no test images (test.json, " in refused.decision.why
    assert promote.promote(apart, candidate(apart, number), by_hand=True, folder=own_data).moved


def test_test_images_that_were_trained_on_are_refused(own_data: Path) -> None:
    tree = json.loads((own_data / "test.json").read_text())
    tree["images"][0]["file_name"] = "train-0000.jpg"
    (own_data / "test.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"the same image is in train\.json"):
        exam.read_test(own_data)


def test_the_test_images_are_read_by_the_exam_alone(place: Path) -> None:
    text = (place / "space.yaml").read_text()
    (place / "once.yaml").write_text(text.replace("trials: 4", "trials: 1"))
    WATCHED["opened"] = []
    try:
        run(place, "search", "--space", "once.yaml", "--study", "read", "--set", "train.epochs=1")
    finally:
        opened, WATCHED["opened"] = WATCHED["opened"], None
    assert {name for name, _ in opened} >= {"test.json", "test-0000.jpg"}
    assert all("exam.py" in stack for _, stack in opened)


def test_a_model_that_differs_from_the_trained_one_is_refused(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.tracking_uri)
    registry = Registry(own, "centernet-tiny")
    version = registry.versions()[0]
    trained = registry.trained(version)
    assert set(CHECKS) == set(Check.__args__)  # type: ignore[attr-defined]
    other = tmp_path / "other.safetensors"
    content = bytearray(trained.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    failure = first_failure(Examined(registry, version, other, ()), ["signature", "predictions"])
    assert failure == "predictions: its weights are not those of its run"


def test_a_machine_too_slow_to_check_a_model_decides_nothing(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.tracking_uri)
    monkeypatch.setattr("experiments.checks.MINUTES", 0.001)
    registry = Registry(own, "centernet-tiny")
    version = registry.versions()[0]
    examined = Examined(registry, version, registry.trained(version), ())
    with pytest.raises(UserError, match="nothing was decided; the same command asks again"):
        first_failure(examined, ["loads"])
    assert registry.get(version.version).tags == version.tags


def test_a_model_asks_for_timm_only_if_its_backbone_is_one_of_timm(tmp_path: Path) -> None:
    for backbone, wanted in (("slim", False), ("timm/resnet10t", True)):
        file = tmp_path / "weights.safetensors"
        checkpoint.write(file, {}, {"kind": "weights", "model": {"backbone": backbone}})
        names = [one.partition("==")[0] for one in requirements(file)]
        assert ("timm" in names) == wanted and "torch" in names
