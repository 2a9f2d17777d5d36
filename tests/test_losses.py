import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from centernet.losses import SIZE_LOSSES, focal, l1, losses, size_giou
from centernet.structures import Maps


def random_maps(seed: int, *, objects: int) -> tuple[Maps, Maps]:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> torch.Tensor:
        return torch.randn(2, channels, 5, 7, generator=generator)

    heatmap, mask = torch.rand(2, 3, 5, 7, generator=generator) * 0.99, torch.zeros(2, 1, 5, 7)
    for cell in torch.randperm(70, generator=generator)[:objects].tolist():
        b, y, x = cell // 35, cell % 35 // 7, cell % 7
        heatmap[b, cell % 3, y, x] = 1
        mask[b, 0, y, x] = 1
    target = Maps(heatmap, draw(2).exp(), torch.rand(2, 2, 5, 7, generator=generator), mask)
    return Maps(draw(3), draw(2).exp(), draw(2)), target


def slow_focal(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Equation 1 of the paper, a cell at a time, in double precision."""
    total, peaks = 0.0, 0
    for z, y in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = min(max(1 / (1 + math.exp(-z)), 1e-4), 1 - 1e-4)
        if y == 1:
            peaks += 1
            total -= (1 - p) ** 2 * math.log(p)
        else:
            total -= (1 - y) ** 4 * p**2 * math.log(1 - p)
    return total / max(peaks, 1)


@given(st.integers(0, 10**6), st.integers(0, 20))
def test_focal_equals_a_slow_reference(seed: int, objects: int) -> None:
    predicted, target = random_maps(seed, objects=objects)
    expected = slow_focal(predicted.heatmap, target.heatmap)
    assert focal(predicted.heatmap, target.heatmap).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logit", [-80.0, 80.0])
def test_focal_is_finite_for_extreme_half_precision_logits(
    dtype: torch.dtype, logit: float
) -> None:
    logits = torch.full((1, 1, 2, 2), logit, dtype=dtype, requires_grad=True)
    loss = focal(logits, torch.tensor([[[[1.0, 0.5], [0.0, 0.9]]]]))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_l1_is_the_mean_over_both_components_of_the_objects() -> None:
    predicted, target = random_maps(3, objects=4)
    assert target.mask is not None
    rows = [
        (predicted.size - target.size).abs()[b, :, y, x]
        for b, _, y, x in target.mask.nonzero().tolist()
    ]
    expected = torch.cat(rows).mean()
    assert torch.allclose(l1(predicted.size, target.size, target.mask), expected)


@given(st.integers(0, 10**6))
def test_giou_equals_torchvisions(seed: int) -> None:
    from torchvision.ops import generalized_box_iou_loss

    predicted, target = random_maps(seed, objects=9)
    assert target.mask is not None

    def boxes(maps: Maps) -> torch.Tensor:
        size, offset = (t.permute(0, 2, 3, 1).reshape(-1, 2) for t in (maps.size, maps.offset))
        return torch.cat([offset - size / 2, offset + size / 2], 1)[target.mask.flatten() > 0]  # type: ignore[union-attr]

    expected = generalized_box_iou_loss(boxes(predicted), boxes(target), reduction="mean")
    assert torch.allclose(size_giou(predicted, target, target.mask), expected, atol=1e-4)


@pytest.mark.parametrize("size_loss", SIZE_LOSSES)
def test_a_batch_without_objects_has_finite_losses_and_gradients(size_loss: str) -> None:
    predicted, target = random_maps(5, objects=0)
    for tensor in (predicted.heatmap, predicted.size, predicted.offset):
        tensor.requires_grad_()
    terms = losses(predicted, target, size_loss=size_loss)
    terms["total"].backward()
    assert terms["size"] == terms["offset"] == 0 < terms["heatmap"]
    assert predicted.size.grad is not None and not predicted.size.grad.any()


def test_a_perfect_prediction_costs_next_to_nothing_and_weights_weigh() -> None:
    _, target = random_maps(7, objects=6)
    heatmap = torch.where(target.heatmap == 1, 20.0, -20.0)
    perfect = Maps(heatmap, target.size, target.offset)
    terms = losses(perfect, target, size_loss="giou")
    assert max(terms.values()) < 1e-3
    predicted, _ = random_maps(8, objects=6)
    terms = losses(predicted, target, heatmap_weight=2.0, size_weight=3.0, offset_weight=5.0)
    total = 2 * terms["heatmap"] + 3 * terms["size"] + 5 * terms["offset"]
    np.testing.assert_allclose(terms["total"], total, rtol=1e-6)
