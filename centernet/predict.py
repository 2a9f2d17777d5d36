"""Detector: image file or array -> Detections."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from centernet import checkpoint
from centernet.config import Config
from centernet.dataset import images
from centernet.decode import decode
from centernet.errors import UserError
from centernet.geometry import Placement, fit, place, to_original
from centernet.model import STRIDE, build
from centernet.structures import Detections


@torch.no_grad()
def detect(
    model: nn.Module, batch: Tensor, placements: list[Placement], *, top_k: int, nms_iou: float
) -> list[Detections]:
    """Detections in original pixels of batch[B, 3, H, W] uint8 at network size."""
    found = decode(model(batch), stride=STRIDE, top_k=top_k, nms_iou=nms_iou)
    return [
        Detections(to_original(one.boxes, placement), one.scores, one.labels)
        for one, placement in zip(found, placements, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained model with all that it needs to turn an image into boxes."""

    model: nn.Module
    classes: tuple[str, ...]
    height: int
    width: int
    letterbox: bool
    top_k: int
    nms_iou: float

    @classmethod
    def load(cls, file: Path, *, device: str = "cpu") -> "Detector":
        """Read a weights file; UserError if it is not one."""
        tensors, record = checkpoint.read(file)
        if record.get("kind") != "weights":
            raise UserError(f"{file}: not a weights file (use best.safetensors)")
        model = build(**record["model"], pretrained=False)
        model.load_state_dict(tensors)
        return cls(model.eval().to(device), tuple(record["classes"]), **record["geometry"])

    def prepare(self, image: NDArray[np.uint8]) -> tuple[Tensor, Placement]:
        """Network input[1, 3, height, width] uint8 of an RGB image[H, W, 3], and its placement."""
        H, W = image.shape[:2]
        placement = fit((H, W), (self.height, self.width), letterbox=self.letterbox)
        canvas = np.ascontiguousarray(place(image, placement).transpose(2, 0, 1))
        return torch.from_numpy(canvas)[None], placement

    def __call__(self, image: Path | NDArray[np.uint8]) -> Detections:
        """Detections of one image, in its pixels: a file, or RGB[H, W, 3] uint8."""
        if isinstance(image, Path):
            image = images.load(image)
        tensor, placement = self.prepare(image)
        device = next(self.model.parameters()).device
        return detect(
            self.model, tensor.to(device), [placement], top_k=self.top_k, nms_iou=self.nms_iou
        )[0]


def weights_record(config: Config, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a weights file says about its tensors; `Detector.load` reads it."""
    return {
        "kind": "weights",
        "model": {
            "backbone": config.model.backbone,
            "channels": config.model.channels,
            "head_channels": config.model.head_channels,
            "classes": len(classes),
        },
        "classes": list(classes),
        "geometry": {
            "height": config.data.height,
            "width": config.data.width,
            "letterbox": config.data.resize == "letterbox",
            "top_k": config.decode.top_k,
            "nms_iou": config.decode.nms_iou,
        },
    }
