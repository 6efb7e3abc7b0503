"""Colour histograms of the target and its surroundings; the box is where the target's colours are, in any aspect ratio.

The likelihood is that of Possegger et al., "In defense of color-based model-free tracking" (CVPR 2015); the box is found by integral
images over a grid of places and sizes, so it can stretch, which no filter does.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy
from sftrack.contracts import BoxXYWH, ImageRGB

from .base import BoxTracker, check_numbers
from .features import Array, ColourModel, colour_bins
from .reduction import sample_window
from .registry import register


@register("colour")
class Colour(BoxTracker):
    """See the module.

    Args:
        target_px: size (square root of the area) of the box in the reduced picture.
        reach: half side of the window beyond the box, in box sizes.
        rate: how fast the histograms follow, per frame.
        size_step: relative change of width or height per frame that is tried.
        inertia: cost of moving by the box's own size, in shares of the score of a perfect box.
        threshold: likelihood above which a pixel speaks for being inside.
        size_cost: cost of another aspect than the start box's, times `size_step` and the logs of the ratios of width and height.
    """

    def __init__(
        self,
        *,
        target_px: float = 32.0,
        reach: float = 0.75,
        rate: float = 0.04,
        size_step: float = 0.04,
        inertia: float = 0.3,
        threshold: float = 0.5,
        size_cost: float = 1.0,
    ) -> None:
        check_numbers(target_px=(target_px, 8, math.inf), reach=(reach, 0, math.inf), inertia=(inertia, 0, math.inf))
        check_numbers(rate=(rate, 0, 1), size_step=(size_step, 0, 0.5), threshold=(threshold, 0, 1), size_cost=(size_cost, 0, math.inf))
        self._target_px, self._reach, self._rate = target_px, reach, rate
        self._size_step, self._inertia, self._threshold, self._size_cost = size_step, inertia, threshold, size_cost

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._start_wh = box_xywh[2:].copy()
        pixels, _, box = self._window(image_rgb, box_xywh)
        bins = colour_bins(pixels)
        self._model = ColourModel(bins, *_regions(box, bins.shape))
        likelihood = self._model.likelihood(bins)
        self._contrast = max(_contrast(likelihood, box), 0.05)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        pixels, scale, box = self._window(image_rgb, self._box)
        bins = colour_bins(pixels)
        likelihood = self._model.likelihood(bins)
        found = self._best_box(likelihood, box)
        contrast = _contrast(likelihood, found)
        score = float(np.clip(contrast / self._contrast, 0.0, 1.0))
        if score > 0.4:
            self._model.learn(bins, *_regions(found, bins.shape), self._rate)
        origin = center_xy(self._box) - np.array(bins.shape[::-1]) / scale / 2.0
        return np.concatenate([found[:2] / scale + origin, found[2:] / scale]), score

    def _window(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> tuple[NDArray[np.uint8], float, BoxXYWH]:
        """The reduced window around a box, its scale, and the box in it."""
        scale = self._target_px / math.sqrt(float(box_xywh[2:].prod()))
        margin = 2.0 * self._reach * math.sqrt(float(box_xywh[2:].prod()))
        size = np.ceil((box_xywh[2:] + margin) * scale).astype(int)
        center = center_xy(box_xywh)
        pixels = sample_window(image_rgb, center - size / scale / 2.0, np.array([scale, scale]), (int(size[0]), int(size[1])))
        return pixels, scale, box_around(size / 2.0, box_xywh[2:] * scale)

    def _best_box(self, likelihood: Array, box: BoxXYWH) -> BoxXYWH:
        """The place and size with the highest sum of (likelihood - threshold), less the costs of moving and of changing size."""
        sums = np.asarray(cv2.integral(likelihood - np.float32(self._threshold), sdepth=cv2.CV_64F), dtype=np.float64)
        unit = float(box[2:].prod()) * 0.5
        best, best_value = box, -np.inf
        for grow_w in (-1, 0, 1):
            for grow_h in (-1, 0, 1):
                size = box[2:] * (1.0 + self._size_step * np.array([grow_w, grow_h]))
                place, value = self._best_place(sums, box, size, unit)
                value -= self._size_cost * self._size_step * float(np.abs(np.log(size / self._box_reference(box))).sum())
                if value > best_value:
                    best, best_value = place, value
        return best

    def _box_reference(self, box: BoxXYWH) -> NDArray[np.float64]:
        """The start box's aspect at the present area: what the size is drawn back to."""
        return self._start_wh * math.sqrt(float(box[2:].prod() / self._start_wh.prod()))

    def _best_place(self, sums: NDArray[np.float64], box: BoxXYWH, size: NDArray[np.float64], unit: float) -> tuple[BoxXYWH, float]:
        columns, rows = (max(2, round(float(value))) for value in size)
        if columns >= sums.shape[1] or rows >= sums.shape[0]:
            return box, -np.inf
        total = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
        center = center_xy(box)
        x = (np.arange(total.shape[1]) + columns / 2.0 - center[0]) / self._target_px
        y = (np.arange(total.shape[0]) + rows / 2.0 - center[1]) / self._target_px
        value = total / unit - self._inertia * (np.square(x)[None, :] + np.square(y)[:, None])
        row, column = np.unravel_index(int(value.argmax()), value.shape)
        place = np.array([column + columns / 2.0, row + rows / 2.0])
        return box_around(place, size), float(value[row, column])


def _regions(box: BoxXYWH, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Weights of the pixels for the target's histogram (an ellipse in the box) and for the surroundings'."""
    center = center_xy(box)
    x = (np.arange(shape[1]) + 0.5 - center[0]) / (box[2] / 2.0)
    y = (np.arange(shape[0]) + 0.5 - center[1]) / (box[3] / 2.0)
    radius = np.square(x)[None, :] + np.square(y)[:, None]
    reach = np.maximum(np.abs(x)[None, :], np.abs(y)[:, None])
    return np.clip(1.2 - radius, 0.0, 1.0).astype(np.float32), (reach > 1.05).astype(np.float32)


def _contrast(likelihood: Array, box: BoxXYWH) -> float:
    """Mean likelihood inside the box less that outside."""
    inside, outside = _regions(box, likelihood.shape)
    return float((likelihood * inside).sum() / max(inside.sum(), 1.0) - (likelihood * outside).sum() / max(outside.sum(), 1.0))
