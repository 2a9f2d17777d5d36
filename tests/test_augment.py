import cv2
import numpy as np
import pytest

from centernet.augment import AUGMENTATIONS, Augmenter, cutout, mosaic
from centernet.config import Config
from centernet.geometry import PADDING

OFF = {
    "flip_p": 0.0, "vertical_flip_p": 0.0, "scale_low": 1.0, "scale_high": 1.0, "translate": 0.0,
    "rotate_limit": 15.0, "rotate_p": 0.0, "motion_blur_p": 0.0, "hue_saturation_value_p": 0.0,
    "random_gamma_p": 0.0, "min_area": 1.0, "min_visibility": 0.25,
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


@pytest.mark.parametrize("name", ["flip_p", "vertical_flip_p"])
def test_flip_twice_is_nothing(name: str) -> None:
    flip = Augmenter(**OFF | {name: 1.0})
    image, boxes, _ = flip(*flip(noise(), BOXES, LABELS, seed=1), seed=2)
    assert np.array_equal(image, noise())
    np.testing.assert_allclose(boxes, BOXES, atol=1e-3)


def test_the_vertical_flip_turns_an_image_upside_down() -> None:
    flip = Augmenter(**OFF | {"vertical_flip_p": 1.0})
    image, boxes, labels = flip(noise(), BOXES, LABELS, seed=1)
    assert np.array_equal(image, noise()[::-1]) and np.array_equal(labels, LABELS)
    np.testing.assert_allclose(boxes, [[x0, 96 - y1, x1, 96 - y0] for x0, y0, x1, y1 in BOXES])


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


def test_an_augmentation_draws_the_same_whatever_the_others_are() -> None:
    for seed in range(10):
        alone = Augmenter(**OFF | {"random_gamma_p": 0.5})(noise(), BOXES, LABELS, seed=seed)
        beside = Augmenter(**OFF | {"random_gamma_p": 0.5, "flip_p": 1.0})
        flipped = beside(noise()[:, ::-1].copy(), BOXES, LABELS, seed=seed)
        assert np.array_equal(alone[0], flipped[0])


def test_whether_one_augmentation_is_applied_says_nothing_about_another() -> None:
    """With one seed for all, as Albumentations has it, the correlation is 1."""
    values = OFF | {"rotate_p": 0.5, "motion_blur_p": 0.5, "random_gamma_p": 0.5}
    augmenter = Augmenter(**values)
    _, _, _, rotate, blur, _, gamma = augmenter.compose.transforms
    drawn = []
    for seed in range(300):
        augmenter(noise(16, 16), BOXES[:0], LABELS[:0], seed=seed)
        drawn.append([bool(one.params) for one in (rotate, blur, gamma)])
    correlation = np.corrcoef(np.array(drawn).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.25
    assert np.abs(np.mean(drawn, axis=0) - 0.5).max() < 0.1


def picture(value: int, H: int, W: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image of one value with a bright square, its box and its label."""
    image = np.full((H, W, 3), value, np.uint8)
    image[H // 4 : H // 2, W // 4 : W // 2] = 200 + value // 10
    box = np.array([[W // 4, H // 4, W // 2, H // 2]], np.float32)
    return image, box, np.array([value])


RULE = {"height": 96, "width": 128, "min_area": 1.0, "min_visibility": 0.25}


@pytest.mark.parametrize("seed", range(6))
def test_the_boxes_of_a_mosaic_enclose_what_is_seen_of_their_objects(seed: int) -> None:
    parts = [
        picture(value, H, W)
        for value, H, W in ((10, 96, 100), (20, 64, 128), (30, 96, 128), (40, 80, 80))
    ]
    image, boxes, labels = mosaic(parts, **RULE, seed=seed)
    assert image.shape == (96, 128, 3) and len(boxes) == len(labels) > 0
    assert (boxes >= 0).all() and (boxes <= (128, 96, 128, 96)).all()
    for box, label in zip(boxes, labels, strict=True):
        rows, columns = np.nonzero(np.abs(image[..., 0].astype(int) - (200 + label // 10)) < 1)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(box, seen, atol=1.5)


def test_a_mosaic_of_one_image_four_times_meets_in_one_point() -> None:
    whole = picture(50, 96, 128)
    image, boxes, labels = mosaic([whole] * 4, **RULE, seed=2)
    again = mosaic([whole] * 4, **RULE, seed=2)
    assert np.array_equal(image, again[0]) and np.array_equal(boxes, again[1])
    assert set(labels.tolist()) == {50}
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    empty = mosaic([(whole[0], *nothing)] * 4, **RULE, seed=2)
    assert np.array_equal(empty[0], image) and empty[1].shape == (0, 4)


def test_partners_follow_the_key_and_the_probability() -> None:
    always = Augmenter(**OFF, mosaic_p=1.0)
    drawn = [always.partners(seed=seed, count=7) for seed in range(50)]
    assert drawn == [always.partners(seed=seed, count=7) for seed in range(50)]
    assert {index for one in drawn for index in one} == set(range(7))
    half = Augmenter(**OFF, mosaic_p=0.5)
    assert 10 < sum(bool(half.partners(seed=seed, count=7)) for seed in range(50)) < 40
    assert not any(Augmenter(**OFF).partners(seed=seed, count=7) for seed in range(50))


@pytest.mark.parametrize("seed", range(5))
def test_cutout_drops_what_is_mostly_covered_and_nothing_else(seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, (116, 84), (300, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 12, (300, 2))], 1).astype(
        np.float32
    )
    white = np.full((96, 128, 3), 255, np.uint8)
    image, kept, labels = cutout(white, boxes, np.arange(300), min_visibility=0.25, seed=seed)
    assert (white == 255).all(), "the cache's image stays as it was"
    for index, box in enumerate(boxes):
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        visible = (image[y1:y2, x1:x2, 0] == 255).mean()
        assert (index in labels) == (visible >= 0.25)
    assert np.array_equal(kept, boxes[labels]) and 0 < len(kept) < 300
    assert set(np.unique(image)) == {PADDING, 255}


def rotated_iou(masks: list[np.ndarray], *, degrees: float, method: str) -> float:
    """Mean IoU of the rotated objects' true boxes with those of their boxes' rotation."""
    import albumentations as A

    turn = A.Compose(
        [A.Affine(rotate=(degrees, degrees), rotate_method=method, p=1.0)],
        bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"]),
    )
    found = []
    for mask in masks:
        done = turn(
            image=np.repeat(mask[..., None], 3, 2), bboxes=np.array([tight(mask)]), labels=[0]
        )
        a, b = np.array(done["bboxes"][0]), np.array(tight(done["image"][..., 0]))
        both = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
        found.append(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))
    return float(np.mean(found))


def tight(mask: np.ndarray) -> tuple[float, ...]:
    """The box around what is white."""
    rows, columns = (np.flatnonzero((mask > 127).any(axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def shapes(kind: str) -> list[np.ndarray]:
    """Masks[200, 200]: filled ellipses, rectangles, or handwritten digits, of several aspects."""
    found = []
    for w, h in ((60, 30), (30, 60), (50, 50)):
        mask = np.zeros((200, 200), np.uint8)
        if kind == "ellipse":
            cv2.ellipse(mask, (100, 100), (w, h), 0, 0, 360, 255, -1)
        elif kind == "rectangle":
            mask[100 - h : 100 + h, 100 - w : 100 + w] = 255
        else:
            from sklearn.datasets import load_digits

            for digit in load_digits().images[:8]:
                inner = cv2.resize(digit * 16, (2 * w, 2 * h), interpolation=cv2.INTER_LINEAR)
                mask = np.zeros((200, 200), np.uint8)
                mask[100 - h : 100 + h, 100 - w : 100 + w] = inner.clip(0, 255)
                found.append(mask)
            continue
        found.append(mask)
    return found


def test_rotated_boxes_are_as_tight_as_stated() -> None:
    """The figures in `rotate`'s docstring: at 15 degrees, mean IoU with the true box."""
    ious = {
        (kind, method): rotated_iou(shapes(kind), degrees=15, method=method)
        for kind in ("ellipse", "digit", "rectangle")
        for method in ("ellipse", "largest_box")
    }
    stated = {
        ("ellipse", "ellipse"): 0.99, ("ellipse", "largest_box"): 0.67,
        ("digit", "ellipse"): 0.81, ("digit", "largest_box"): 0.71,
        ("rectangle", "ellipse"): 0.67, ("rectangle", "largest_box"): 0.98,
    }  # fmt: skip
    assert ious == pytest.approx(stated, abs=0.01)
