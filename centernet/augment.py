"""Training augmentations: an Albumentations pipeline, seeded for each sample.

Albumentations keeps a random state of its own, which forked loader workers would replay; seeding
it before each call makes a sample depend on its key alone.
"""

from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from centernet.geometry import PADDING

MIN_AREA = 1.0  # pixels of the network input; a smaller box is dropped
MIN_VISIBILITY = 0.25  # as is one of which a crop leaves less than this fraction


def affine(*, scale_low: float, scale_high: float, translate: float, **_: float) -> Any:
    """Zoom and shift, every time."""
    return A.Affine(
        scale=(scale_low, scale_high),
        translate_percent=(-translate, translate),
        balanced_scale=scale_low < 1 < scale_high,
        keep_ratio=True,
        fill=PADDING,
        p=1.0,
    )


def rotate(*, rotate_limit: float, rotate_p: float, **_: float) -> Any:
    """Rotation; the box follows the inscribed ellipse, since its corners would enclose too much."""
    return A.Affine(
        rotate=(-rotate_limit, rotate_limit), rotate_method="ellipse", fill=PADDING, p=rotate_p
    )


AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "flip": lambda *, flip_p, **_: A.HorizontalFlip(p=flip_p),
    "affine": affine,
    "rotate": rotate,
    "motion_blur": lambda *, motion_blur_p, **_: A.MotionBlur(p=motion_blur_p),
    "hue_saturation_value": lambda *, hue_saturation_value_p, **_: A.HueSaturationValue(
        p=hue_saturation_value_p
    ),
    "random_gamma": lambda *, random_gamma_p, **_: A.RandomGamma(p=random_gamma_p),
}


class Augmenter:
    """The pipeline, for images of the network's size."""

    def __init__(self, **values: float) -> None:
        """Build every augmentation from the fields of `config.augment`."""
        boxes = A.BboxParams(
            format="pascal_voc",
            label_fields=["labels"],
            min_area=MIN_AREA,
            min_visibility=MIN_VISIBILITY,
            clip=True,
        )
        pipeline = [build(**values) for build in AUGMENTATIONS.values()]
        self.compose = A.Compose(pipeline, bbox_params=boxes)

    def __call__(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        seed: int,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """image[H, W, 3], boxes[N, 4] xyxy pixels and labels[N], augmented as the seed says."""
        self.compose.set_random_seed(seed)
        result = self.compose(image=image, bboxes=boxes, labels=labels)
        kept = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
        return result["image"], kept, np.asarray(result["labels"], np.int64).reshape(-1)
