"""Detector: image files or arrays -> Detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from centernet import checkpoint
from centernet.config import Config
from centernet.dataset import images
from centernet.decode import decode
from centernet.errors import UserError
from centernet.geometry import Placement, fit, place, to_original
from centernet.model import CenterNet, build
from centernet.structures import Detections

Picture = NDArray[np.uint8]  # RGB[H, W, 3]


class Finder(Protocol):
    """What finds objects in pictures, whichever program runs the network."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each label."""

    def batch(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detections of each picture, in its pixels."""


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
    return in_original(found, placements)


def in_original(found: Sequence[Detections], placements: list[Placement]) -> list[Detections]:
    """Detections in network pixels, in the pixels of their pictures."""
    return [
        Detections(to_original(one.boxes, placement), one.scores, one.labels)
        for one, placement in zip(found, placements, strict=True)
    ]


def stack(
    pictures: Sequence[Picture], *, height: int, width: int, letterbox: bool
) -> tuple[Tensor, list[Placement]]:
    """Pictures of any size as network input[B, 3, height, width] uint8, and where each lies."""
    placements = [fit(one.shape[:2], (height, width), letterbox=letterbox) for one in pictures]
    placed = [place(one, where) for one, where in zip(pictures, placements, strict=True)]
    batch = np.stack(placed) if placed else np.empty((0, height, width, 3), np.uint8)
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))), placements


Width = Annotated[int, Field(ge=1, le=4096)]
Side = Annotated[int, Field(ge=64, le=4096, multiple_of=32)]  # of the network input, in pixels
CLASSES = 65_536  # at most


class Network(BaseModel):
    """How to build the network of a weights file; older files lack what has a default."""

    backbone: str
    neck: str = "pyramid"
    deformable: bool = False
    stride: Literal[2, 4, 8] = 4
    channels: Width
    head_channels: Width
    classes: Annotated[int, Field(ge=1, le=CLASSES)]
    size_per_class: bool = False


class Geometry(BaseModel):
    """From image to network input, and from maps to boxes."""

    height: Side
    width: Side
    letterbox: bool
    top_k: Annotated[int, Field(ge=1, le=1000)]
    nms_iou: Annotated[float, Field(gt=0, le=1)]


class Record(BaseModel):
    """The description of a weights file, which may come from anywhere."""

    model: Network
    classes: tuple[str, ...]
    geometry: Geometry

    @model_validator(mode="after")
    def _names_each_class(self) -> Self:
        """ValueError unless there are as many names as the heads have classes."""
        if len(self.classes) != self.model.classes:
            raise ValueError(f"{len(self.classes)} names for {self.model.classes} classes")
        return self


FIELDS = Record.model_fields


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained model with all that it needs to turn an image into boxes."""

    model: CenterNet
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
        except UserError as error:  # a backbone that is not known, or not installed
            raise UserError(f"{file}: {error}") from None
        except (ValueError, RuntimeError):
            raise UserError(f"{file}: its weights and its description do not match") from None
        geometry = known.geometry.model_dump() | {"stride": known.model.stride}
        return cls(model.eval().to(device), known.classes, **geometry)

    def batch(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detections of RGB pictures[H, W, 3] of any size, each in its pixels."""
        batch, placements = stack(
            pictures, height=self.height, width=self.width, letterbox=self.letterbox
        )
        return detect(
            self.model,
            batch.to(next(self.model.parameters()).device),
            placements,
            stride=self.stride,
            top_k=self.top_k,
            nms_iou=self.nms_iou,
        )

    def __call__(self, image: Path | Picture) -> Detections:
        """Detections of one image, in its pixels: a file, or RGB[H, W, 3] uint8."""
        return self.batch([images.load(image) if isinstance(image, Path) else image])[0]


def weights_record(config: Config, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a weights file says about its tensors, for `Detector.load`; UserError for too much."""
    if len(classes) > CLASSES:
        raise UserError(f"{len(classes)} classes: a network can have {CLASSES}")
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
