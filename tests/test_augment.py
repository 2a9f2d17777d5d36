import numpy as np
import pytest

from centernet.augment import AUGMENTATIONS, Augmenter
from centernet.config import Config

OFF = {
    "flip_p": 0.0, "scale_low": 1.0, "scale_high": 1.0, "translate": 0.0, "rotate_limit": 15.0,
    "rotate_p": 0.0, "motion_blur_p": 0.0, "hue_saturation_value_p": 0.0, "random_gamma_p": 0.0,
}  # fmt: skip
BOXES = np.array([[20, 10, 60, 30], [0, 0, 16, 16], [100, 60, 128, 96]], np.float32)
LABELS = np.array([0, 1, 2])


def noise(H: int = 96, W: int = 128) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)


def test_a_sample_depends_on_its_seed_and_on_nothing_before_it() -> None:
    augmenter, fresh = (
        Augmenter(**Config().augment.model_dump()),
        Augmenter(**Config().augment.model_dump()),
    )
    for seed in range(5):  # a history that `fresh` does not have
        augmenter(noise(), BOXES, LABELS, seed=seed)
    ours = augmenter(noise(), BOXES, LABELS, seed=77)
    theirs = fresh(noise(), BOXES, LABELS, seed=77)
    others = fresh(noise(), BOXES, LABELS, seed=78)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not np.array_equal(ours[0], others[0])


def test_with_all_probabilities_zero_nothing_changes() -> None:
    image, boxes, labels = Augmenter(**OFF)(noise(), BOXES, LABELS, seed=1)
    assert np.array_equal(image, noise())
    np.testing.assert_allclose(boxes, BOXES, atol=1e-3)
    assert np.array_equal(labels, LABELS)


def test_flip_twice_is_nothing() -> None:
    flip = Augmenter(**OFF | {"flip_p": 1.0})
    image, boxes, _ = flip(*flip(noise(), BOXES, LABELS, seed=1), seed=2)
    assert np.array_equal(image, noise())
    np.testing.assert_allclose(boxes, BOXES, atol=1e-3)


def test_boxes_move_with_their_pixels_when_zoomed_and_shifted() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[30:60, 40:90] = 255
    zoom = Augmenter(**OFF | {"scale_low": 0.6, "scale_high": 1.4, "translate": 0.1})
    for seed in range(10):
        moved, boxes, _ = zoom(
            image, np.array([[40, 30, 90, 60]], np.float32), np.zeros(1, int), seed=seed
        )
        rows, columns = (np.flatnonzero((moved[..., 0] > 200).any(axis)) for axis in (1, 0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(boxes[0], seen, atol=1.5)


def test_rotation_keeps_the_box_of_a_round_object_tight_and_never_exceeds_15_degrees() -> None:
    yy, xx = np.mgrid[:96, :128]
    image = np.repeat(
        ((((xx - 64) / 30) ** 2 + ((yy - 48) / 15) ** 2 < 1) * 255)[..., None], 3, 2
    ).astype(np.uint8)
    rotate = Augmenter(**OFF | {"rotate_p": 1.0})
    box = np.array([[34, 33, 94, 63]], np.float32)
    tallest = 0.0
    for seed in range(20):
        turned, boxes, _ = rotate(image, box, np.zeros(1, int), seed=seed)
        rows, columns = (np.flatnonzero((turned[..., 0] > 127).any(axis)) for axis in (1, 0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(boxes[0], seen, atol=2)
        tallest = max(tallest, float(boxes[0, 3] - boxes[0, 1]))
    at_limit = 2 * np.hypot(15 * np.cos(np.radians(15)), 30 * np.sin(np.radians(15)))
    assert 32 < tallest <= at_limit + 1


@pytest.mark.parametrize("seed", range(4))
def test_an_image_without_objects_stays_one(seed: int) -> None:
    augmenter = Augmenter(**Config().augment.model_dump())
    image, boxes, labels = augmenter(
        noise(), np.empty((0, 4), np.float32), np.empty(0, np.int64), seed=seed
    )
    assert image.shape == (96, 128, 3) and boxes.shape == (0, 4) and labels.shape == (0,)


def test_every_probability_of_the_config_reaches_its_augmentation() -> None:
    for name in ("motion_blur", "hue_saturation_value", "random_gamma"):
        augmenter = Augmenter(**OFF | {f"{name}_p": 1.0})
        assert not np.array_equal(augmenter(noise(), BOXES, LABELS, seed=3)[0], noise()), name
    assert len(AUGMENTATIONS) == len(Augmenter(**OFF).compose.transforms)
