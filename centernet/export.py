"""ONNX, kept only if ONNX Runtime finds the same boxes as torch on real images."""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold
from torchvision.ops import batched_nms, box_iou

from centernet.checkpoint import write_bytes
from centernet.decode import boxes_at, decode, top_boxes
from centernet.errors import UserError
from centernet.geometry import Placement
from centernet.onnx_runtime import (
    INPUT,
    OUTPUTS,
    Description,
    OnnxDetector,
    detections,
    metadata,
)
from centernet.predict import Detector, Picture, in_original, stack
from centernet.structures import Detections, Maps

BOX_TOLERANCE = 0.1  # original pixels
SCORE_TOLERANCE = 1e-3
TIE = 1e-5  # scores no further apart may change places
COMPARED = 20  # best detections of each image; below them order is noise
TOGETHER = 4  # images that ONNX Runtime gets at once: batches are compared too


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences between torch and ONNX Runtime over `images` images."""

    boxes: float  # original pixels
    scores: float
    images: int


class Decoded(nn.Module):
    """Network, top K peaks and NMS in one graph: images in, three tensors of K rows out."""

    def __init__(self, detector: Detector) -> None:
        """Of a detector on the CPU."""
        super().__init__()
        self.model, self.classes = detector.model, len(detector.classes)
        self.top_k, self.stride, self.nms_iou = detector.top_k, detector.stride, detector.nms_iou

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """boxes[B, K, 4], scores[B, K], labels[B, K]; what NMS takes away scores 0, and is last."""
        boxes, scores, labels = top_boxes(self.model(images), stride=self.stride, top_k=self.top_k)
        if self.nms_iou < 1:
            keep = survivors(boxes, scores, labels, self.classes, self.nms_iou)
            scores, order = (scores * keep).topk(scores.shape[1])
            boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
            labels = labels.gather(1, order)
        return boxes, scores, labels


@torch.library.custom_op("centernet::survivors", mutates_args=())
def survivors(
    boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, nms_iou: float
) -> Tensor:
    """[B, K]: which of boxes[B, K, 4] NMS within their class keeps; one operator, so that it can
    become ONNX's own, whose result has a size that no graph of torch's can state.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for image, own in enumerate(zip(boxes, scores, labels, strict=True)):
        keep[image, batched_nms(*own, nms_iou)] = True
    return keep


@survivors.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, nms_iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_survivors(boxes: Any, scores: Any, labels: Any, classes: int, nms_iou: float) -> Any:
    """`survivors` in ONNX: NonMaxSuppression over scores[B, C, K] that are -1 for other classes."""
    from onnxscript import opset18  # late: it takes a second

    op: Any = opset18  # whose types know no plain numbers, which become constants
    names = op.Unsqueeze(op.Range(0, classes, 1), [0, 2])
    own = op.Equal(op.Unsqueeze(labels, [1]), names)
    of_class = op.Where(own, op.Unsqueeze(scores, [1]), op.Constant(value_float=-1.0))
    most = op.Constant(value_ints=[2**31 - 1])
    iou, above = op.Constant(value_floats=[nms_iou]), op.Constant(value_floats=[0.0])
    kept = op.NonMaxSuppression(boxes, of_class, most, iou, above)  # [n, (image, class, row)]
    place = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_floats=[1.0]), op.Slice(op.Shape(place), [0], [1]))
    return op.Cast(op.ScatterND(op.ConstantOfShape(op.Shape(scores)), place, ones), to=9)  # bool


def export(detector: Detector, file: Path, images: Sequence[Picture]) -> Parity:
    """Write an ONNX file whose contract `onnx_runtime` states, batch size free.

    UserError, and no file, if the boxes on `images` differ by more than the tolerances.
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
    """Network and decoding as a serialised ONNX model; UserError where an operator has no ONNX."""
    proto = translate(
        Decoded(detector).cpu().eval(),
        height=detector.height,
        width=detector.width,
        outputs=OUTPUTS,
    )
    for key, value in metadata(describe(detector)).items():
        proto.metadata_props.add(key=key, value=value)
    content: bytes = proto.SerializeToString()
    return content


def translate(module: nn.Module, *, height: int, width: int, outputs: Sequence[str]) -> Any:
    """ONNX's model of a module that takes images[B, 3, height, width] uint8, for any B."""
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    for library in ("torch.onnx", "onnxscript"):
        logging.getLogger(library).setLevel(logging.ERROR)
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, warnings.catch_warnings(), explicit_attention(module):
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        try:
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                custom_translation_table={torch.ops.centernet.survivors.default: onnx_survivors},
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"this network cannot be written as ONNX: {reason}") from None
    assert program is not None, "the dynamo exporter returns a program"
    return program.model_proto


