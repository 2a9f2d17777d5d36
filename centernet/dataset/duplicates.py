"""Pictures that are nearly the same, within a split and across splits, by a difference hash.

A picture's hash has a bit for each of 16 x 16 places: whether the grey there is darker than to its
right. Two pictures are near-duplicates where at most NEAR of the 256 bits differ, or do once one of
them is mirrored. Re-encoding, resizing, brightness and contrast change few bits.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from centernet.dataset import images
from centernet.dataset.split import Record, Split
from centernet.seed import cores

SIDE = 16
BITS = SIDE * SIDE
NEAR = 16  # differing bits
CHUNK = 2048  # rows of the distance table at a time


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that are nearly the same."""

    left: tuple[str, Record]  # split and image
    right: tuple[str, Record]
    bits: int  # that differ; 0 is likely the same picture
    mirrored: bool

    @property
    def across(self) -> bool:
        """Whether they are in different splits: then val or test says less than it seems to."""
        return self.left[0] != self.right[0]


def pairs(splits: Sequence[Split]) -> Iterator[Pair]:
    """Every pair of near-duplicates; files that cannot be read are in none."""
    every = [(split.name, record) for split in splits for record in split.records]
    with ThreadPoolExecutor(cores()) as pool:  # decoding runs beside Python
        greys = list(pool.map(small, (record.file for _, record in every)))
    readable = {index: grey for index, grey in enumerate(greys) if grey is not None}
    if len(readable) < 2:
        return
    known, stack = list(readable), np.stack(list(readable.values()))
    plain, mirrored = signs(stack), signs(stack[:, :, ::-1])
    for i, j, bits, turned in near(plain, mirrored):
        yield Pair(every[known[i]], every[known[j]], bits, turned)


def small(file: Path) -> NDArray[np.int16] | None:
    """The picture as grey[16, 17]; none where it cannot be read."""
    try:
        with Image.open(file, formats=images.FORMATS) as image:
            image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG decodes at an eighth in no time
            deep = image.mode.startswith(("I", "F"))  # Pillow would cut 16 bits off at 255
            picture = Image.fromarray(images.to_rgb(image)) if deep else image
            grey = picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
            return np.asarray(grey, np.int16)
    except images.BROKEN:
        return None


def signs(greys: NDArray[np.int16]) -> NDArray[np.float32]:
    """Hashes[N, 256] of greys[N, 16, 17], a bit as +1 or -1."""
    darker = greys[:, :, :-1] < greys[:, :, 1:]
    return np.where(darker, np.float32(1), np.float32(-1)).reshape(len(greys), BITS)


def near(
    plain: NDArray[np.float32], mirrored: NDArray[np.float32]
) -> Iterator[tuple[int, int, int, bool]]:
    """(i, j > i, differing bits, whether j is mirrored) of all pairs that are near."""
    for start in range(0, len(plain), CHUNK):
        part = plain[start : start + CHUNK]
        straight = (BITS - part @ plain.T) / 2  # equal bits count +1, others -1
        turned = (BITS - part @ mirrored.T) / 2
        bits = np.minimum(straight, turned)
        for i, j in np.argwhere(bits <= NEAR).tolist():
            if j > start + i:
                yield start + i, j, int(bits[i, j]), bool(turned[i, j] < straight[i, j])
