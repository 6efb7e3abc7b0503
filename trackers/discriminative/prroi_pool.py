"""Precise RoI pooling (Jiang et al., "Acquisition of localization confidence", ECCV 2018, section 3.3), without a compiled operator.

Each bin is the exact mean of the bilinearly interpolated map over it. Bilinear interpolation is separable, so the integral is two small
matrix products per box, and automatic differentiation gives its gradient with respect to the box.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def prroi_pool(features: Tensor, boxes_xyxy: Tensor, bins: int, scale: float) -> Tensor:
    """Mean of a feature map over a grid of `bins` x `bins` within each box; differentiable in the features and in the boxes.

    Cell (i, j) of the map lies at the coordinate (i, j): there is no offset of half a pixel, and a box ends at `x2`, not at `x2 + 1`.
    What lies outside the map counts as zero. A box without area gives zeros, and has no gradient.

    Args:
        features: `(B, C, H, W)`.
        boxes_xyxy: `(B, R, 4)`: the boxes to pool from each map, in pixels of the crop that the maps were computed from.
        bins: rows and columns of the grid.
        scale: cells of the map per pixel of the crop, 1 / stride.

    Returns:
        `(B, R, C, bins, bins)` in the type of the features.
    """
    # Bins may be far smaller than a cell, and their weights are differences: these few numbers get double precision where there is one.
    exact = boxes_xyxy.to(torch.float32 if boxes_xyxy.device.type == "mps" else torch.float64) * scale
    cells = range(max(features.shape[-2:]))
    if features.device.type == "cpu":  # a GPU is faster with the whole map than it is asked where the boxes are
        cells = _reached(exact, cells)
        features = features[..., cells.start : cells.stop, cells.start : cells.stop]
    # Both axes at once: there are few numbers, and what takes the time is to call the operators.
    weights: Tensor = _Weights.apply(exact[..., :2], exact[..., 2:], bins, cells)  # type: ignore[no-untyped-call]
    by_column, by_row = weights.to(features.dtype).unbind(2)
    rows, columns = features.shape[-2:]
    return torch.einsum("brph,bchw,brqw->brcpq", by_row[..., :rows], features, by_column[..., :columns])


def _reached(boxes_xyxy: Tensor, cells: range) -> range:
    """Those of the cells that count for some of the boxes along one of the axes, and at least one."""
    edges = boxes_xyxy.detach()
    least, most = torch.stack([edges[..., :2].amin(), edges[..., 2:].amax()]).nan_to_num().clamp(0, cells.stop).tolist()
    first = min(math.floor(least), cells.stop - 1)
    return range(first, max(min(math.ceil(most) + 1, cells.stop), first + 1))


class _Weights(torch.autograd.Function):
    """`(..., bins, cells)`: the share of each cell in the mean over each of the equal bins between two coordinates `(...)`.

    With its derivative written out, because autograd would record so many operators on so few numbers that calling them takes most of the
    time. Where an edge of a bin lies exactly on a cell, that cell counts twice in it: the original operator's does so too, and its
    box refinement is reproduced to the digit. Everywhere else it is exact.
    """

    @staticmethod
    def forward(ctx: Any, start: Tensor, end: Tensor, bins: int, cells: range) -> Tensor:  # noqa: ANN401
        numbers = torch.arange(bins + 1, device=start.device, dtype=start.dtype)[:, None]
        length = ((end - start).clamp(min=0.0) / bins)[..., None, None]
        edges = start[..., None, None] + length * numbers
        distance = edges - torch.arange(cells.start, cells.stop, device=start.device, dtype=start.dtype)
        kernel = (1.0 - distance.abs()).clamp(min=0.0)  # of the interpolation
        tail = 0.5 * kernel.square()
        integral = torch.where(distance > 0.0, 1.0 - tail, tail)
        per_length = length.reciprocal().masked_fill(length == 0.0, 0.0)
        mean = integral.diff(dim=-2) * per_length
        if any(ctx.needs_input_grad[:2]):
            slope = kernel + (distance == 0.0)
            moved = slope * (numbers / bins)
            by_length = mean / bins
            ctx.save_for_backward(
                ((slope - moved).diff(dim=-2) + by_length) * per_length,
                (moved.diff(dim=-2) - by_length) * per_length,
            )
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        by_start, by_end = ctx.saved_tensors
        return (gradient * by_start).sum((-2, -1)), (gradient * by_end).sum((-2, -1)), None, None
