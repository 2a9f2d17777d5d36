"""The registry on a real store, without a search: what is registered, and what can be asked of it."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
from conftest import untrained
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from centernet.errors import UserError
from experiments import cli, commands
from experiments.model_commands import about
from experiments.references import LARGEST_VERSION, ModelReference, model_reference
from experiments.registry import LOGGED, Registry, logged_model, names
from experiments.settings import Settings, load
from experiments.tracking import Tracker, connect
from experiments.tracking.record import Archive

TAGS = {"val_AP": "12.5", "study": "s", "trial": "0", "run": "r"}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Kept as it is: MLflow writes its tracking URI there."""
    with patch.dict(os.environ):
        yield


@pytest.fixture
def trained(settings: Settings, data: Path, tmp_path: Path) -> tuple[Tracker, str]:
    """A study without trials, and a run of its that keeps weights."""
    tracker = Tracker(settings, "s", "id")
    run_id = str(tracker.client.create_run(tracker.experiment).info.run_id)
    tracker.client.log_artifact(run_id, str(untrained(data, tmp_path)), "checkpoint")
    return tracker, run_id


@pytest.mark.parametrize("broken", ["log_model_artifacts", "create_model_version"])
def test_a_registration_that_broke_off_leaves_one_model_of_its_run(
    broken: str,
    settings: Settings,
    trained: tuple[Tracker, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker, run_id = trained
    registry = Registry(settings, "m")

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no")

    with monkeypatch.context() as faults:
        faults.setattr(MlflowClient, broken, refuse)
        for _ in range(2):
            with pytest.raises(MlflowException):
                registry.register(tracker, run_id, TAGS)
    version = registry.register(tracker, run_id, TAGS)
    (model,) = tracker.client.search_logged_models([tracker.experiment])
    assert model.name == LOGGED and str(model.status) == "READY"
    found = tracker.client.get_model_version("m", str(version.version))
    assert found.source == model.model_uri and version.version == 1
    again = Registry(settings, "another").register(tracker, run_id, TAGS)
    assert again.version == 1
    assert tracker.client.get_model_version("another", "1").source == model.model_uri


def test_a_model_that_was_begun_by_a_killed_process_is_deleted(
    trained: tuple[Tracker, str],
) -> None:
    tracker, run_id = trained
    tracker.client.create_logged_model(tracker.experiment, LOGGED, run_id)
    other = tracker.client.create_logged_model(tracker.experiment, "other", run_id)
    assert logged_model(tracker.client, run_id, tracker.experiment) is None
    (left,) = tracker.client.search_logged_models([tracker.experiment])
    assert left.model_id == other.model_id


def test_tags_that_somebody_deleted_or_edited_are_no_obstacle(settings: Settings) -> None:
    client = connect(settings)
    registry = Registry(settings, "m")
    experiment = client.create_experiment("e")
    run_id = client.create_run(experiment).info.run_id
    client.create_registered_model("m")
    client.create_model_version("m", "runs:/x/y", run_id, tags={"val_AP": "much"})
    (version,) = registry.versions()
    archive = Archive(settings)
    assert about(version, archive)[0] == "version 1: study ?, trial ?, val AP much"
    known = registry.register(None, run_id, TAGS)  # type: ignore[arg-type]  # it asks for nothing
    assert about(known, archive)[0] == "version 1: study s, trial 0, val AP much"


def test_models_are_found_whatever_their_name_and_however_many(settings: Settings) -> None:
    client = connect(settings)
    wanted = sorted([f"m{index}" for index in range(101)] + ["o'neil", 'a "b"'])
    for name in wanted:
        client.create_registered_model(name)
    assert names(settings) == wanted
    for name in ("o'neil", 'a "b"'):
        client.create_model_version(name, "runs:/x/y")
        assert [one.version for one in Registry(settings, name).versions()] == [1]


def test_an_alias_of_a_version_that_was_deleted_points_nowhere(settings: Settings) -> None:
    client, registry = connect(settings), Registry(settings, "m")
    client.create_registered_model("m")
    client.create_model_version("m", "runs:/x/y")
    registry.point("champion", registry.get(1))
    client.delete_model_version("m", "1")
    assert registry.at("champion") is None and registry.versions() == []
    client.delete_registered_model("m")
    assert registry.at("champion") is None and registry.versions() == []


@pytest.mark.parametrize("number", [0, 2, LARGEST_VERSION, LARGEST_VERSION + 1, 2**63, 10**30])
def test_a_version_that_is_not_there_is_named(settings: Settings, number: int) -> None:
    with pytest.raises(UserError, match=f"^m has no version {number}$"):
        Registry(settings, "m").get(number)


def test_a_reference_names_a_version_or_an_alias() -> None:
    assert model_reference("models:/a@b") == ModelReference("a", "b", None)
    assert model_reference("models:/a b@c/007") == ModelReference("a b@c", None, 7)


@pytest.mark.parametrize(
    "text",
    [
        "models:/", "models:/n@", "models:/n/", "models:/@x", "models:/n", "models:/n/0",
        "models:/n/latest", "models:/n/1/2", "models:/n@a/", "models:/n/-1", "models:/n/٣",
        "models:/n/2147483648", f"models:/n/{2**64}", f"models:/n/{'9' * 5000}", "models:n/1", "n/1",
        "models:/n/1\n", "models:/n@a b",
    ],
)  # fmt: skip
def test_a_reference_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected models:/NAME@ALIAS or|n has no version"):
        model_reference(text)


def test_what_mlflow_refuses_is_one_line_without_passwords_and_status_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def models(_: object) -> int:
        raise MlflowException("at http://u:p/a@ss@host/x?sslpassword=geheim: no\n  in SQL ...")

    monkeypatch.setattr(commands, "models", models)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:geheim@host:5000")
    assert cli.main(["--settings", str(home / "mlflow.yaml"), "models"]) == 2
    assert capsys.readouterr().err == (
        "experiments: MLflow at http://user:***@host:5000: "
        "at http://u:***@host/x?sslpassword=*** no\n"
    )


class Refusing(BaseHTTPRequestHandler):
    """A server that lets nobody in."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"<html>" + b"who are you? " * 1000)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_asks_for_a_password_is_told_in_one_line(
    home: Path, refusing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:geheim@{refusing}")
    assert cli.main(["--settings", str(home / "mlflow.yaml"), "models"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"experiments: MLflow at http://user:***@{refusing}: API request")
    assert "401" in error and "MLFLOW_TRACKING_TOKEN" in error and "geheim" not in error
    assert error.count("\n") == 1 and len(error) < 700


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("foo", "MLflow at foo: "),
        ("ftp://x", "MLflow at ftp://x: "),
        ("http://[::1", "MLflow at http://[::1: "),
        ("postgresql://u:gehe/im", "MLflow at postgresql://u:"),
    ],
)
def test_an_address_that_is_none_is_told_in_one_line(
    uri: str,
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main(["--settings", str(home / "mlflow.yaml"), "models"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"experiments: {said}") and error.count("\n") == 1


def test_models_are_registered_where_the_runs_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    for same in ("", " ", "http://host:5000", "http://host:5000/"):
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", same)
        assert load(home / "mlflow.yaml").tracking_uri == "http://host:5000"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///other.db")
    with pytest.raises(
        UserError, match=r"MLFLOW_REGISTRY_URI is sqlite:///other\.db, the runs are"
    ):
        load(home / "mlflow.yaml")
