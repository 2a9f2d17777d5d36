"""encode against a slow reference, and decode(encode(x)) == x."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centernet import geometry
from centernet.decode import decode
from centernet.encode import SIGMA_RULES, encode, sigma_overlap
from centernet.structures import Instances, Maps

H, W = 96, 160  # never square: it would hide swapped axes


def random_instances(seed: int, count: int, classes: int = 3) -> Instances:
    random = np.random.default_rng(seed)
    centre = random.uniform((0, 0), (W, H), (count, 2))
    size = np.exp(random.uniform(np.log(2), np.log(80), (count, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)
    return Instances(torch.from_numpy(boxes), torch.from_numpy(random.integers(0, classes, count)))


def slow(
    instances: Instances, classes: int, divisor: float, rule: str = "area"
) -> tuple[np.ndarray, np.ndarray]:
    """One object and one cell at a time, as the paper's text says it."""
    h, w = H // 4, W // 4
    heatmap, regression = np.zeros((classes, h, w)), np.zeros((6, h, w))
    smallest = np.full((h, w), np.inf)
    for (x1, y1, x2, y2), label in zip(
        instances.boxes.double().numpy() / 4, instances.labels.numpy(), strict=True
    ):
        cx, cy, bw, bh = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        i, j = math.floor(cx), math.floor(cy)
        side = math.sqrt(bw * bh)
        sx, sy = (bw / divisor, bh / divisor) if rule == "ellipse" else (side / divisor,) * 2
        for y in range(h):
            for x in range(w):
                across, along = math.floor(3 * sx + 1e-4), math.floor(3 * sy + 1e-4)
                if abs(x - i) <= across and abs(y - j) <= along:
                    value = math.exp(-((x - i) ** 2) / (2 * sx**2) - (y - j) ** 2 / (2 * sy**2))
                    heatmap[label, y, x] = max(heatmap[label, y, x], value)
        if bw * bh < smallest[j, i]:
            smallest[j, i] = bw * bh
            regression[:, j, i] = bw, bh, cx - i, cy - j, 1, label
    return heatmap, regression


@pytest.mark.parametrize("rule", ["area", "ellipse"])
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 25), st.sampled_from([4.0, 6.0, 11.0]))
def test_encode_equals_a_slow_reference(rule: str, seed: int, count: int, divisor: float) -> None:
    instances = random_instances(seed, count)
    maps = encode([instances], classes=3, height=H, width=W, sigma_divisor=divisor, sigma_rule=rule)
    heatmap, regression = slow(instances, 3, divisor, rule)
    ours = torch.cat(astuple(maps)[1:], 1)[0]
    np.testing.assert_allclose(maps.heatmap[0], heatmap, atol=1e-5)
    np.testing.assert_allclose(ours, regression, atol=1e-4)


