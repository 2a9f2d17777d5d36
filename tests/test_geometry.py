import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from centernet.geometry import PADDING, fit, place, to_network, to_original

side = st.integers(1, 3000)


@given(side, side, st.booleans(), st.integers(0, 2**31))
def test_to_original_undoes_to_network(H: int, W: int, letterbox: bool, seed: int) -> None:
    placement = fit((H, W), (256, 384), letterbox=letterbox)
    points = torch.rand(20, 2, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor(
        (W, H)
    )
    boxes = torch.cat([points.amin(1), points.amax(1)], 1)
    back = to_original(to_network(boxes, placement), placement)
    assert (back - boxes).abs().max() < 1e-3


@given(side, side)
def test_letterbox_keeps_the_aspect_ratio_and_fits(H: int, W: int) -> None:
    placement = fit((H, W), (256, 384), letterbox=True)
    h, w = placement.resized
    assert h <= 256 and w <= 384
    assert h == 256 or w == 384
    if min(h, w) > 1:
        assert abs(h / w - H / W) / (H / W) < 1 / min(h, w)


def test_place_pads_right_and_below_with_grey() -> None:
    placement = fit((50, 100), (64, 64), letterbox=True)
    canvas = place(np.full((50, 100, 3), 200, np.uint8), placement)
    assert placement.resized == (32, 64)
    assert (canvas[:32] == 200).all() and (canvas[32:] == PADDING).all()


def test_boxes_are_clipped_to_the_image() -> None:
    placement = fit((50, 100), (64, 64), letterbox=True)
    boxes = to_original(torch.tensor([[-9.0, -9, 999, 999]]), placement)
    assert boxes.tolist() == [[0, 0, 100, 50]]
