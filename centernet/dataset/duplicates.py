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

from centernet import files
from centernet.dataset import images
from centernet.dataset.split import Record, Split
from centernet.seed import cores

SIDE = 16
BITS = SIDE * SIDE
NEAR = 16  # differing bits
CHUNK = 256  # rows of the distance table at a time


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


@dataclass(frozen=True, slots=True)
class Found:
    """How many pairs there are, and the nearest of them, those across splits first."""

    within: int
    across: int
    nearest: list[Pair]


def search(splits: Sequence[Split], *, listed: int) -> Found:
    """Count all near-duplicates, and name `listed`; files that cannot be read are in no pair."""
    every = [(split.name, record) for split in splits for record in split.records]
    with ThreadPoolExecutor(cores()) as pool:  # decoding runs beside Python
        greys = list(pool.map(small, (record.file for _, record in every)))
    readable = {index: grey for index, grey in enumerate(greys) if grey is not None}
    if len(readable) < 2:
        return Found(0, 0, [])
    known, stack = list(readable), np.stack(list(readable.values()))
    splits_of = np.array([every[index][0] for index in known])
    within, across, nearest = 0, 0, list[Pair]()
    for left, right, bits, mirrored in near(signs(stack), signs(stack[:, :, ::-1])):
        apart = splits_of[left] != splits_of[right]
        within, across = within + int((~apart).sum()), across + int(apart.sum())
        first = np.lexsort((bits, ~apart))[:listed]
        nearest += [
            Pair(every[known[left[k]]], every[known[right[k]]], int(bits[k]), bool(mirrored[k]))
            for k in first
        ]
        nearest = sorted(nearest, key=lambda pair: (not pair.across, pair.bits))[:listed]
    return Found(within, across, nearest)


def small(file: Path) -> NDArray[np.int16] | None:
    """The picture as grey[16, 17]; none where it cannot be read."""
    try:
        with files.opened(file) as stream, images.opened(stream) as image:
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
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16], NDArray[np.bool_]]]:
    """All pairs that are near, some rows at a time: i[P], j[P] > i, bits[P], j mirrored[P]."""
    for start in range(0, len(plain), CHUNK):
        part, others = plain[start : start + CHUNK], slice(start, None)
        straight = (BITS - part @ plain[others].T) / 2  # equal bits count +1, others -1
        turned = (BITS - part @ mirrored[others].T) / 2
        bits = np.minimum(straight, turned).astype(np.int16)
        i, j = np.nonzero(np.triu(bits <= NEAR, 1))
        yield start + i, start + j, bits[i, j], turned[i, j] < straight[i, j]
