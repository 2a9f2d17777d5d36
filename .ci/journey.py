"""The README's journey on real photographs, as a user types it; every claim is checked.

Runs in a folder of its own. Without ../shared/data it uses the embedded demo data, and says so.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
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
        chosen = re.search(r"make reproduce TRIAL=(\d+\.1) ", out)
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
    """The MLflow UI answers on 127.0.0.1."""
    port = "5123"
    with subprocess.Popen([str(BIN / "experiments"), "ui", "--port", port], cwd=home) as server:
        try:
            for _ in range(120):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                        assert b"<title>MLflow</title>" in page.read()
                        return
                except OSError:
                    time.sleep(0.5)
            raise AssertionError("the UI did not answer in a minute")
        finally:
            server.terminate()


def check_serving(home: Path, picture: Path) -> None:
    """The command that `experiments serve` prints gets boxes of an image."""
    command = [str(BIN / "experiments"), "serve", "--port", "5124"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            shown = "".join(server.stdout.readline() for _ in range(3)).partition("\n")[2]
            typed = shown.replace("IMAGE", f"'{picture}'").strip()
            for _ in range(120):
                done = subprocess.run(
                    ["bash", "-c", typed], capture_output=True, text=True, check=False
                )
                if done.returncode == 0:
                    break
                time.sleep(0.5)
            print(f"$ {typed}\n{done.stdout[:300]} ...", flush=True)
            box = json.loads(done.stdout)["predictions"][0]
            assert {"image", "x1", "y1", "x2", "y2", "score", "label", "class"} == set(box)
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
