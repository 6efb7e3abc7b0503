"""Precise RoI pooling against its definition, against finite differences and against the fixtures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sftrack.trackers.discriminative.prroi_pool import prroi_pool
from tests.discriminative import Fixtures, assert_close

SIDE = 9


def interpolated(feature: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A map at the coordinates `y` times `x`, bilinear, zero outside."""
    rows = np.maximum(0.0, 1.0 - np.abs(y[:, None] - np.arange(feature.shape[0])))
    columns = np.maximum(0.0, 1.0 - np.abs(x[:, None] - np.arange(feature.shape[1])))
    return np.asarray(rows @ feature @ columns.T)


def bin_means(feature: np.ndarray, box_xyxy: tuple[float, ...], bins: int, samples: int = 400) -> np.ndarray:
    """The definition, integrated by the midpoint rule."""
    x1, y1, x2, y2 = box_xyxy
    middles = (np.arange(bins * samples) + 0.5) / (bins * samples)
    fine = interpolated(feature, y1 + (y2 - y1) * middles, x1 + (x2 - x1) * middles)
    return np.asarray(fine.reshape(bins, samples, bins, samples).mean(axis=(1, 3)))


def features(channels: int = 2, batch: int = 1, side: int = SIDE) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


corner = st.floats(-3.0, SIDE + 3.0)
side = st.floats(0.01, SIDE)


@settings(max_examples=40, deadline=None)
@given(x=corner, y=corner, width=side, height=side, bins=st.integers(1, 5), stride=st.sampled_from([1, 8, 16]))
def test_each_bin_is_the_mean_of_the_interpolated_map(x: float, y: float, width: float, height: float, bins: int, stride: int) -> None:
    maps, box = features(), (x, y, x + width, y + height)
    pooled = prroi_pool(maps, stride * torch.tensor([[box]], dtype=torch.float64), bins, 1 / stride)
    assert pooled.shape == (1, 1, 2, bins, bins)
    for channel in range(2):
        np.testing.assert_allclose(pooled[0, 0, channel], bin_means(maps[0, channel].numpy(), box, bins), atol=2e-4)


def test_a_constant_map_gives_the_constant_inside_and_zero_outside() -> None:
    boxes = torch.tensor([[[8.0, 8.0, 40.0, 40.0], [400.0, 400.0, 450.0, 450.0]]])
    pooled = prroi_pool(torch.full((1, 1, SIDE, SIDE), 3.0), boxes, 3, 1 / 8)
    torch.testing.assert_close(pooled[0, 0], torch.full((1, 3, 3), 3.0))
    assert not pooled[0, 1].any()


def test_boxes_belong_to_their_map_of_the_batch() -> None:
    maps = features(batch=3)
    boxes = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + torch.tensor([0.0, 0.0, 4.0, 4.0])
    pooled = prroi_pool(maps, boxes, 4, 1.0)
    for index in range(3):
        for box in range(2):
            alone = prroi_pool(maps[index : index + 1], boxes[index : index + 1, box : box + 1], 4, 1.0)
            torch.testing.assert_close(pooled[index, box], alone[0, 0])


def test_the_gradients_are_those_of_finite_differences() -> None:
    maps = features(channels=2, batch=2, side=6).requires_grad_()
    boxes = [[[1.2, 0.7, 4.9, 3.3], [-2.4, 2.2, 1.4, 9.6]], [[2.3, 2.4, 2.6, 2.9], [0.1, 3.7, 8.2, 4.4]]]
    assert torch.autograd.gradcheck(
        lambda maps, boxes: prroi_pool(maps, boxes, 3, 1.0), (maps, torch.tensor(boxes, dtype=torch.float64, requires_grad=True))
    )


@pytest.mark.parametrize("box", [[16.0, 16.0, 16.0, 40.0], [16.0, 16.0, 8.0, 40.0], [16.0, 16.0, 16.0, 16.0]])
def test_a_box_without_area_gives_zeros_and_no_gradient(box: list[float]) -> None:
    maps, boxes = features().requires_grad_(), torch.tensor([[box]], dtype=torch.float64, requires_grad=True)
    pooled = prroi_pool(maps, boxes, 3, 1 / 8)
    assert not pooled.any()
    for gradient in torch.autograd.grad(pooled.sum(), (maps, boxes)):
        assert not gradient.any()


def test_boxes_much_smaller_than_a_cell_keep_their_precision_in_single_precision() -> None:
    maps = features(side=36)
    box = torch.tensor([[[250.13, 250.37, 250.33, 250.47]]], dtype=torch.float64)
    exact = prroi_pool(maps, box.float().double(), 5, 1 / 8)
    torch.testing.assert_close(prroi_pool(maps.float(), box.float(), 5, 1 / 8).double(), exact, rtol=0, atol=1e-5)


CASES = [(8, 3), (8, 5), (16, 1), (16, 3), (16, 4)]


@pytest.mark.parametrize("family", ["atom18", "prdimp18"])
def test_equals_the_original(shared: Path, family: str) -> None:
    fixtures = Fixtures(shared, family)
    index, boxes = torch.from_numpy(fixtures["roi_boxes"][:, 0]).long(), torch.from_numpy(fixtures["roi_boxes"][:, 1:])
    for stride, bins in CASES:
        maps = fixtures.tensor(f"roi_feat{stride}", (2, 6, 288 // stride, 288 // stride)).requires_grad_()
        boxes = boxes.detach().requires_grad_()
        pooled = prroi_pool(maps[index], boxes[:, None], bins, 1 / stride)[:, 0]
        assert_close(pooled.detach(), fixtures[f"roi_pool_stride{stride}_{bins}x{bins}"])
        upstream = fixtures.tensor(f"roi_grad_{stride}_{bins}", tuple(pooled.shape))
        to_maps, to_boxes = torch.autograd.grad((pooled * upstream).sum(), (maps, boxes))
        assert_close(to_boxes, fixtures[f"roi_grad_boxes_stride{stride}_{bins}x{bins}"], 1e-3)
        if (stride, bins) == (16, 3):
            assert_close(to_maps, fixtures["roi_grad_feat_stride16_3x3"], 1e-3)
