"""A correlation filter on gradients merged with a colour-histogram score, with its own scale filter.

After Bertinetto et al., "Staple" (CVPR 2016), and Danelljan et al., "Discriminative scale space tracking" (TPAMI 2017), written from the
papers; sampling always goes to windows of fixed size, so the cost does not depend on the frame or the target.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy
from sftrack.contracts import BoxXYWH, ImageRGB

from .appearance import Appearance
from .base import BoxTracker, check_counts, check_numbers
from .features import CELL_PX, Array, ColourModel, colour_bins, gradient_cells
from .reduction import sample_window
from .registry import register
from .scale import ScaleFilter


@register("dcf")
class DCF(BoxTracker):
    """See the module.

    Args:
        window_px: size (square root of the area) of the resampled search window; the cost grows with its square.
        padding: the window is the box plus `padding` times its mean side.
        rate: how fast the filter follows the target, per frame.
        colour_rate: the same for the colour histograms.
        colour_share: weight of the colour score in the merged response, in [0, 1].
        output_sigma: width of the wanted peak, in target sizes.
        scales: number of scales that are tried; 1 keeps the size.
        scale_step: ratio between neighbouring scales.
        min_score: clearness of the peak, compared with the usual one, below which the models are not updated.
        constraint: iterations by which the filter is confined to the box (Lukezic et al., CVPR 2017); 0 is the plain filter. A confined
            filter can use a larger window (padding) without learning the surroundings.
    """

    regularisation = 1e-3

    def __init__(
        self,
        *,
        window_px: float = 128.0,
        padding: float = 1.5,
        rate: float = 0.012,
        colour_rate: float = 0.04,
        colour_share: float = 0.3,
        output_sigma: float = 1.0 / 16.0,
        scales: int = 17,
        scale_step: float = 1.03,
        min_score: float = 0.5,
        constraint: int = 0,
    ) -> None:
        check_numbers(window_px=(window_px, 8, math.inf), padding=(padding, 0, math.inf), output_sigma=(output_sigma, 1e-3, math.inf))
        check_numbers(rate=(rate, 0, 1), colour_rate=(colour_rate, 0, 1), colour_share=(colour_share, 0, 1), min_score=(min_score, 0, 1))
        check_numbers(scale_step=(scale_step, 1, 2))
        check_counts(scales=(scales, 1), constraint=(constraint, 0))
        self._window_px, self._padding, self._rate, self._colour_rate = window_px, padding, rate, colour_rate
        self._colour_share, self._output_sigma, self._min_score = colour_share, output_sigma, min_score
        self._scales, self._scale_step, self._constraint = scales, scale_step, constraint

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        area_wh = box_xywh[2:] + self._padding * box_xywh[2:].mean()
        scale = self._window_px / math.sqrt(float(area_wh.prod()))
        cells = np.maximum(2 * np.round(area_wh * scale / CELL_PX / 2.0), 8).astype(int)
        self._cells_wh = (int(cells[0]), int(cells[1]))
        self._size_px = (self._cells_wh[0] * CELL_PX, self._cells_wh[1] * CELL_PX)
        self._start_wh, self._area_wh = box_xywh[2:].copy(), area_wh
        self._center, self._zoom = center_xy(box_xywh), 1.0
        self._usual_ratio: float | None = None
        target_cells = box_xywh[2:] / area_wh * cells
        self._wanted = _gaussian_spectrum(self._cells_wh, self._output_sigma * math.sqrt(float(target_cells.prod())))
        self._taper = _hann(self._cells_wh)
        self._box_mask = _box_mask(self._cells_wh, target_cells)
        self._target_px = np.maximum(np.round(box_xywh[2:] / area_wh * self._size_px), 4).astype(int)
        self._inside, self._outside = self._regions()
        self._scale = ScaleFilter(box_xywh[2:], self._scales, self._scale_step) if self._scales > 1 else None
        self._appearance = Appearance(image_rgb, box_xywh)
        self._learn(image_rgb, is_first=True)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        patch = self._window(image_rgb)
        response, score = self._filter_response(patch)
        if self._colour_share > 0:
            response = (1 - self._colour_share) * response + self._colour_share * self._colour_response(patch)
        shift = _peak(response) - np.array(self._cells_wh) // 2
        self._center = self._center + shift * self._area_wh * self._zoom / self._cells_wh
        assert self._size_wh is not None
        self._center = np.clip(self._center, 0.0, np.array(self._size_wh, dtype=np.float64))
        if score >= self._min_score:
            if self._scale is not None:
                self._zoom = self._limited(self._zoom * self._scale.detect(image_rgb, self._center, self._zoom))
            self._learn(image_rgb, is_first=False)
        box = box_around(self._center, self._start_wh * self._zoom)
        # A filter that learned the background has a clear peak as well: only the look of the box tells.
        return box, score * self._appearance.score(image_rgb, box)

    def _limited(self, zoom: float) -> float:
        """The zoom kept such that the box is at least 4 pixels and at most the frame."""
        assert self._size_wh is not None
        smallest, largest = 4.0 / float(self._start_wh.min()), float((np.array(self._size_wh) / self._start_wh).max())
        return float(np.clip(zoom, min(smallest, 1.0), max(largest, 1.0)))

    def _window(self, image_rgb: ImageRGB) -> NDArray[np.uint8]:
        area = self._area_wh * self._zoom
        return sample_window(image_rgb, self._center - area / 2.0, np.array(self._size_px) / area, self._size_px)

    def _regions(self) -> tuple[Array, Array]:
        """Weights of the pixels for the target's histogram (the box's core) and its surroundings' (outside the box)."""
        height, width = self._size_px[1], self._size_px[0]
        x = np.abs(np.arange(width) + 0.5 - width / 2.0) / (self._target_px[0] / 2.0)
        y = np.abs(np.arange(height) + 0.5 - height / 2.0) / (self._target_px[1] / 2.0)
        reach = np.maximum(x[None, :], y[:, None])
        return (reach < 0.8).astype(np.float32), (reach > 1.1).astype(np.float32)

    def _spectrum(self, patch: NDArray[np.uint8]) -> NDArray[np.complex64]:
        return np.asarray(np.fft.rfft2(gradient_cells(patch) * self._taper), dtype=np.complex64)

    def _learn(self, image_rgb: ImageRGB, *, is_first: bool) -> None:
        """Running averages of the filter's numerator and denominator (Staple, equations 13 and 14) and of the histograms."""
        patch = self._window(image_rgb)
        spectrum = self._spectrum(patch)
        if self._constraint:
            numerator, denominator = self._confined(spectrum), np.ones(spectrum.shape[1:], np.float32)
        else:
            numerator, denominator = np.conj(self._wanted) * spectrum, np.square(np.abs(spectrum)).sum(axis=0)
        bins = colour_bins(patch)
        if is_first:
            self._numerator, self._denominator = numerator, denominator
            self._colours = ColourModel(bins, self._inside, self._outside)
        else:
            self._numerator += np.float32(self._rate) * (numerator - self._numerator)
            self._denominator += np.float32(self._rate) * (denominator - self._denominator)
            self._colours.learn(bins, self._inside, self._outside, self._colour_rate)
        if self._scale is not None:
            self._scale.learn(image_rgb, self._center, self._zoom)

    def _confined(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Filters that are zero outside the box, by alternating directions (Lukezic et al., equations 9 to 12), each scaled by its peak."""
        cross, power = np.conj(self._wanted) * spectrum, np.square(np.abs(spectrum))
        penalty, growth, ridge = np.float32(5.0), 3.0, np.float32(0.05)
        confined = self._masked(np.asarray(cross / (power + ridge), dtype=np.complex64))
        multiplier = np.zeros_like(confined)
        for _ in range(self._constraint):
            free = (cross + penalty * confined - multiplier) / (power + penalty)
            confined = self._masked(np.asarray((multiplier + penalty * free) / (ridge + penalty), dtype=np.complex64))
            multiplier += penalty * (free - confined)
            penalty = np.float32(penalty * growth)
        peaks = np.fft.irfft2(np.conj(confined) * spectrum, s=self._cells_wh[::-1]).max(axis=(1, 2))
        weights = np.maximum(peaks, 0.0).astype(np.float32)
        return np.asarray(confined * (weights / max(float(weights.sum()), 1e-6))[:, None, None], dtype=np.complex64)

    def _masked(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        filters = np.fft.irfft2(spectrum, s=self._cells_wh[::-1]) * self._box_mask
        return np.asarray(np.fft.rfft2(filters), dtype=np.complex64)

    def _filter_response(self, patch: NDArray[np.uint8]) -> tuple[Array, float]:
        """Response per cell, centred, and the score made of its peak-to-sidelobe ratio."""
        spectrum = self._spectrum(patch)
        energy = self._denominator if self._constraint else self._denominator + np.float32(self.regularisation * spectrum[0].size)
        product = (np.conj(self._numerator) * spectrum).sum(axis=0) / energy
        response = np.fft.fftshift(np.fft.irfft2(product, s=self._cells_wh[::-1])).astype(np.float32)
        return response, self._relative_score(sidelobe_ratio(response))

    def _relative_score(self, ratio: float) -> float:
        """How clear the peak is in comparison with what is usual for this target: 1 as usual or better, 0 at the ratio of noise.

        The usual ratio follows slowly also downwards, so that a lasting change of appearance does not stop the learning for ever.
        """
        noise = 3.0
        if self._usual_ratio is None:
            self._usual_ratio = max(ratio, 2.0 * noise)
        score = float(np.clip((ratio - noise) / (self._usual_ratio - noise), 0.0, 1.0))
        self._usual_ratio = max(self._usual_ratio + 0.03 * (ratio - self._usual_ratio), 2.0 * noise)
        return score

    def _colour_response(self, patch: NDArray[np.uint8]) -> Array:
        """Mean likelihood inside the box for every place of its centre, per cell."""
        likelihood = self._colours.likelihood(colour_bins(patch))
        size = (int(self._target_px[0]) | 1, int(self._target_px[1]) | 1)
        mean = cv2.blur(likelihood, size, borderType=cv2.BORDER_REPLICATE)
        # Sampled where the filter's response has its values: cell c has its centre at pixel CELL_PX * (c - n / 2) from the window's centre.
        columns = np.arange(self._cells_wh[0]) * CELL_PX
        rows = np.arange(self._cells_wh[1]) * CELL_PX
        return np.asarray(mean[rows[:, None], columns[None, :]], dtype=np.float32)


def sidelobe_ratio(response: Array) -> float:
    """Peak-to-sidelobe ratio (Bolme et al., CVPR 2010): the height of the peak over the mean of the rest, in its standard deviations."""
    row, column = np.unravel_index(int(response.argmax()), response.shape)
    keep = np.ones(response.shape, dtype=np.bool_)
    keep[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = False
    rest = response[keep]
    if rest.size < 8:
        return 0.0
    return (float(response[row, column]) - float(rest.mean())) / (float(rest.std()) + 1e-6)


def _peak(response: Array) -> NDArray[np.float64]:
    """Column and row of the maximum, refined by a parabola through its neighbours."""
    row, column = (int(value) for value in np.unravel_index(int(response.argmax()), response.shape))
    refined = [float(column), float(row)]
    for axis, (line, index) in enumerate(((response[row], column), (response[:, column], row))):
        if 0 < index < len(line) - 1:
            before, here, after = (float(line[index + offset]) for offset in (-1, 0, 1))
            curvature = before - 2.0 * here + after
            refined[axis] += 0.5 * (before - after) / curvature if curvature < -1e-9 else 0.0
    return np.array(refined)


def _gaussian_spectrum(cells_wh: tuple[int, int], sigma: float) -> NDArray[np.complex64]:
    x = np.arange(cells_wh[0]) - cells_wh[0] // 2
    y = np.arange(cells_wh[1]) - cells_wh[1] // 2
    peak = np.exp(-(np.square(x)[None, :] + np.square(y)[:, None]) / (2.0 * sigma**2))
    return np.asarray(np.fft.rfft2(np.fft.ifftshift(peak)), dtype=np.complex64)


def _hann(cells_wh: tuple[int, int]) -> Array:
    return np.outer(np.hanning(cells_wh[1] + 2)[1:-1], np.hanning(cells_wh[0] + 2)[1:-1]).astype(np.float32)


def _box_mask(cells_wh: tuple[int, int], target_cells: NDArray[np.float64]) -> Array:
    x = np.abs(np.arange(cells_wh[0]) + 0.5 - cells_wh[0] / 2.0) <= max(float(target_cells[0]) / 2.0, 1.0)
    y = np.abs(np.arange(cells_wh[1]) + 0.5 - cells_wh[1] / 2.0) <= max(float(target_cells[1]) / 2.0, 1.0)
    return np.outer(y, x).astype(np.float32)
