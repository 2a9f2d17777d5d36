import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centernet.losses import HEATMAP_LOSSES, SIZE_LOSSES, Counts, l1, losses
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
    label = torch.randint(0, 3, mask.shape, generator=generator)
    target = Maps(heatmap, draw(2).exp(), torch.rand(2, 2, 5, 7, generator=generator), mask, label)
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


@pytest.mark.parametrize("name", HEATMAP_LOSSES)
@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 20))
def test_every_heatmap_loss_equals_a_slow_reference(name: str, seed: int, objects: int) -> None:
    predicted, target = random_maps(seed, objects=objects)
    expected = slow_focal(predicted.heatmap, target.heatmap)
    ours = losses(predicted, target, heatmap=name)["heatmap"].item()
    assert ours == pytest.approx(expected, rel=1e-4)


LOGITS = [z for size in (0, 1, 5, 9, 9.3, 12, 20, 50) for z in (-size, size)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
@pytest.mark.parametrize("name", HEATMAP_LOSSES)
def test_extreme_logits_have_a_finite_gradient_in_the_right_direction(
    name: str, dtype: torch.dtype, alpha: float
) -> None:
    logits = torch.tensor(LOGITS, dtype=dtype).repeat(2, 1).requires_grad_()
    target = torch.tensor([1.0, 0.0])[:, None].expand(2, len(LOGITS))
    loss = HEATMAP_LOSSES[name](logits, target, alpha=alpha)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
    up, down = logits.grad
    assert (up <= 0).all() and (down >= 0).all()  # a peak rises, the rest falls
    wrong = logits[0] < -9.5, logits[1] > 9.5  # far beyond the clamp, where the most is to learn
    for gradient, mistaken in zip((up, down), wrong, strict=True):
        pull = gradient[mistaken].abs()
        assert (pull > 0.9).all() if name == "logits" else not pull.any()


def test_the_network_under_autocast_learns_from_extreme_logits() -> None:
    layer = torch.nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(60.0)
    for name in HEATMAP_LOSSES:
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = layer(torch.tensor([[[[-1.0, 1.0, 0.0]]]]))
        HEATMAP_LOSSES[name](logits, torch.tensor([[[[1.0, 0.0, 0.5]]]])).backward()
        assert logits.dtype == torch.bfloat16
        assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()
        assert (layer.weight.grad != 0).all() == (name == "logits")


def test_l1_is_the_mean_over_both_components_of_the_objects() -> None:
    predicted, target = random_maps(3, objects=4)
    assert target.mask is not None
    rows = [
        (predicted.size - target.size).abs()[b, :, y, x]
        for b, _, y, x in target.mask.nonzero().tolist()
    ]
    expected = torch.cat(rows).mean()
    assert torch.allclose(l1(predicted.size, target.size, target.mask) / len(rows), expected)
    assert torch.allclose(losses(predicted, target)["size"], expected)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_every_iou_equals_torchvisions(name: str, seed: int) -> None:
    from torchvision import ops

    theirs = {
        "giou": ops.generalized_box_iou_loss,
        "diou": ops.distance_box_iou_loss,
        "ciou": ops.complete_box_iou_loss,
    }
    predicted, target = random_maps(seed, objects=9)
    assert target.mask is not None

    def boxes(maps: Maps) -> torch.Tensor:
        size, offset = (t.permute(0, 2, 3, 1).reshape(-1, 2) for t in (maps.size, maps.offset))
        return torch.cat([offset - size / 2, offset + size / 2], 1)[target.mask.flatten() > 0]  # type: ignore[union-attr]

    expected = theirs[name](boxes(predicted), boxes(target), reduction="mean")
    assert torch.allclose(
        losses(predicted, target, size_loss=name)["size"], expected, rtol=1e-4, atol=1e-4
    )


def part(maps: Maps, index: int) -> Maps:
    return Maps(*(None if t is None else t[index : index + 1] for t in astuple(maps)))


def astuple(maps: Maps) -> list[torch.Tensor | None]:
    return [maps.heatmap, maps.size, maps.offset, maps.mask, maps.label]


@pytest.mark.parametrize("planes", [2, 6])
@pytest.mark.parametrize("size_loss", SIZE_LOSSES)
def test_the_losses_of_a_batch_are_those_of_its_images_one_by_one(
    size_loss: str, planes: int
) -> None:
    predicted, target = random_maps(11, objects=9)
    predicted = replace(predicted, size=torch.randn(2, planes, 5, 7).exp())
    counts = Counts.of(target)
    together = losses(predicted, target, size_loss=size_loss)
    alone = [
        losses(part(predicted, i), part(target, i), size_loss=size_loss, counts=counts)
        for i in range(2)
    ]
    for name, term in together.items():
        assert torch.allclose(term, alone[0][name] + alone[1][name], rtol=1e-5)


def test_a_class_specific_size_is_that_of_the_objects_class_and_no_other_learns() -> None:
    predicted, target = random_maps(12, objects=9)
    assert target.mask is not None and target.label is not None
    size = torch.randn(2, 6, 5, 7).exp().requires_grad_()
    loss = losses(replace(predicted, size=size), target)["size"]
    expected = torch.stack([
        (size[b, 2 * c : 2 * c + 2, y, x] - target.size[b, :, y, x]).abs().mean()
        for b, _, y, x in target.mask.nonzero().tolist()
        for c in [int(target.label[b, 0, y, x])]
    ]).mean()  # fmt: skip
    assert torch.allclose(loss, expected)
    loss.backward()
    assert size.grad is not None
    taught = size.grad.view(2, 3, 2, 5, 7).abs().sum(2) > 0
    at = torch.nn.functional.one_hot(target.label[:, 0], 3).permute(0, 3, 1, 2) * target.mask
    assert torch.equal(taught, at > 0)


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
