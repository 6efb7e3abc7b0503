"""Cell features for correlation filters: oriented gradients and colour histograms."""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

CELL_PX = 4
ORIENTATIONS = 18
HISTOGRAM_BINS = 16

Array = NDArray[np.float32]


def gradient_cells(patch_rgb: NDArray[np.uint8]) -> Array:
    """Histograms of oriented gradients after Felzenszwalb et al. (TPAMI 2010), with one normalisation instead of four.

    Args:
        patch_rgb: `(4 h, 4 w, 3) uint8`.

    Returns:
        `(28, h, w) float32`: 18 directions, 9 directions without sign, and the mean grey value in [-0.5, 0.5].
    """
    grey = cv2.cvtColor(patch_rgb, cv2.COLOR_RGB2GRAY)
    dx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1, borderType=cv2.BORDER_REPLICATE)
    magnitude, angle = cv2.cartToPolar(dx, dy)
    rows, columns = grey.shape[0] // CELL_PX, grey.shape[1] // CELL_PX
    position = angle.ravel() * np.float32(ORIENTATIONS / (2.0 * np.pi))
    lower = position.astype(np.int32)
    share = (position - lower) * magnitude.ravel()
    cell = _cell_index(rows, columns)
    lower %= ORIENTATIONS
    upper = (lower + 1) % ORIENTATIONS
    length = rows * columns * ORIENTATIONS
    signed = np.bincount(lower * (rows * columns) + cell, weights=magnitude.ravel() - share, minlength=length)
    signed += np.bincount(upper * (rows * columns) + cell, weights=share, minlength=length)
    directions = signed.reshape(ORIENTATIONS, rows, columns).astype(np.float32)
    unsigned = directions[: ORIENTATIONS // 2] + directions[ORIENTATIONS // 2 :]
    energy = cv2.blur(np.square(unsigned).sum(axis=0), (3, 3), borderType=cv2.BORDER_REPLICATE)
    norm = 1.0 / np.sqrt(energy + 16.0)
    cells = np.empty((ORIENTATIONS + ORIENTATIONS // 2 + 1, rows, columns), np.float32)
    cells[:ORIENTATIONS] = np.minimum(directions * norm, 0.4)
    cells[ORIENTATIONS:-1] = np.minimum(unsigned * norm, 0.4)
    cells[-1] = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA) * np.float32(1.0 / 255.0) - np.float32(0.5)
    return cells


@functools.lru_cache(maxsize=32)
def _cell_index(rows: int, columns: int) -> NDArray[np.int32]:
    grid = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    index = np.repeat(np.repeat(grid, CELL_PX, axis=0), CELL_PX, axis=1).ravel()
    index.setflags(write=False)  # shared by all callers
    return index


def colour_bins(patch_rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The index of each pixel's colour bin in [0, 4096), `(h, w) int32`."""
    bins = (patch_rgb >> 4).astype(np.int32)
    return np.asarray((bins[..., 0] << 8) | (bins[..., 1] << 4) | bins[..., 2], dtype=np.int32)


def colour_histogram(bins: NDArray[np.int32], weights: NDArray[np.float32]) -> Array:
    """Weighted share of each bin, `(4096,) float32`, sum 1."""
    counts = np.bincount(bins.ravel(), weights=weights.ravel(), minlength=HISTOGRAM_BINS**3)
    return np.asarray(counts / max(float(counts.sum()), 1e-6), dtype=np.float32)


class ColourModel:
    """Which colours are the target's and which its surroundings' (Bertinetto et al., Staple, CVPR 2016, section 3.3)."""

    def __init__(self, bins: NDArray[np.int32], inside: Array, outside: Array) -> None:
        self._target = colour_histogram(bins, inside)
        self._rest = colour_histogram(bins, outside)

    def learn(self, bins: NDArray[np.int32], inside: Array, outside: Array, rate: float) -> None:
        """Move both histograms towards those of this patch; `inside` and `outside` are weights `(h, w)`."""
        self._target += np.float32(rate) * (colour_histogram(bins, inside) - self._target)
        self._rest += np.float32(rate) * (colour_histogram(bins, outside) - self._rest)

    def likelihood(self, bins: NDArray[np.int32]) -> Array:
        """Probability `(h, w) float32` that a pixel of this colour is the target's; 0.5 for colours never seen."""
        table = (self._target + np.float32(1e-5)) / (self._target + self._rest + np.float32(2e-5))
        return np.asarray(table[bins], dtype=np.float32)