@contextlib.contextmanager
def explicit_attention(module: nn.Module) -> Iterator[None]:
    """Let networks of timm attend by products and a softmax: ONNX knows few forms of the fused."""
    fused: list[Any] = [one for one in module.modules() if getattr(one, "fused_attn", False)]
    for attention in fused:
        attention.fused_attn = False
    try:
        yield
    finally:
        for attention in fused:
            attention.fused_attn = True


def describe(detector: Detector) -> Description:
    """What the file has to say beside its graph."""
    return Description(
        classes=detector.classes,
        height=detector.height,
        width=detector.width,
        letterbox=detector.letterbox,
        top_k=detector.top_k,
        nms_iou=detector.nms_iou,
        stride=detector.stride,
    )


def compare(detector: Detector, content: bytes, images: Sequence[Picture]) -> Parity:
    """Torch's detections of each image, and ONNX Runtime's of the same images in batches."""
    other = OnnxDetector.of(content, name="the ONNX model")
    worst = (0.0, 0.0)
    for start in range(0, len(images), TOGETHER):
        batch, placements = stack(
            images[start : start + TOGETHER],
            height=detector.height,
            width=detector.width,
            letterbox=detector.letterbox,
        )
        found = [detections(*one) for one in zip(*other.run(batch.numpy()), strict=True)]
        for image, theirs, placement in zip(batch, found, placements, strict=True):
            boxes, scores = apart(detector, image, theirs, placement)
            worst = max(worst[0], boxes), max(worst[1], scores)
    return Parity(*worst, len(images))


@torch.no_grad()
def apart(
    detector: Detector, image: Tensor, theirs: Detections, placement: Placement
) -> tuple[float, float]:
    """`difference` of torch's detections of image[3, height, width] from theirs (network pixels).

    Where it is too large, torch's maps are decoded again with theirs of what rounding decides:
    which of two neighbours is the peak, which of two boxes NMS keeps, which is the last.
    """

    top_k, nms_iou = detector.top_k, detector.nms_iou

    def decoded(maps: Maps) -> Detections:
        return decode(maps, stride=detector.stride, top_k=top_k, nms_iou=nms_iou)[0]

    def far(ours: Detections) -> tuple[float, float]:
        return difference(*in_original([ours, theirs], [placement] * 2))

    maps = detector.model(image[None])
    ours = decoded(maps)
    boxes, scores = far(ours)
    same = boxes <= BOX_TOLERANCE and scores <= SCORE_TOLERANCE
    if same or not covered(ours, theirs):
        return boxes, scores
    return far(decoded(settled(maps, theirs, stride=detector.stride)))


def covered(ours: Detections, theirs: Detections) -> bool:
    """Whether each of ours meets one of theirs that is as high, or is no higher than the last.

    What a tie takes away has its neighbour there, or the box to which that one fell in NMS.
    """
    least = ours.scores[:, None] - TIE
    rivals = (ours.labels[:, None] == theirs.labels) & (theirs.scores >= least)
    meets = (box_iou(ours.boxes, theirs.boxes) > 0) & rivals
    return bool((meets.any(1) | (theirs.scores >= least).all(1)).all()) and len(theirs.scores) > 0


def settled(maps: Maps, theirs: Detections, *, stride: int) -> Maps:
    """Maps of one image with no peaks but those that no tie takes away, and theirs of a tie.

    Theirs come a TIE before others: at their own scores, unless torch's are others.
    """
    scores = maps.heatmap[0].float().sigmoid()
    near = unfold(scores[:, None], 3, padding=1)  # [C, 9, h * w]: each cell and around it
    scores, highest = scores.flatten(1), near.amax(1)
    peaks = scores.where((near >= scores[:, None] - TIE).sum(1) == 1, 0.0)
    cells = torch.arange(scores.shape[1])[None]
    for box, score, label in zip(theirs.boxes, theirs.scores, theirs.labels, strict=True):
        every = boxes_at(maps, cells, label.expand_as(cells), stride=stride)[0]
        cell = (every - box).abs().amax(1).argmin()
        own = scores[label, cell]
        if own >= highest[label, cell] - TIE and (own - score).abs() <= TIE:
            peaks[label, cell] = (score + TIE).clamp(max=1)
    return replace(maps, heatmap=peaks.logit().view_as(maps.heatmap))


def difference(ours: Detections, theirs: Detections) -> tuple[float, float]:
    """Largest distance (pixels, score) from each one's best to the other's nearest of its class.

    Nearest in position and score, each in tolerances: boxes may lie on each other.
    """
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
        boxes = (theirs.boxes[same] - box).abs().amax(1)
        scores = (theirs.scores[same] - score).abs()
        nearest = int(torch.maximum(boxes / BOX_TOLERANCE, scores / SCORE_TOLERANCE).argmin())
        worst = max(worst[0], float(boxes[nearest])), max(worst[1], float(scores[nearest]))
    return worst
