from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from centernet.decode import decode, peaks, top_boxes
from centernet.structures import Maps

seeds = st.integers(0, 10**6)


def random_maps(seed: int, batch: int = 2) -> Maps:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> torch.Tensor:
        return torch.randn(batch, channels, 6, 9, generator=generator)

    return Maps(draw(3), draw(2).exp() * 3, torch.sigmoid(draw(2)))


@given(seeds)
def test_peaks_equal_a_slow_reference(seed: int) -> None:
    heatmap = random_maps(seed).heatmap.sigmoid()
    heatmap = (heatmap * 8).round() / 8  # with ties
    padded = np.pad(heatmap.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    ours = peaks(heatmap).numpy()
    for b, c, y, x in np.ndindex(*heatmap.shape):
        highest = padded[b, c, y : y + 3, x : x + 3].max()
        value = padded[b, c, y + 1, x + 1]
        assert ours[b, c, y, x] == (value if value == highest else 0)


@given(seeds, st.integers(1, 40), st.booleans())
def test_top_k_equals_a_slow_reference(seed: int, k: int, size_per_class: bool) -> None:
    maps = random_maps(seed, batch=1)
    if size_per_class:
        maps = replace(maps, size=torch.cat([maps.size * n for n in (1, 3, 5)], 1))
    score = peaks(maps.heatmap.sigmoid())[0]
    order = sorted(np.ndindex(*score.shape), key=lambda cell: -score[cell].item())[:k]
    boxes, scores, labels = top_boxes(maps, stride=4, top_k=k)
    for i, (c, y, x) in enumerate(order):
        if score[c, y, x] == 0:
            break
        first = 2 * c if size_per_class else 0
        w, h = maps.size[0, first : first + 2, y, x].tolist()
        cx, cy = (maps.offset[0, :, y, x] + torch.tensor((x, y))).tolist()
        expected = [4 * v for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]
        assert labels[0, i] == c
        np.testing.assert_allclose(boxes[0, i], expected, rtol=1e-4, atol=1e-4)
        assert torch.isclose(scores[0, i], score[c, y, x])


@given(seeds)
def test_nms_leaves_no_overlapping_pair_of_a_class_and_drops_nothing_else(seed: int) -> None:
    from torchvision.ops import box_iou

    maps = random_maps(seed)
    for kept, everything in zip(decode(maps, nms_iou=0.4), decode(maps, nms_iou=1.0), strict=True):
        assert (kept.scores.diff() <= 0).all()
        same = kept.labels[:, None] == kept.labels[None]
        iou = box_iou(kept.boxes, kept.boxes).fill_diagonal_(0)
        assert (iou[same] <= 0.4).all()
        across = box_iou(everything.boxes, kept.boxes)
        across[everything.labels[:, None] != kept.labels[None]] = 0
        present = (everything.boxes[:, None] == kept.boxes[None]).all(2).any(1)
        assert ((across.amax(1) > 0.4) | present).all()


def test_a_batch_decodes_as_one_by_one() -> None:
    maps = random_maps(1, batch=3)
    maps = replace(maps, size=torch.cat([maps.size * n for n in (1, 3, 5)], 1))
    for index, together in enumerate(decode(maps)):
        part = slice(index, index + 1)
        alone = decode(Maps(maps.heatmap[part], maps.size[part], maps.offset[part]))[0]
        assert torch.equal(together.boxes, alone.boxes)
        assert torch.equal(together.scores, alone.scores)


def test_no_detection_is_dropped_for_a_low_score() -> None:
    maps = random_maps(2, batch=1)
    low = Maps(maps.heatmap - 30, maps.size, maps.offset)
    assert len(decode(low, top_k=10, nms_iou=1.0)[0].scores) == 10
