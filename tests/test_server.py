"""The whole registry through a real MLflow server that keeps the files too."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import REPOSITORY, tiny_values
from journey import SPACE, run, unchecked

from experiments.registry import Registry
from experiments.settings import load
from experiments.tracking import connect


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on this machine, with a SQLite database of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--serve-artifacts", "--artifacts-destination", str(folder / "a")]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    quiet = {"PYTHONWARNINGS": "ignore", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | quiet, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(f"{address}/health"):  # noqa: S310  # http, on this machine
                break
        except OSError:
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait(60)


@pytest.mark.slow
def test_everything_about_models_works_through_a_server(
    server: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        text = (REPOSITORY / "mlflow.yaml").read_text()
        (folder / "mlflow.yaml").write_text(text.replace("minimum_ap: 1.0", "minimum_ap: 0.0"))
    unchecked(home)
    base = tiny_values(data) | {"train.epochs": 1}
    (home / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (home / "space.yaml").write_text(SPACE.replace("trials: 4", "trials: 2"))
    out = run(home, "search", "--space", "space.yaml", "--study", "s")
    assert "centernet-tiny version 1 is now models:/centernet-tiny@champion" in out
    own = load(home / "mlflow.yaml")
    client, registry = connect(own), Registry(own, "centernet-tiny")
    other = 1 - int(registry.get(1).tags["trial"])
    for _ in range(2):
        out = run(home, "register", other)
        assert "version 2" in out
    places = [one.experiment_id for one in client.search_experiments()]
    assert len(client.search_logged_models(places)) == len(registry.versions()) == 2
    assert "all as it should be" in run(home, "status", "s", "--check")
    # from a folder that has only the settings; with the checks that a rollback asks for
    assert "version 2 @champion" in run(elsewhere, "models")
    out = run(elsewhere, "rollback", "--why", "blind at night")
    assert "models:/centernet-tiny@champion: version 2 -> 1" in out
    picture = next((data / "images").glob("val-*"))
    answers = {
        uri: run(elsewhere, "predict", "--json", *words, picture)
        for uri, words in {
            "": [],
            "alias": ["--weights", "models:/centernet-tiny@champion"],
            "number": ["--weights", "models:/centernet-tiny/1"],
        }.items()
    }
    assert len(set(answers.values())) == 1
    assert json.loads(answers[""])["image"] == str(picture)
    for reference in ("models:/centernet-tiny@champion", "models:/centernet-tiny/2"):
        out = run(elsewhere, "reproduce", reference, "--check-only")
        assert "of study s: COMPLETE" in out or "of study s: PRUNED" in out
    run(home, "report", "s")
    out = run(home, "gc")
    assert "weights of 0 trials" in out
