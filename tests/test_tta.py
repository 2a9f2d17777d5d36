"""Test-time augmentation: what a mirror and other sizes must not change."""

import numpy as np
import pytest
import torch

from centernet.export import difference
from centernet.model import build
from centernet.predict import Detector, Picture
from centernet.structures import Detections, Maps
from centernet.tta import Augmented, Flipped, merge, mirror, scaled


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Untrained, for images of 64 x 96."""
    torch.manual_seed(0)
    model = build(backbone="slim", pretrained=False, channels=16, head_channels=8, classes=3)
    return Detector(model.eval(), ("a", "b", "c"), 64, 96, True, 4, 50, 0.6)


def noise(seed: int, *, height: int = 64, width: int = 96) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_mirror_twice_is_nothing() -> None:
    torch.manual_seed(1)
    maps = Maps(torch.randn(2, 3, 4, 6), torch.rand(2, 2, 4, 6), torch.rand(2, 2, 4, 6))
    twice = mirror(mirror(maps))
    for name in ("heatmap", "size", "offset"):
        assert torch.allclose(getattr(twice, name), getattr(maps, name))


def test_a_centre_at_x_is_mirrored_to_width_minus_x() -> None:
    offset = torch.zeros(1, 2, 2, 5)
    offset[0, 0, 1, 3] = 0.2  # a centre at x = 3.2 of 5 cells
    found = mirror(Maps(torch.zeros(1, 1, 2, 5), torch.zeros(1, 2, 2, 5), offset)).offset
    assert 1 + float(found[0, 0, 1, 1]) == pytest.approx(5 - 3.2)


def test_flip_testing_finds_the_mirrored_boxes_in_the_mirrored_image(detector: Detector) -> None:
    image = noise(0)  # fills the network's input: no padding on one side only
    finder = Augmented(detector, flip=True)
    left, right = finder.batch([image, np.ascontiguousarray(image[:, ::-1])])
    x1, y1, x2, y2 = right.boxes.unbind(1)
    mirrored = Detections(torch.stack((96 - x2, y1, 96 - x1, y2), 1), right.scores, right.labels)
    boxes, scores = difference(left, mirrored)
    assert boxes < 1e-2 and scores < 1e-5
    plain = detector.batch([image])[0]
    assert not torch.equal(plain.scores[:10], left.scores[:10])


def test_the_average_of_a_symmetric_image_is_symmetric(detector: Detector) -> None:
    half = noise(1, width=48)
    image = np.concatenate((half, half[:, ::-1]), 1)
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    with torch.no_grad():
        maps = Flipped(detector.model)(batch)
    assert torch.allclose(maps.heatmap, maps.heatmap.flip(-1), atol=1e-4)


def test_one_scale_is_the_detector_and_more_are_merged(detector: Detector) -> None:
    pictures = [noise(2), noise(3, height=200, width=90)]
    for plain, once in zip(
        detector.batch(pictures), Augmented(detector).batch(pictures), strict=True
    ):
        assert torch.equal(plain.boxes, once.boxes)
    for found, picture in zip(
        Augmented(detector, scales=(0.5, 1.0, 1.5)).batch(pictures), pictures, strict=True
    ):
        assert 0 < len(found.scores) <= detector.top_k
        assert (found.scores.diff() <= 0).all()
        assert (found.boxes[:, 2:].amax(0) <= torch.tensor(picture.shape[1::-1])).all()


def test_merging_keeps_the_best_of_each_object_and_nothing_of_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    one = Detections(boxes, torch.tensor([0.9, 0.3]), torch.tensor([0, 1]))
    two = Detections(boxes + 0.5, torch.tensor([0.8, 0.6]), torch.tensor([0, 1]))
    found = merge([one, two], top_k=100, nms_iou=0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6]) and found.labels.tolist() == [0, 1]
    none = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0).long())
    assert len(merge([none, none], top_k=100, nms_iou=0.5).scores) == 0


def test_scaled_sizes_are_what_the_network_takes() -> None:
    assert [scaled(96, s) for s in (0.25, 0.75, 1, 1.25, 4)] == [32, 64, 96, 128, 384]