def slow_shares(boxes: np.ndarray, divisor: float) -> dict[tuple[int, int], tuple[int, float]]:
    """For each cell (x, y) under a Gaussian: the object it serves, and its share of it."""
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(1)
    heights: dict[tuple[int, int], tuple[float, float, int]] = {}
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        i, j = math.floor((x1 + x2) / 2), math.floor((y1 + y2) / 2)
        sigma = math.sqrt(area[n]) / divisor
        reach = math.floor(3 * sigma + 1e-4)
        for x in range(max(i - reach, 0), min(i + reach, W // 4 - 1) + 1):
            for y in range(max(j - reach, 0), min(j + reach, H // 4 - 1) + 1):
                value = math.exp(-((x - i) ** 2 + (y - j) ** 2) / (2 * sigma**2))
                here = (value, -area[n], n)
                heights[x, y] = max(heights.get((x, y), here), here)
    total = np.zeros(len(boxes))
    for value, _, n in heights.values():
        total[n] += value
    return {cell: (n, value / total[n]) for cell, (value, _, n) in heights.items()}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.sampled_from([4.0, 6.0, 11.0]))
def test_gaussian_regression_equals_a_slow_reference_and_each_cell_knows_its_box(
    seed: int, count: int, divisor: float
) -> None:
    instances = random_instances(seed, count)
    maps = encode(
        [instances], classes=3, height=H, width=W, sigma_divisor=divisor, regression="gaussian"
    )
    boxes = instances.boxes.double().numpy() / 4
    expected = slow_shares(boxes, divisor)
    assert maps.mask is not None
    shares = maps.mask[0, 0]
    cells = {(x, y) for y, x in shares.nonzero().tolist()}
    assert cells <= set(expected)
    assert all(expected[cell][1] < 1e-6 for cell in set(expected) - cells)
    for (x, y), (n, share) in expected.items():
        assert abs(shares[y, x] - share) < 1e-4
        if share > 1e-6:
            size, centre = maps.size[0, :, y, x], maps.offset[0, :, y, x] + torch.tensor([x, y])
            box = torch.cat([centre - size / 2, centre + size / 2])
            np.testing.assert_allclose(box, boxes[n], atol=1e-4)
    assert abs(shares.sum() - len({n for n, _ in expected.values()})) < 1e-3


@pytest.mark.parametrize("rule", SIGMA_RULES)
@pytest.mark.parametrize("regression", ["centre", "gaussian"])
def test_a_batch_is_encoded_as_one_by_one_and_may_hold_empty_images_and_1000_objects(
    regression: str, rule: str
) -> None:
    how = {"classes": 3, "height": H, "width": W, "regression": regression, "sigma_rule": rule}
    images = [random_instances(seed, count) for seed, count in enumerate([5, 0, 1000, 1])]
    batch = encode(images, **how)
    assert batch.mask is not None and (batch.mask[2] > 0).sum() > 400
    for index, image in enumerate(images):
        alone = encode([image], **how)
        for ours, theirs in zip(astuple(batch), astuple(alone), strict=True):
            assert torch.equal(ours[index], theirs[0])


def astuple(maps: Maps) -> tuple[torch.Tensor, ...]:
    assert maps.mask is not None and maps.label is not None
    return maps.heatmap, maps.size, maps.offset, maps.mask, maps.label


@pytest.mark.parametrize("rule", SIGMA_RULES)
def test_a_mirrored_image_has_mirrored_targets(rule: str) -> None:
    image = random_instances(3, 20)
    left, top, right, bottom = image.boxes.unbind(1)
    mirrored = Instances(torch.stack([W - right, top, W - left, bottom], 1), image.labels)
    ours, theirs = (
        encode([one], classes=3, height=H, width=W, sigma_rule=rule) for one in (image, mirrored)
    )
    for name in ("heatmap", "size", "mask", "label"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name).flip(3), atol=1e-4), name
    assert torch.allclose(ours.offset[:, 1], theirs.offset[:, 1].flip(2), atol=1e-4)


def test_a_needle_thinner_than_any_pixel_is_a_peak_and_nothing_else() -> None:
    needle = Instances(torch.tensor([[0.0, 8, 1e-22, 40]]), torch.tensor([0]))
    for rule in SIGMA_RULES:
        maps = encode([needle], classes=1, height=H, width=W, sigma_rule=rule)
        assert maps.heatmap.isfinite().all() and maps.heatmap[0, 0, 6, 0] == 1
        assert rule != "ellipse" or not maps.heatmap[..., 1:].any()


def test_a_batch_without_any_object_is_empty_maps() -> None:
    nothing = Instances(torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    maps = encode([nothing, nothing], classes=3, height=H, width=W)
    assert all(not plane.any() for plane in astuple(maps))


def test_peaks_are_exactly_one_and_boxes_without_area_or_outside_are_dropped() -> None:
    boxes = torch.tensor([[3.0, 5, 33, 25], [8, 8, 8, 30], [40, 40, 30, 50], [155, 2, 175, 12.0]])
    maps = encode([Instances(boxes, torch.zeros(4).long())], classes=1, height=H, width=W)
    assert maps.mask is not None
    assert maps.mask.sum() == 1
    assert (maps.heatmap == 1).sum() == 1
    assert maps.heatmap[0, 0, 3, 4] == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 3000), st.integers(8, 3000), st.booleans(), st.integers(0, 10**6),
    st.sampled_from([*SIGMA_RULES]), st.booleans(),
)  # fmt: skip
def test_decode_of_encode_returns_every_box_in_original_pixels(
    height: int, width: int, letterbox: bool, seed: int, rule: str, size_per_class: bool
) -> None:
    random = np.random.default_rng(seed)
    placement = geometry.fit((height, width), (H, W), letterbox=letterbox)
    points = np.sort(random.uniform(0, 1, (30, 2, 2)), 1) * (width, height)
    boxes = torch.from_numpy(points.reshape(30, 4).astype(np.float32))
    network = geometry.to_network(boxes, placement)
    cell = ((network[:, :2] + network[:, 2:]) / 8).floor().tolist()
    first = {tuple(c): i for i, c in reversed(list(enumerate(cell)))}  # one object a cell
    chosen = sorted(first.values())
    boxes, network = boxes[chosen], network[chosen]
    labels = torch.from_numpy(random.integers(0, 3, len(boxes)))
    sides = (network[:, 2:] - network[:, :2]).amin(1)
    boxes, network, labels = (t[sides > 1e-3] for t in (boxes, network, labels))
    target = encode([Instances(network, labels)], classes=3, height=H, width=W, sigma_rule=rule)
    size = by_class(target) if size_per_class else target.size
    perfect = Maps(torch.logit(target.heatmap, eps=1e-7), size, target.offset)
    found = decode(perfect, top_k=3 * (H // 4) * (W // 4), nms_iou=1.0)[0]
    back = geometry.to_original(found.boxes, placement)
    for box, label in zip(boxes, labels, strict=True):
        apart = (back[found.labels == label] - box).abs().amax(1)
        assert apart.min() < 1e-3 * max(1, max(height, width) / 2000)  # float32 has 24 bits


def by_class(target: Maps) -> torch.Tensor:
    """The size planes of each class: another class's are nonsense where an object is."""
    assert target.label is not None
    at = torch.nn.functional.one_hot(target.label[:, 0], 3).permute(0, 3, 1, 2)[:, :, None]
    return torch.where(at == 1, target.size[:, None], 7.0).flatten(1, 2)


def test_the_overlap_rule_is_the_published_radius() -> None:
    # values of `gaussian_radius` of xingyizhou/CenterNet, computed by its formula by hand
    def published(h: float, w: float, o: float = 0.7) -> float:
        b1, c1 = h + w, w * h * (1 - o) / (1 + o)
        r1 = (b1 + math.sqrt(b1**2 - 4 * c1)) / 2
        b2, c2 = 2 * (h + w), (1 - o) * w * h
        r2 = (b2 + math.sqrt(b2**2 - 16 * c2)) / 2
        a3, b3, c3 = 4 * o, -2 * o * (h + w), (o - 1) * w * h
        r3 = (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2
        return min(r1, r2, r3)

    sizes = [(10.0, 20.0), (64.0, 3.0), (33.0, 33.0), (1.0, 1.0)]
    ours = sigma_overlap(torch.tensor(sizes), sigma_divisor=6, min_overlap=0.7)
    theirs = [(2 * max(0, int(published(h, w))) + 1) / 6 for w, h in sizes]
    np.testing.assert_allclose(ours.flatten(), theirs, rtol=1e-6)
