"""A detector in an ONNX file: ONNX Runtime runs network, decoding and NMS; torch does not.

The file's contract, which `export` writes and any other program can use:

    images[B, 3, height, width] uint8, RGB  ->  boxes[B, K, 4] float32, xyxy, network-input pixels
                                                scores[B, K] float32, best first
                                                labels[B, K] int64, index into `classes`

A score of 0 is no detection: fewer peaks than K, or taken away by NMS. How an image becomes
the network's input and boxes become the image's (letterbox, scale) is in geometry.py; what that
needs is in the file's metadata, one JSON value a key.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import Field, ValidationError

from centernet import files
from centernet.errors import UserError
from centernet.finite import refuse_not_finite
from centernet.predict import Geometry, Picture, in_original, stack
from centernet.structures import Detections

INPUT, OUTPUTS = "images", ("boxes", "scores", "labels")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
QUIET = 4  # of ONNX Runtime: only what is fatal


class Description(Geometry):
    """The metadata of an ONNX file, which may come from anywhere."""

    format: Literal[1] = 1  # another number when the outputs come to mean something else
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    stride: Annotated[int, Field(ge=1, le=64)]


@dataclass(frozen=True, slots=True)
class OnnxDetector:
    """A session, and what it needs to turn pictures into boxes."""

    session: onnxruntime.InferenceSession
    description: Description
    name: str

    @classmethod
    def load(cls, file: Path, *, device: str = "cpu") -> "OnnxDetector":
        """Read an ONNX file; UserError if it is not one that `centernet export` wrote."""
        try:
            content = files.read(file)
        except FileNotFoundError:
            raise UserError(f"{file}: no such file") from None
        return cls.of(content, name=str(file), device=device)

    @classmethod
    def of(cls, content: bytes, *, name: str, device: str = "cpu") -> "OnnxDetector":
        """Read the bytes of an ONNX file: bytes cannot name other files to be read."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        used = providers(device)
        try:
            session = onnxruntime.InferenceSession(content, options, providers=used)
        except Exception:  # ONNX Runtime's own have no common base
            raise UserError(f"{name}: not an ONNX file that ONNX Runtime can read") from None
        found = cls(session, described(session, name), name)
        for weights in onnx.load_from_string(content).graph.initializer:
            if (
                weights.dims and weights.data_location != weights.EXTERNAL
            ):  # a lone -inf may be a mask's
                values = np.array(numpy_helper.to_array(weights))
                if np.issubdtype(values.dtype, np.floating):
                    refuse_not_finite(torch.from_numpy(values), weights.name, name)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.description.classes

    def batch(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detections of RGB pictures[H, W, 3] of any size, each in its pixels."""
        if not pictures:
            return []
        own = self.description
        batch, placements = stack(
            pictures, height=own.height, width=own.width, letterbox=own.letterbox
        )
        found = [detections(*one) for one in zip(*self.run(batch.numpy()), strict=True)]
        return in_original(found, placements)

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Boxes, scores and labels of batch[B, 3, height, width]; UserError for other outputs."""
        try:
            boxes, scores, labels = self.session.run(list(OUTPUTS), {INPUT: batch})
        except Exception as error:  # as above
            raise UserError(f"{self.name}: ONNX Runtime cannot run it: {error}") from None
        count = scores.shape[1] if scores.ndim == 2 else 0
        shapes = [(len(batch), count, 4), (len(batch), count), (len(batch), count)]
        right = [values.shape for values in (boxes, scores, labels)] == shapes
        if not right or not np.isfinite(boxes).all() or not np.isfinite(scores).all():
            raise UserError(f"{self.name}: its outputs are not boxes, scores and labels")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise UserError(f"{self.name}: it finds classes that it has no name for")
        return [boxes, scores, labels]


def detections(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> Detections:
    """Of one image: what has a score above 0."""
    found = scores > 0
    return Detections(*(torch.from_numpy(values[found]) for values in (boxes, scores, labels)))


def providers(device: str) -> list[str]:
    """Where ONNX Runtime runs: the CPU, or first a GPU; UserError if there is none to ask for."""
    on_gpu = CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not on_gpu:
        raise UserError("--device cuda: this ONNX Runtime runs on the CPU only; use auto or cpu")
    return [CUDA, CPU] if on_gpu and device != "cpu" else [CPU]


def metadata(description: Description) -> dict[str, str]:
    """A description as the key-value pairs of an ONNX file."""
    return {name: json.dumps(value) for name, value in description.model_dump().items()}


def described(session: onnxruntime.InferenceSession, name: str) -> Description:
    """The inverse of `metadata`; UserError for a file of another program."""
    stored = session.get_modelmeta().custom_metadata_map
    fields = {field: stored[field] for field in Description.model_fields if field in stored}
    try:
        known = Description.model_validate({k: json.loads(v) for k, v in fields.items()})
    except (ValidationError, ValueError, RecursionError):
        raise UserError(f"{name}: not an ONNX file that centernet export wrote") from None
    given = [(one.name, one.type, list(one.shape[1:])) for one in session.get_inputs()]
    wanted = [(INPUT, "tensor(uint8)", [3, known.height, known.width])]
    if given != wanted or tuple(one.name for one in session.get_outputs()) != OUTPUTS:
        raise UserError(f"{name}: its inputs and outputs are not those of centernet export")
    return known
