"""Original image <-> network input, exactly.

    original H x W          network input height x width
    +----------+            +--------------+
    |  image   |  resize    |image| padding|     x_net = x · scale_x
    |          |  ------->  |-----+        |     y_net = y · scale_y
    +----------+            +--------------+

The resized side is a whole number of pixels, so each axis keeps its own scale: what was really
done, not what was wanted. Padding lies right and below; the origin stays.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

PADDING = 114  # grey level outside the image


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image of H x W pixels lies in the network input: resized to h x w, at the origin."""

    original: tuple[int, int]  # H, W
    resized: tuple[int, int]  # h, w
    canvas: tuple[int, int]  # height, width of the network input

    @property
    def scale_xyxy(self) -> tuple[float, float, float, float]:
        """Network pixels per original pixel, for the four numbers of a box."""
        y, x = (new / old for new, old in zip(self.resized, self.original, strict=True))
        return x, y, x, y


def fit(original: tuple[int, int], canvas: tuple[int, int], *, letterbox: bool) -> Placement:
    """Placement of an H x W image in a height x width canvas, keeping its aspect or filling."""
    if not letterbox:
        return Placement(original, canvas, canvas)
    scale = min(new / old for new, old in zip(canvas, original, strict=True))
    h, w = (min(max(round(old * scale), 1), new) for old, new in zip(original, canvas, strict=True))
    return Placement(original, (h, w), canvas)


def place(image: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """The image[H, W, 3] resized and padded to the canvas."""
    h, w = placement.resized
    shrinks = h < image.shape[0] or w < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    canvas = np.full((*placement.canvas, 3), PADDING, np.uint8)
    canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=method)
    return canvas


def to_network(boxes: Tensor, placement: Placement) -> Tensor:
    """boxes[N, 4] xyxy of the original image, in pixels of the network input."""
    return (boxes.double() * boxes.new_tensor(placement.scale_xyxy).double()).to(boxes.dtype)


def to_original(boxes: Tensor, placement: Placement) -> Tensor:
    """boxes[N, 4] xyxy of the network input, in pixels of the original image, clipped to it."""
    scale = boxes.new_tensor(placement.scale_xyxy, dtype=boxes.double().dtype)
    H, W = placement.original
    limit = scale.new_tensor((W, H, W, H))
    return (boxes.double() / scale).clamp(min=0).minimum(limit).to(boxes.dtype)
