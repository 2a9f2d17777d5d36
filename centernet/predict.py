"""Detector: image file or array -> Detections."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from centernet import checkpoint
from centernet.config import Config
from centernet.dataset import images
from centernet.decode import decode
from centernet.errors import UserError
from centernet.geometry import Placement, fit, place, to_original
from centernet.model import build
from centernet.structures import Detections


@torch.no_grad()
def detect(
    model: nn.Module,
    batch: Tensor,
    placements: list[Placement],
    *,
    stride: int,
    top_k: int,
    nms_iou: float,
) -> list[Detections]:
    """Detections in original pixels of batch[B, 3, H, W] uint8 at network size."""
    found = decode(model(batch), stride=stride, top_k=top_k, nms_iou=nms_iou)
    return [
        Detections(to_original(one.boxes, placement), one.scores, one.labels)
        for one, placement in zip(found, placements, strict=True)
    ]


Width = Annotated[int, Field(ge=1, le=4096)]


class Network(BaseModel):
    """How to build the network of a weights file; older files lack what has a default."""

    backbone: str
    neck: str = "pyramid"
    deformable: bool = False
    stride: Literal[2, 4, 8] = 4
    channels: Width
    head_channels: Width
    classes: Width
    size_per_class: bool = False


class Geometry(BaseModel):
    """From image to network input, and from maps to boxes."""

    height: Width
    width: Width
    letterbox: bool
    top_k: Annotated[int, Field(ge=1, le=1000)]
    nms_iou: Annotated[float, Field(gt=0, le=1)]


class Record(BaseModel):
    """The description of a weights file, which may come from anywhere."""

    model: Network
    classes: tuple[str, ...]
    geometry: Geometry


FIELDS = Record.model_fields


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained model with all that it needs to turn an image into boxes."""

    model: nn.Module
    classes: tuple[str, ...]
    height: int
    width: int
    letterbox: bool
    stride: int  # pixels a cell
    top_k: int
    nms_iou: float

    @classmethod
    def load(cls, file: Path, *, device: str = "cpu") -> "Detector":
        """Read a weights file; UserError if it is not one."""
        tensors, record = checkpoint.read(file)
        checkpoint.expect(file, record, "weights")
        try:
            known = Record.model_validate({k: v for k, v in record.items() if k in FIELDS})
            model = build(**known.model.model_dump(), pretrained=False)
            model.load_state_dict(tensors)
        except (ValidationError, RuntimeError):
            raise UserError(f"{file}: its weights and its description do not match") from None
        geometry = known.geometry.model_dump() | {"stride": known.model.stride}
        return cls(model.eval().to(device), known.classes, **geometry)

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
            self.model,
            tensor.to(device),
            [placement],
            stride=self.stride,
            top_k=self.top_k,
            nms_iou=self.nms_iou,
        )[0]


def weights_record(config: Config, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a weights file says about its tensors; `Detector.load` reads it."""
    record = Record(
        model=Network(classes=len(classes), **config.model.model_dump(exclude={"pretrained"})),
        classes=classes,
        geometry=Geometry(
            height=config.data.height,
            width=config.data.width,
            letterbox=config.data.resize == "letterbox",
            **config.decode.model_dump(),
        ),
    )
    return {"kind": "weights", "format": checkpoint.FORMAT, **record.model_dump()}
