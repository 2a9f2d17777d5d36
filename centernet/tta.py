"""Test-time augmentation: a mirrored copy, other sizes (Zhou et al. 2019, section 5 and appendix).

Flip: the network also sees the mirrored input; heatmaps, sizes and offsets of both are averaged
before peaks are looked for. Scales: the network sees the image at each size; the boxes of all sizes
are put together, and NMS keeps the best of those that overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from centernet.predict import Detector, Picture, detect, stack
from centernet.structures import Detections, Maps

MULTIPLE = 32  # pixels: what the network's input is a multiple of
MERGE_IOU = 0.5  # boxes of one class from different scales that overlap more are one object's


class Flipped(nn.Module):
    """A network whose maps are the mean of those of its input and of the mirrored input."""

    def __init__(self, model: nn.Module) -> None:
        """Around a network that gives Maps."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Maps:
        """Maps of images[B, 3, H, W], in two passes."""
        maps, mirrored = self.model(images), mirror(self.model(images.flip(-1)))
        probability = (maps.heatmap.float().sigmoid() + mirrored.heatmap.float().sigmoid()) / 2
        return Maps(
            probability.logit(),
            (maps.size + mirrored.size) / 2,
            (maps.offset + mirrored.offset) / 2,
        )


def mirror(maps: Maps) -> Maps:
    """Maps of the mirrored image: a centre that lies at x of w cells lies at w - x.

    Cell i becomes w - 1 - i, so that an offset of d cells to the right becomes 1 - d.
    """
    x, y = maps.offset.flip(-1).unbind(1)
    return Maps(maps.heatmap.flip(-1), maps.size.flip(-1), torch.stack((1 - x, y), 1))


@dataclass(frozen=True, slots=True)
class Augmented:
    """A detector that looks more than once: at each of `scales`, mirrored too where `flip`."""

    detector: Detector
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.detector.classes

    def batch(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detections of each picture, in its pixels."""
        found = [self.at_scale(pictures, scale) for scale in self.scales]
        if len(found) == 1:
            return found[0]
        iou = min(self.detector.nms_iou, MERGE_IOU)
        return [
            merge(one, top_k=self.detector.top_k, nms_iou=iou) for one in zip(*found, strict=True)
        ]

    def at_scale(self, pictures: Sequence[Picture], scale: float) -> list[Detections]:
        """Detections at one size of the network's input: `scale` times the trained one."""
        own = self.detector
        height, width = (scaled(side, scale) for side in (own.height, own.width))
        batch, placements = stack(pictures, height=height, width=width, letterbox=own.letterbox)
        return detect(
            Flipped(own.model) if self.flip else own.model,
            batch.to(next(own.model.parameters()).device),
            placements,
            stride=own.stride,
            top_k=own.top_k,
            nms_iou=own.nms_iou,
        )


def scaled(side: int, scale: float) -> int:
    """A side of the network's input in pixels, times `scale`, that the network can take."""
    return max(round(side * scale / MULTIPLE), 1) * MULTIPLE


def merge(found: Sequence[Detections], *, top_k: int, nms_iou: float) -> Detections:
    """The detections of one picture from several looks: the best `top_k` that NMS leaves."""
    boxes = torch.cat([one.boxes for one in found])
    scores = torch.cat([one.scores for one in found])
    labels = torch.cat([one.labels for one in found])
    keep = batched_nms(boxes, scores, labels, nms_iou)[:top_k]
    return Detections(boxes[keep], scores[keep], labels[keep])
