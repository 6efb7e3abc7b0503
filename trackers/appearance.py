"""How much the inside of a box still looks like the target: a score for trackers that have none of their own."""

import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, ImageRGB

from .reduction import sample_window


class Appearance:
    """Normalised correlation of a small colour patch with the first one and with a slowly following one.

    A tracker that slid off the target sits on something that resembles neither.
    """

    side_px = 16
    rate = 0.05

    def __init__(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._first = self._patch(image_rgb, box_xywh)
        self._recent = self._first.copy()

    def score(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> float:
        """Likeness in [0, 1] of the box on this frame; moves the following patch towards it in proportion."""
        patch = self._patch(image_rgb, box_xywh)
        likeness = max(0.0, float(patch @ self._first), float(patch @ self._recent))
        mixed = self._recent + self.rate * likeness * (patch - self._recent)
        norm = float(np.linalg.norm(mixed))
        self._recent = mixed / norm if norm > 1e-6 else self._recent
        return min(likeness, 1.0)

    def _patch(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> NDArray[np.float64]:
        """The box's inside as a vector of length `3 * side_px ** 2`, mean 0, norm 1 (0 where it is flat)."""
        scale = self.side_px / np.maximum(box_xywh[2:], 1.0)
        pixels = sample_window(image_rgb, box_xywh[:2], scale, (self.side_px, self.side_px)).astype(np.float64)
        vector = (pixels - pixels.mean()).ravel()
        norm = float(np.linalg.norm(vector))
        return vector / norm if norm > 1e-6 else np.zeros_like(vector)
