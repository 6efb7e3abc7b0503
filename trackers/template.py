"""Matching of the first and of a recent picture of the target by normalised correlation: it cannot drift far, and it looks widely."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy
from sftrack.contracts import BoxXYWH, ImageRGB

from .base import BoxTracker, check_numbers
from .reduction import sample_window
from .registry import register


@register("template")
class Template(BoxTracker):
    """See the module.

    Args:
        target_px: size (square root of the area) of the template.
        reach: half side of the search window beyond the box, in box sizes.
        size_step: relative change of size per frame that is tried; 0 keeps the size.
        inertia: loss of likeness at a displacement of one box size.
        rate: how fast the recent template follows, per frame, at full likeness.
        first_share: weight of the first template's likeness in [0, 1].
    """

    def __init__(
        self,
        *,
        target_px: float = 24.0,
        reach: float = 1.0,
        size_step: float = 0.04,
        inertia: float = 0.15,
        rate: float = 0.1,
        first_share: float = 0.5,
    ) -> None:
        check_numbers(target_px=(target_px, 8, math.inf), reach=(reach, 0, math.inf), inertia=(inertia, 0, math.inf))
        check_numbers(size_step=(size_step, 0, 1), rate=(rate, 0, 1), first_share=(first_share, 0, 1))
        self._target_px, self._reach, self._size_step = target_px, reach, size_step
        self._inertia, self._rate, self._first_share = inertia, rate, first_share

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        scale = self._target_px / math.sqrt(float(box_xywh[2:].prod()))
        size = np.maximum(np.round(box_xywh[2:] * scale), 4).astype(int)
        self._size = (int(size[0]), int(size[1]))
        self._first = self._look(image_rgb, center_xy(box_xywh), box_xywh[2:], self._size)
        self._recent = self._first.copy()

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        center, best = center_xy(self._box), (-np.inf, 0.0, self._box)
        for growth in (1.0, 1.0 + self._size_step, 1.0 / (1.0 + self._size_step))[: 3 if self._size_step else 1]:
            size = self._box[2:] * growth
            value, likeness, place = self._search(image_rgb, center, size)
            value -= 0.0 if growth == 1.0 else 0.01  # noise must not change the size
            if value > best[0]:
                best = (value, likeness, box_around(place, size))
        _, likeness, box = best
        if likeness > 0.5:
            patch = self._look(image_rgb, center_xy(box), box[2:], self._size)
            self._recent += np.float32(self._rate * likeness) * (patch - self._recent)
        return box, likeness

    def _search(
        self, image_rgb: ImageRGB, center: NDArray[np.float64], size_wh: NDArray[np.float64]
    ) -> tuple[float, float, NDArray[np.float64]]:
        """Best value, its likeness, and the place (a centre in the frame) for a target of this size."""
        scale = np.array(self._size) / size_wh
        margin = np.ceil(self._reach * math.sqrt(self._size[0] * self._size[1])).astype(int)
        window_wh = (self._size[0] + 2 * int(margin), self._size[1] + 2 * int(margin))
        window = self._look(image_rgb, center, np.array(window_wh) / scale, window_wh)
        recent = cv2.matchTemplate(window, self._recent, cv2.TM_CCOEFF_NORMED)
        first = cv2.matchTemplate(window, self._first, cv2.TM_CCOEFF_NORMED)
        likeness = np.nan_to_num(self._first_share * first + (1.0 - self._first_share) * recent, posinf=0.0, neginf=0.0)
        offset = (np.arange(likeness.shape[0]) - margin) / self._target_px
        value = likeness - self._inertia * (np.square(offset)[:, None] + np.square(offset)[None, :])
        row, column = np.unravel_index(int(value.argmax()), value.shape)
        place = center + (np.array([column, row]) - margin) / scale
        return float(value[row, column]), float(likeness[row, column]), place

    def _look(
        self, image_rgb: ImageRGB, center: NDArray[np.float64], area_wh: NDArray[np.float64], size_wh: tuple[int, int]
    ) -> NDArray[np.float32]:
        """`(h, w, 3) float32`."""
        window = sample_window(image_rgb, center - area_wh / 2.0, np.array(size_wh) / area_wh, size_wh)
        return window.astype(np.float32)
