import os
import socket
from pathlib import Path

import pytest

from centernet.errors import UserError, without_passwords
from centernet.lock import exclusive
from experiments.display import nearer
from experiments.settings import load


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("aliass: x", "aliass: Extra inputs are not permitted; did you mean alias?"),
        ("ui_port: 99999", "ui_port: Input should be less than or equal to 65535"),
        ("alias: 'a b'", "alias: String should match pattern"),
    ],
)
def test_a_mistake_names_the_file_and_the_field(home: Path, line: str, message: str) -> None:
    file = home / "mlflow.yaml"
    key = line.split(":")[0]
    kept = [row for row in file.read_text().splitlines() if not row.startswith(f"{key}:")]
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
