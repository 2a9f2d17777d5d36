"""ONNX, kept only if ONNX Runtime finds the same boxes as torch on real images."""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from centernet.checkpoint import write_bytes
from centernet.decode import decode
from centernet.errors import UserError
from centernet.geometry import to_original
from centernet.predict import Detector
from centernet.structures import Detections, Maps

BOX_TOLERANCE = 0.1  # original pixels
SCORE_TOLERANCE = 1e-3
COMPARED = 20  # best detections of each image; below them order is noise
NAMES = ("heatmap", "size", "offset")


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences between torch and ONNX Runtime over `images` images."""

    boxes: float  # original pixels
    scores: float
    images: int


class _Tuple(nn.Module):
    """The network as ONNX wants it: float images in, three tensors out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.model(images)
        return maps.heatmap, maps.size, maps.offset


def export(detector: Detector, file: Path, images: Sequence[NDArray[np.uint8]]) -> Parity:
    """Write an ONNX file with the inputs and outputs of `CenterNet`, batch size free.

    Input `images[B, 3, height, width]` float32, RGB, 0...255; outputs heatmap (logits), size,
    offset. UserError, and no file, if the boxes on `images` differ by more than the tolerances.
    """
    content = to_onnx(detector)
    parity = compare(detector, content, images)
    if parity.boxes > BOX_TOLERANCE or parity.scores > SCORE_TOLERANCE:
        raise UserError(
            f"{file}: not written: ONNX Runtime's boxes differ from torch's by {parity.boxes:.3g} "
            f"px, the scores by {parity.scores:.3g} ({BOX_TOLERANCE} and {SCORE_TOLERANCE} allowed)"
        )
    write_bytes(file, content)
    return parity


def to_onnx(detector: Detector) -> bytes:
    """The network as a serialised ONNX model."""
    example = torch.zeros(2, 3, detector.height, detector.width)
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _Tuple(detector.model).cpu().eval(),
            (example,),
            input_names=["images"],
            output_names=list(NAMES),
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    content: bytes = program.model_proto.SerializeToString()
    return content


def compare(detector: Detector, content: bytes, images: Sequence[NDArray[np.uint8]]) -> Parity:
    """Decode both networks' maps on the same images and match their detections."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = (0.0, 0.0)
    for image in images:
        tensor, placement = detector.prepare(image)
        maps = session.run(list(NAMES), {"images": tensor.float().numpy()})
        found = decode(
            Maps(*(torch.from_numpy(values) for values in maps)),
            stride=detector.stride,
            top_k=detector.top_k,
            nms_iou=detector.nms_iou,
        )[0]
        theirs = Detections(to_original(found.boxes, placement), found.scores, found.labels)
        boxes, scores = difference(detector(image), theirs)
        worst = max(worst[0], boxes), max(worst[1], scores)
    return Parity(*worst, len(images))


def difference(ours: Detections, theirs: Detections) -> tuple[float, float]:
    """Largest distance (pixels, score) from each one's best to the other's nearest of its class."""
    everything = (ours.boxes, ours.scores, theirs.boxes, theirs.scores)
    if not all(bool(tensor.isfinite().all()) for tensor in everything):
        return math.inf, math.inf
    there, back = _farthest(ours, theirs), _farthest(theirs, ours)
    return max(there[0], back[0]), max(there[1], back[1])


def _farthest(ours: Detections, theirs: Detections) -> tuple[float, float]:
    worst = (0.0, 0.0)
    for box, score, label in zip(
        ours.boxes[:COMPARED], ours.scores[:COMPARED], ours.labels[:COMPARED], strict=True
    ):
        same = theirs.labels == label
        if not same.any():
            return math.inf, math.inf
        apart = (theirs.boxes[same] - box).abs().amax(1)
        nearest = int(apart.argmin())
        scores = (theirs.scores[same][nearest] - score).abs()
        worst = max(worst[0], float(apart[nearest])), max(worst[1], float(scores))
    return worst
