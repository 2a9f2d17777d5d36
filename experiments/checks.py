"""What a registered version has to pass before any alias points to it."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from centernet.dataset import images
from centernet.errors import UserError, one_line
from centernet.export import BOX_TOLERANCE, SCORE_TOLERANCE, difference, to_onnx
from centernet.export import compare as compare_onnx
from centernet.predict import Detector
from centernet.structures import Detections
from experiments.registry import Registry, Version, example

SAME_BOXES, SAME_SCORES = 0.01, 1e-4  # pixels; what another thread count may move
MINUTES = 10  # for a process to load the model and predict
# MLflow's own program, without a repository that could lend the model its code
FRESH = (
    "import os, sys; sys.path = [p for p in sys.path if p and not os.path.isdir("
    "os.path.join(p, 'experiments'))]; from mlflow.cli import cli; cli()"
)


class Refused(Exception):
    """A check that a model did not pass, and why, in a line."""


@dataclass(frozen=True)
class Examined:
    """A registered version, the weights as they were trained, and photographs to try both on."""

    registry: Registry
    version: Version
    weights: Path
    photographs: Sequence[Path]

    @cached_property
    def detector(self) -> Detector:
        """The trainer's."""
        return Detector.load(self.weights)

    @cached_property
    def answers(self) -> list[Detections]:
        """The registered model's on every photograph (none: on its example), in a fresh process."""
        content = [base64.b64encode(file.read_bytes()).decode() for file in self.photographs]
        content = content or list(example()["image"])
        rows = ask(self.registry, self.version, content)
        return [detections(rows, index) for index in range(len(content))]


def ask(registry: Registry, version: Version, content: Sequence[str]) -> list[dict[str, Any]]:
    """Boxes of base64 images, as MLflow's program prints them in a fresh process, without pickle.

    Refused if the model does not load or answer; UserError if the machine is too busy to tell.
    """
    folder = registry.files(version)
    table = {"dataframe_split": {"columns": ["image"], "data": [[one] for one in content]}}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    environment |= {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "in.json", Path(scratch) / "out.json"
        source.write_text(json.dumps(table))
        command = [sys.executable, "-c", FRESH, "models", "predict", "--model-uri", str(folder)]
        command += ["--env-manager", "local", "--input-path", str(source)]
        command += ["--content-type", "json", "--output-path", str(target)]
        try:
            subprocess.run(
                command, cwd=scratch, env=environment, timeout=60 * MINUTES,
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Refused(f"it does not load in a fresh process: {one_line(last)}") from None
        except subprocess.TimeoutExpired:
            raise UserError(  # which says nothing of the model
                f"{version.uri}: a fresh process gave no answer in {MINUTES} minutes, so nothing "
                "was decided; the same command asks again"
            ) from None
        return list(json.loads(target.read_text())["predictions"])


def detections(rows: Sequence[Mapping[str, Any]], image: int) -> Detections:
    """The rows of one image."""
    own = [row for row in rows if row["image"] == image]
    boxes = [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in own]
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor([row["score"] for row in own]),
        torch.tensor([row["label"] for row in own], dtype=torch.long),
    )


def loads(examined: Examined) -> None:
    """It loads in a fresh process that knows nothing of this repository and must not unpickle."""
    _ = examined.answers


def predictions(examined: Examined) -> None:
    """It holds the trainer's weights, and finds what they find."""
    if examined.registry.weights(examined.version).read_bytes() != examined.weights.read_bytes():
        raise Refused("its weights are not those of its run")
    for file, theirs in zip(examined.photographs, examined.answers, strict=True):
        boxes, scores = difference(examined.detector(images.read(file.read_bytes())), theirs)
        if boxes > SAME_BOXES or scores > SAME_SCORES:
            raise Refused(
                f"on {file.name} its boxes differ from the trainer's by {boxes:.3g} px, "
                f"its scores by {scores:.3g}"
            )


def onnx(examined: Examined) -> None:
    """Exported to ONNX, it finds the same boxes."""
    detector = Detector.load(examined.weights)
    pictures = [images.read(file.read_bytes()) for file in examined.photographs]
    parity = compare_onnx(detector, to_onnx(detector), pictures)
    if parity.boxes > BOX_TOLERANCE or parity.scores > SCORE_TOLERANCE:
        raise Refused(
            f"ONNX Runtime's boxes differ by {parity.boxes:.3g} px, "
            f"its scores by {parity.scores:.3g}"
        )


def signature(examined: Examined) -> None:
    """It says what it takes and gives, and has an example."""
    if missing := examined.registry.missing(examined.version):
        raise Refused(f"it has no {', no '.join(missing)}")


CHECKS: dict[str, Callable[[Examined], None]] = {
    "loads": loads,
    "predictions": predictions,
    "onnx": onnx,
    "signature": signature,
}


def first_failure(examined: Examined, names: Sequence[str]) -> str | None:
    """Which check is not passed, and why; None: all are."""
    for name in names:
        try:
            CHECKS[name](examined)
        except Refused as refusal:
            return f"{name}: {refusal}"
    return None
