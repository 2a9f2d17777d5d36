"""Pixels of 16 bits -> 8 bits, by how many of the 16 a picture uses.

Cameras of 10, 12 and 14 bits write files of 16, where their white is 1023, 4095 or 16383. Such a
file seldom says so, and scaled as if white were 65535 it is black. So white is the largest number
of the fewest bits, of DEPTHS, that hold every pixel of the picture and what a TIFF states to be
its largest. The rule looks at one picture alone: a dark one of 16 bits may come out brighter.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

DEPTHS = (8, 10, 12, 14, 16)  # bits
BITS, LARGEST, MEANING, WHITE_IS_0, TURNED = 258, 281, 262, 0, 274  # tags of TIFF, and a value


def is_grey(image: Image.Image) -> bool:
    """Whether it has one channel of 16 bits."""
    return image.mode.startswith("I;16")


def grey(image: Image.Image) -> NDArray[np.uint8]:
    """Of an image that `is_grey`: [H, W]."""
    values = np.asarray(image, np.uint16)
    top = white(values, image)
    inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(MEANING) == WHITE_IS_0
    return to_8_bits(top - values.clip(max=top) if inverted else values, top)


def white(values: NDArray[np.uint16], image: Image.Image) -> int:
    """The number that white is in these pixels of a picture."""
    top = int(values.max(initial=0))
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS, (16,))[0]
        top = max(top, *image.tag_v2.get(LARGEST, (0,)), 2**bits - 1 if bits < 16 else 0)
    used = min(top, 2**16 - 1).bit_length()
    return int(2 ** next(depth for depth in DEPTHS if depth >= used) - 1)


def to_8_bits(values: NDArray[np.uint16], top: int) -> NDArray[np.uint8]:
    """The pixels as 0 to 255, where `top` is 255."""
    table = (np.arange(top + 1) * 255 / top).round().astype(np.uint8)
    return np.asarray(table[values], np.uint8)


def colours(image: ImageFile, content: bytes) -> Image.Image | None:
    """A picture of several channels of 16 bits that uses fewer, as one of 8; none for any other.

    Pillow keeps the upper 8 of the 16 bits, so OpenCV reads it. image: as Pillow opened `content`.
    """
    if is_grey(image) or not any(";16" in str(tile.args) for tile in image.tile):
        return None
    if isinstance(image, TiffImageFile) and image.tag_v2.get(TURNED, 1) != 1:
        return None  # which of the two turns it is up to their versions
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.shape[2:] not in ((3,), (4,)):
        return None
    values = np.asarray(decoded, np.uint16)
    top = white(values[..., :3], image)
    if top == 2 ** DEPTHS[-1] - 1:
        return None
    layers = [to_8_bits(values[..., 2::-1], top)]
    if values.shape[2] == 4:
        alpha = values[..., 3:]
        layers.append(to_8_bits(alpha, white(alpha, image)))
    return Image.fromarray(np.concatenate(layers, axis=2))
