"""Finding a lost target again: templates of it are looked for in an area that grows with every frame."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy, clip_box
from sftrack.contracts import BoxXYWH, ImageRGB

TEMPLATE_PX = 24
"""Geometric mean of the template's sides: small enough to search a whole frame in a few milliseconds."""

GROWTH_PER_FRAME = 1.15
SCALES = (0.8, 1.0, 1.25)
RENEW_RATE = 0.1


@dataclass(frozen=True)
class Found:
    """A place that looks like the target. `likeness` is the normalised correlation with a template, in [-1, 1]."""

    box_xywh: BoxXYWH
    likeness: float


class TargetSearch:
    """Remembers how the target looked on the first frame and lately, and looks for both."""

    def __init__(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._factor = TEMPLATE_PX / float(np.sqrt(box_xywh[2] * box_xywh[3]))
        self._size_wh = tuple(max(round(side * self._factor), 6) for side in box_xywh[2:])
        self._first = self._cut(image_rgb, box_xywh)
        self._recent = self._first.copy()
        self._frames = 0

    def _cut(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> NDArray[np.float32]:
        x, y = center_xy(box_xywh)
        size = tuple(max(round(side), 2) for side in box_xywh[2:])
        patch = cv2.getRectSubPix(image_rgb, size, (float(x) - 0.5, float(y) - 0.5))
        return np.asarray(cv2.resize(patch, self._size_wh, interpolation=cv2.INTER_AREA), dtype=np.float32)

    def remember(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Renew the recent template; call it on frames where the box is sure. The next search starts small again."""
        self._frames = 0
        self._recent += RENEW_RATE * (self._cut(image_rgb, box_xywh) - self._recent)

    def likeness(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> float:
        """Normalised correlation of what is in a box with the better one of both templates, in [-1, 1]."""
        patch = self._cut(image_rgb, box_xywh)
        scores = [float(cv2.matchTemplate(patch, template, cv2.TM_CCOEFF_NORMED)[0, 0]) for template in (self._first, self._recent)]
        return float(np.nan_to_num(max(scores), nan=-1.0, posinf=-1.0, neginf=-1.0))

    def next(self, image_rgb: ImageRGB, last_box_xywh: BoxXYWH) -> Found | None:
        """The most likely place on this frame; every call without `remember` in between looks further from the last box."""
        self._frames += 1
        frame_wh = (image_rgb.shape[1], image_rgb.shape[0])
        size = np.minimum(last_box_xywh[2:] * (1.0 + GROWTH_PER_FRAME**self._frames), np.array(frame_wh) * 2.0)
        x, y, w, h = (int(value) for value in np.round(clip_box(box_around(center_xy(last_box_xywh), size), frame_wh)))
        region = image_rgb[y : y + h, x : x + w]
        best: Found | None = None
        for scale in SCALES:
            factor = self._factor / scale
            shrunk_wh = (round(w * factor), round(h * factor))
            if shrunk_wh[0] < self._size_wh[0] or shrunk_wh[1] < self._size_wh[1]:
                continue
            shrunk = cv2.resize(region, shrunk_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
            for template in (self._first, self._recent):
                _, likeness, _, (left, top) = cv2.minMaxLoc(cv2.matchTemplate(shrunk, template, cv2.TM_CCOEFF_NORMED))
                if np.isfinite(likeness) and (best is None or likeness > best.likeness):
                    box = np.array([x + left / factor, y + top / factor, self._size_wh[0] / factor, self._size_wh[1] / factor])
                    best = Found(box, float(likeness))
        return best
