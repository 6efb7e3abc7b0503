"""Precise RoI pooling (Jiang et al., "Acquisition of localization confidence", ECCV 2018, section 3.3), without a compiled operator.

Each bin is the exact mean of the bilinearly interpolated map over it. Bilinear interpolation is separable, so the integral is two small
matrix products per box, and automatic differentiation gives its gradient with respect to the box.
"""

import math

import torch
from torch import Tensor


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
    x1, y1, x2, y2 = exact.unbind(-1)
    rows, columns = range(features.shape[-2]), range(features.shape[-1])
    if features.device.type == "cpu":  # a GPU is faster with the whole map than it is asked where the boxes are
        rows, columns = _reached(y1, y2, rows), _reached(x1, x2, columns)
        features = features[..., rows.start : rows.stop, columns.start : columns.stop]
    by_row, by_column = (_weights(*span, bins, cells).to(features.dtype) for span, cells in (((y1, y2), rows), ((x1, x2), columns)))
    return torch.einsum("brph,bchw,brqw->brcpq", by_row, features, by_column)


def _reached(start: Tensor, end: Tensor, cells: range) -> range:
    """Those of the cells that count for some of the boxes, and at least one."""
    least, most = torch.stack([start.detach().amin(), end.detach().amax()]).nan_to_num().clamp(0, cells.stop).tolist()
    first = min(math.floor(least), cells.stop - 1)
    return range(first, max(min(math.ceil(most) + 1, cells.stop), first + 1))


def _weights(start: Tensor, end: Tensor, bins: int, cells: range) -> Tensor:
    """`(B, R, bins, cells)`: the share of each cell in the mean over each of the equal bins between two coordinates `(B, R)`."""
    length = ((end - start).clamp(min=0.0) / bins)[..., None, None]
    edges = start[..., None, None] + length * torch.arange(bins + 1, device=start.device, dtype=start.dtype)[:, None]
    integral = _triangle_integral(edges - torch.arange(cells.start, cells.stop, device=start.device, dtype=start.dtype))
    empty = length == 0.0
    mean = (integral[..., 1:, :] - integral[..., :-1, :]) / length.masked_fill(empty, 1.0)
    return mean.masked_fill(empty, 0.0)


def _triangle_integral(u: Tensor) -> Tensor:
    """Integral of the interpolation kernel max(0, 1 - |t|) from minus infinity to `u`.

    Where `u` is exactly 0, an edge of a bin on a cell, automatic differentiation passes through both of the clamps and counts that cell
    twice. The original operator does so too, and its box refinement is reproduced to the digit; everywhere else the derivative is exact.
    """
    rising, falling = u.clamp(-1.0, 0.0) + 1.0, 1.0 - u.clamp(0.0, 1.0)
    return 0.5 * rising.square() + 0.5 * (1.0 - falling.square())
