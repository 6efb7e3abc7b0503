"""A one-dimensional correlation filter over scales (Danelljan et al., "Discriminative scale space tracking", TPAMI 2017)."""

import math

import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB

from .features import CELL_PX, Array, gradient_cells
from .reduction import sample_window


class ScaleFilter:
    """Which of a few neighbouring scales the target has now.

    Args:
        target_wh: size of the box at zoom 1.
        count: number of scales (odd).
        step: ratio between neighbours.
        model_px: size (square root of the area) to which the box is resampled.
    """

    regularisation = 1e-2
    rate = 0.025

    def __init__(self, target_wh: NDArray[np.float64], count: int, step: float, model_px: float = 32.0) -> None:
        exponents = np.arange(count) - count // 2
        self._factors = step ** exponents.astype(np.float64)
        self._target_wh = target_wh.copy()
        size = np.maximum(np.round(target_wh * model_px / math.sqrt(float(target_wh.prod())) / CELL_PX), 2).astype(int) * CELL_PX
        self._size_px = (int(size[0]), int(size[1]))
        sigma = count / math.sqrt(count) / 4.0
        wanted = np.exp(-np.square(exponents) / (2.0 * sigma**2))
        self._wanted = np.fft.rfft(np.fft.ifftshift(wanted)).astype(np.complex64)
        self._taper = np.hanning(count + 2)[1:-1].astype(np.float32)
        self._numerator: NDArray[np.complex64] | None = None
        self._denominator: Array

    def detect(self, image_rgb: ImageRGB, center: NDArray[np.float64], zoom: float) -> float:
        """Factor by which the target grew since the last `learn`, without which there is nothing to compare with."""
        assert self._numerator is not None
        spectrum = self._spectrum(image_rgb, center, zoom)
        product = (np.conj(self._numerator) * spectrum).sum(axis=0) / (self._denominator + self.regularisation * len(spectrum))
        response = np.fft.fftshift(np.fft.irfft(product, n=len(self._factors)))
        return float(self._factors[int(response.argmax())])

    def learn(self, image_rgb: ImageRGB, center: NDArray[np.float64], zoom: float) -> None:
        """Running average towards what the target looks like at this zoom and its neighbours."""
        spectrum = self._spectrum(image_rgb, center, zoom)
        numerator, denominator = np.conj(self._wanted) * spectrum, np.square(np.abs(spectrum)).sum(axis=0)
        if self._numerator is None:
            self._numerator, self._denominator = numerator, denominator
            return
        self._numerator += np.float32(self.rate) * (numerator - self._numerator)
        self._denominator += np.float32(self.rate) * (denominator - self._denominator)

    def _spectrum(self, image_rgb: ImageRGB, center: NDArray[np.float64], zoom: float) -> NDArray[np.complex64]:
        """Spectrum over the scales of every feature, `(features, count // 2 + 1)`. The patches are stacked: one pass makes all features."""
        width, height = self._size_px
        stack = np.empty((height * len(self._factors), width, 3), np.uint8)
        for index, factor in enumerate(self._factors):
            size = self._target_wh * zoom * factor
            origin, scale = center - size / 2.0, np.array(self._size_px) / size
            stack[index * height : (index + 1) * height] = sample_window(image_rgb, origin, scale, self._size_px)
        cells = gradient_cells(stack)
        rows = height // CELL_PX
        by_scale = cells.reshape(len(cells), len(self._factors), rows, -1).swapaxes(1, 2).swapaxes(2, 3).reshape(-1, len(self._factors))
        return np.asarray(np.fft.rfft(by_scale * self._taper), dtype=np.complex64)
