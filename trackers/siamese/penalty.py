"""How a Siamese tracker chooses among its candidate boxes: likeness of shape to the last box, and a window that prefers the middle.

Candidates are `(4, N) float32`: x and y of the centre relative to the middle of the search crop, width and height, in pixels of the crop.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", float, NDArray[np.float32], NDArray[np.float64])


def hann_window(size: int) -> NDArray[np.float64]:
    """Outer product of two Hann windows, `(size * size,)`, row by row; zero along the border."""
    return np.outer(np.hanning(size), np.hanning(size)).ravel()


def grid_points(size: int, stride: int) -> NDArray[np.float32]:
    """Where the cells of a score map lie in the search crop, relative to its middle: `(size * size, 2) float32`, x and y, row by row."""
    offsets = (np.arange(size) - size // 2) * stride
    x, y = np.meshgrid(offsets, offsets)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def boxes_from_distances(points: NDArray[np.float32], distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Candidates `(4, N)` from points `(N, 2)` and the distances `(4, N)` to the left, top, right and bottom edge."""
    x0, y0 = points[:, 0] - distances[0], points[:, 1] - distances[1]
    x1, y1 = points[:, 0] + distances[2], points[:, 1] + distances[3]
    with np.errstate(invalid="ignore"):  # infinite distances; the procedure takes no box that is not finite
        return np.stack([(x0 + x1) * np.float32(0.5), (y0 + y1) * np.float32(0.5), x1 - x0, y1 - y0])


def context_side(width: Real, height: Real) -> Real:
    """Side of the square that holds a box with its surroundings: half of width plus height is added to each side.

    It is also the measure of size in `shape_penalty`.
    """
    margin = (width + height) * 0.5
    area: Real = (width + margin) * (height + margin)
    side: Real = area**0.5
    return side


def shape_penalty(candidates: NDArray[np.float32], size_wh: NDArray[np.float64], penalty_k: float) -> NDArray[np.float64]:
    """Factor in (0, 1] of each candidate, `(N,)`: 1 where size and aspect ratio are those of `size_wh` (in pixels of the crop)."""
    width, height = candidates[2], candidates[3]
    size_change = _change(context_side(width, height) / context_side(size_wh[0], size_wh[1]))
    ratio_change = _change((size_wh[0] / size_wh[1]) / (width / height))
    return np.asarray(np.exp(-(ratio_change * size_change - 1.0) * penalty_k), dtype=np.float64)


def _change(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratio, 1.0 / ratio)


@dataclass(frozen=True)
class Choice:
    """The best candidate.

    Attributes:
        index: its number n.
        score: its own score, without penalty and window.
        penalty: its `shape_penalty`.
        total: what it was chosen by.
    """

    index: int
    score: float
    penalty: float
    total: float


def choose(
    scores: NDArray[np.float32],
    penalties: NDArray[np.float64],
    window: NDArray[np.float64],
    window_influence: float,
) -> Choice:
    """The first candidate of the highest total `penalty * score * (1 - influence) + influence * window`; all arrays are `(N,)`."""
    totals = penalties * scores * (1.0 - window_influence) + window_influence * window
    best = int(totals.argmax())
    return Choice(best, float(scores[best]), float(penalties[best]), float(totals[best]))
