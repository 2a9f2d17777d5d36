"""The README's journey on real photographs, as a user types it; every claim is checked.

Runs in a folder of its own. Without ../shared/data it uses the embedded demo data, and says so.
"""

import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "bccd"


def run(home: Path, *words: object, status: int = 0) -> str:
    """Type a command; its output."""
    print("$", *words, flush=True)
    done = subprocess.run(
        [str(BIN / str(words[0])), *map(str, words[1:])],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout + done.stderr, flush=True)
    assert done.returncode == status, f"exit status {done.returncode}, expected {status}"
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    return done.stdout


def main() -> None:
    """Search, continue, compare, reproduce, register, export, predict."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "mlflow.yaml").write_text((ROOT / "mlflow.yaml").read_text())
        search = ["experiments", "search", "--space", ROOT / "search_spaces/smoke.yaml"]
        if PHOTOGRAPHS.is_dir():
            search += ["--data", PHOTOGRAPHS, "--config", "light", "--set", "train.epochs=6"]
            search += ["--set", "data.height=128", "--set", "data.width=160"]
            name, least = "bccd", 10.0
        else:
            print(f"{PHOTOGRAPHS} is not here: the embedded demo data instead")
            search += ["--set", "train.epochs=6"]
            name, least = "demo", 5.0
        out = run(home, *search, "--trials", 2)
        assert f"is now models:/centernet-{name}@champion" in out
        out = run(home, *search, "--trials", 3)
        assert out.count("trial 2: ") and not out.count("trial 1: epoch"), "it did not continue"
        best = re.search(r"Best +trial (\d+): AP ([\d.]+)", out)
        assert best and float(best[2]) >= least, f"AP below {least}"
        assert "IDENTICAL: 6 epochs" in run(
            home, "experiments", "reproduce", best[1], "--workers", 2
        )
        other = int(best[1] == "0")  # the first two trials are known points, and never pruned
        assert "Gate     would" in run(home, "experiments", "register", other)
        out = run(home, *search, "--trials", 3, "--finalists", 1, "--seeds", 1)
        assert "Luck     trial" in out and "Winner   trial" in out
        chosen = re.search(r"experiments reproduce (\d+\.1) ", out)
        assert chosen, "the winner of the finals is not what is to be reproduced"
        assert "IDENTICAL: 6 epochs" in run(home, "experiments", "reproduce", chosen[1])
        out = run(home, "experiments", "models")
        assert "champion" in out and "moved by hand" in out
        out = run(home, "experiments", "rollback", "--why", "the journey goes back")
        assert "the journey goes back" in run(home, "experiments", "models")
        run(home, "experiments", "status")
        check_ui(home)
        weights = next((home / "runs" / "artifacts").rglob("checkpoint/best.safetensors"))
        data = PHOTOGRAPHS if name == "bccd" else next(home.glob("runs/demo-data-*"))
        images = data / "images"
        out = run(home, "centernet", "export", "--weights", weights, "--images", images,
                  "--output", home / "model.onnx")  # fmt: skip
        assert "boxes are torch's within" in out
        picture = sorted(images.iterdir())[0]
        out = run(
            home, "centernet", "predict", "--weights", weights, "--json", "--shown", "0.05", picture
        )
        assert json.loads(out)["detections"]
        out = run(home, "experiments", "predict", "--json", "--shown", "0.05", picture)
        assert json.loads(out)["detections"]
        check_serving(home, picture)
        check_detector(home, data, weights)
        run(home, "experiments", "reproduce", 99, status=2)
    print("The journey holds.")


def check_detector(home: Path, data: Path, weights: Path) -> None:
    """The commands that need no study."""
    run(home, "centernet", "check-data", data, "--output", home / "card")
    run(home, "centernet", "convert", data, "--output", home / "again", status=2)  # it is COCO
    small = ["--config", "light", "--set", "data.height=128", "--set", "data.width=160"]
    small += ["--data", data]
    run(home, "centernet", "config", *small[:-2])
    run(home, "centernet", "draw-batch", *small, "--output", home / "batch.png")
    assert "AP50" in run(home, "centernet", "overfit", *small)
    train = ["centernet", "train", *small, "--output", home / "trained"]
    out = run(home, *train, "--set", "train.epochs=1")
    assert "epoch 1/1" in out
    found = []
    for file in (weights, home / "model.onnx"):
        folder = home / f"evaluated-{file.suffix}"
        words = ["--weights", file, "--data", data, "--output", folder]
        assert "AP" in run(home, "centernet", "evaluate", *words)
        found.append(json.loads((folder / "metrics.json").read_text())["metrics"]["AP"])
    assert abs(found[0] - found[1]) < 0.1, "ONNX Runtime and torch have different AP"


def check_ui(home: Path) -> None:
    """The MLflow UI answers on 127.0.0.1, its assistant does not, and Ctrl-C ends it quietly."""
    with subprocess.Popen(
        [str(BIN / "experiments"), "ui", "--port", "5123"],
        cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            for shown in (server.stdout.readline(), server.stdout.readline()):
                assert "http://127.0.0.1:5123" in shown  # the UI, and the last study in it
            found, page = ask(5123, "/")
            assert found == 200 and b"<title>MLflow</title>" in page
            for path in ("ajax-api/3.0/mlflow/assistant/config", "api/2.0/mlflow/runs/create"):
                assert ask(5123, f"/{path}")[0] == 404
            assert ask(5123, "/", host="10.evil.example")[0] == 403
            end(server, signal.SIGINT)
        finally:
            server.kill()


def ask(port: int, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Status and body of what a server answers, asked under a host's name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    return response.status, response.read()


def end(server: subprocess.Popen[str], number: signal.Signals) -> None:
    """A signal ends a server, which is one process, without another word."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    assert not children.read_text(), "a server has processes of its own"
    server.send_signal(number)
    assert server.wait(60) == -number
    assert server.stdout is not None and not server.stdout.read()


def check_serving(home: Path, picture: Path) -> None:
    """The command that `experiments serve` prints gets boxes of an image."""
    command = [str(BIN / "experiments"), "serve", "--port", "5124"]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            shown = "".join(server.stdout.readline() for _ in range(3)).partition("\n")[2]
            typed = shown.replace("IMAGE", f"'{picture}'").strip()
            done = subprocess.run(
                ["bash", "-c", typed], capture_output=True, text=True, check=False
            )
            print(f"$ {typed}\n{done.stdout[:300]} ...", flush=True)
            box = json.loads(done.stdout)["predictions"][0]
            assert {"image", "x1", "y1", "x2", "y2", "score", "label", "class"} == set(box)
            assert ask(5124, "/docs")[0] == 404
            end(server, signal.SIGTERM)
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
