import os
import shutil
import socket
from pathlib import Path

import optuna
import pytest

from centernet.errors import UserError, without_passwords
from centernet.lock import exclusive
from experiments.display import nearer
from experiments.settings import load, sqlite_file
from experiments.study.storage import open_storage
from experiments.tracking import Tracker


def test_paths_are_relative_to_the_file_and_the_environment_wins(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(home / "mlflow.yaml")
    assert settings.tracking_uri == f"sqlite:///{home}/runs/mlflow.db"
    assert settings.runs == home / "runs"
    assert settings.model_name("bccd") == "centernet-bccd"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host:5000")
    uri = load(home / "mlflow.yaml").tracking_uri
    assert uri.startswith("http://user:secret@")
    assert without_passwords(f"at {uri} failed") == "at http://user:***@host:5000 failed"
    for empty in ("", " "):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", empty)
        assert load(home / "mlflow.yaml") == settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@ss/w:0rd@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u@corp:geheim@host", "postgresql://u@corp:***@host"),
        ("x?sslpassword=a%20b&access_token=c;d", "x?sslpassword=***&access_token=***;d"),
        ("host=h password='a b' user=u", "host=h password=*** user=u"),
        ("models:/a@champion: http://host:5000/#/x", "models:/a@champion: http://host:5000/#/x"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("aliass: x", "there is no aliass; did you mean alias?"),
        ("ui_port: 99999", "ui_port: expected a whole number from 1 to 65535, got 99999"),
        ("alias: 'a b'", "alias: expected a letter, then letters, digits, '_', '-', got 'a b'"),
        ("gate: {margin: x}", "gate.margin: expected a number from 0, got 'x'"),
        ("gate: {checks: [load]}", "gate.checks: expected a list of loads or predictions or"),
        ("gate: 3", "gate: expected `key: value` with keys of margin, confidence"),
        ("keep_best: 1.5", "keep_best: expected a whole number from 1, got 1.5"),
        ("alias: latest", "alias: MLflow reserves latest"),
    ],
)
def test_a_mistake_names_the_file_and_the_field(home: Path, line: str, message: str) -> None:
    file = home / "mlflow.yaml"
    key = line.split(":")[0]
    indented = "  " if key == "gate" else f"{key}:"
    kept = [
        row for row in file.read_text().splitlines() if not row.startswith((f"{key}:", indented))
    ]
    file.write_text("\n".join([*kept, line]))
    with pytest.raises(UserError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: {message}")


def test_a_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        holder = rf"taken \(process {os.getpid()} on {socket.gethostname()} since 2"
        with pytest.raises(UserError, match=holder), exclusive(tmp_path / "lock", busy="taken"):
            pass
    with exclusive(tmp_path / "lock", busy="taken"):
        pass


@pytest.mark.parametrize(
    ("here", "text", "told"),
    [
        ("/here", "/here/a/b", "a/b"),
        ("/here", "sqlite:////here/runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        ("/here", "/var/here/a", "/var/here/a"),
        ("/here", "file:///here/a", "file:///here/a"),
        ("/", "http://host:5000", "http://host:5000"),
        ("/", "sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_only_what_lies_in_this_folder_is_told_without_it(
    here: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path(here))
    assert nearer(text) == told


NAMES = [
    "".join(map(chr, range(32, 127))).replace("/", ""),
    "what?x",
    "50%",
    "a?b..c#d;e",
    "jürgen ä€",
    "a\nb\t\x7f",
    "x" * 200,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_both_stores_lie_in_the_project_whatever_its_folder_is_called(
    tmp_path: Path, stores: Path, name: str
) -> None:
    home = tmp_path / name
    shutil.copytree(stores.parent, home)
    settings = load(home / "mlflow.yaml")
    assert sqlite_file(settings.tracking_uri) == home / "runs" / "mlflow.db"
    study = optuna.create_study(study_name="s", storage=open_storage(settings))
    tracker = Tracker(settings, "s", "i")
    made = tracker.client.create_run(tracker.experiment, tags={"role": "trial", "study_id": "i"})
    files = tracker.files(made)
    files.write("checkpoint/best.safetensors", "weights")
    tracker.client.log_text(made.info.run_id, "hello", "hello.txt")
    assert tracker.text(made.info.run_id, "hello.txt") == "hello"
    assert tracker.weights(made.info.run_id).read_text() == "weights"
    assert list((home / "runs" / "artifacts").rglob("best.safetensors"))
    tracker.forget(made.info.run_id)
    assert not list(tmp_path.rglob("best.safetensors")) and study.trials == []
    assert list(tmp_path.iterdir()) == [home]
    for file in ("mlflow.db", "studies.db"):
        assert list(tmp_path.rglob(file)) == [home / "runs" / file]


@pytest.mark.parametrize("uri", ["sqlite:", "sqlite://", "sqlite:x.db", "sqlite://host/x.db"])
def test_a_sqlite_uri_without_a_file_is_refused(home: Path, uri: str) -> None:
    file = home / "mlflow.yaml"
    file.write_text(file.read_text().replace("sqlite:///runs/studies.db", f"'{uri}'"))
    with pytest.raises(UserError, match="expected sqlite:///FILE"):
        load(file)


def test_a_folder_whose_name_is_no_text_is_refused(home: Path) -> None:
    folder = home / os.fsdecode(b"a\xff")
    folder.mkdir()
    shutil.copy(home / "mlflow.yaml", folder)
    with pytest.raises(UserError, match="stores cannot lie in a folder whose name is not UTF-8"):
        load(folder / "mlflow.yaml")


def test_a_percent_sign_that_mlflow_would_decode_is_named_and_nothing_is_written(
    home: Path,
) -> None:
    folder = home / "50%25"
    folder.mkdir()
    shutil.copy(home / "mlflow.yaml", folder)
    with pytest.raises(UserError, match=r"50%25: MLflow takes %25 in a path for '%' and looks"):
        load(folder / "mlflow.yaml")
    assert sorted(home.iterdir()) == sorted([folder, home / "mlflow.yaml"])
