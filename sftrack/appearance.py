"""What the target looks like: how much a box resembles it, and where in a growing area it may be when it is lost."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy, clip_box
from sftrack.contracts import BoxXYWH, ImageRGB, SoftMask

TEMPLATE_PX = 24
"""Geometric mean of the template's sides: small enough to search a whole frame in a few milliseconds."""

SEARCH_PX = 640
"""Longest side of the searched area at the template's scale: around a tiny target of a large frame, not all of it enlarged."""

GROWTH_PER_FRAME = 1.15
SCALES = (0.8, 1.0, 1.25)
RENEW_RATE = 0.1
COLOUR_BINS = 8


@dataclass(frozen=True)
class Found:
    """A place that looks like the target. `likeness` is the normalised correlation with a template, in [-1, 1]."""

    box_xywh: BoxXYWH
    likeness: float


class Appearance:
    """Remembers how the target looked on the first frame and lately.

    Images and boxes may come from the frame or from any crop of it, as long as both are in the same pixels.
    """

    def __init__(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, mask: SoftMask) -> None:
        """`mask`: the segmentation of the target, of the image's size."""
        factor = TEMPLATE_PX / float(np.sqrt(box_xywh[2] * box_xywh[3]))
        self._size_wh = tuple(max(round(side * factor), 6) for side in box_xywh[2:])
        self._first = self._cut(image_rgb, box_xywh)
        self._recent = self._first.copy()
        self._colours = colours(colour_index(image_rgb), mask)
        self._frames = 0

    def _cut(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> NDArray[np.float32]:
        x, y, w, h = box_xywh.tolist()
        width, height = (min(max(round(side), 2), 2 * max(image_rgb.shape[:2])) for side in (w, h))
        patch = cv2.getRectSubPix(image_rgb, (width, height), (x + w / 2.0 - 0.5, y + h / 2.0 - 0.5))
        return np.asarray(cv2.resize(patch, self._size_wh, interpolation=cv2.INTER_AREA), dtype=np.float32)

    def correlations(self, image_rgb: ImageRGB, boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much the content of K boxes looks like the first and the recent template, `(K, 2)` in [-1, 1]."""
        patches = _normalised([self._cut(image_rgb, box) for box in boxes_xywh])
        found = patches @ _normalised([self._first, self._recent]).T
        return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float64)

    def colour_overlaps(self, image_rgb: ImageRGB, masks: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much the colours under K masks are those of the target on the first frame, `(K,)` in [0, 1] (Bhattacharyya coefficient)."""
        index = colour_index(image_rgb)
        return np.array([min(float(np.sqrt(self._colours * colours(index, mask)).sum()), 1.0) for mask in masks])

    def looks(self, image_rgb: ImageRGB, boxes_xywh: NDArray[np.float64], masks: NDArray[np.float32]) -> NDArray[np.float64]:
        """Correlations with both templates and overlap of colours, `(K, 3)`."""
        return np.column_stack([self.correlations(image_rgb, boxes_xywh), self.colour_overlaps(image_rgb, masks)])

    def remember(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Renew the recent template; call it on frames where the box is sure. The next search starts small again."""
        self._frames = 0
        self._recent += RENEW_RATE * (self._cut(image_rgb, box_xywh) - self._recent)

    def search(self, image_rgb: ImageRGB, last_box_xywh: BoxXYWH) -> Found | None:
        """The most likely place on this frame; every call without `remember` in between looks further from the last box."""
        self._frames += 1
        factor_at_1 = float(np.sqrt(np.prod(self._size_wh) / np.prod(np.maximum(last_box_xywh[2:], 1.0))))
        frame_wh = (image_rgb.shape[1], image_rgb.shape[0])
        growth = 1.0 + GROWTH_PER_FRAME ** min(self._frames, 100)
        size = np.minimum(np.minimum(last_box_xywh[2:] * growth, np.array(frame_wh) * 2.0), SEARCH_PX / factor_at_1)
        x, y, w, h = (int(value) for value in np.round(clip_box(box_around(center_xy(last_box_xywh), size), frame_wh)))
        region = image_rgb[y : y + h, x : x + w]
        best: Found | None = None
        for scale in SCALES:
            factor = factor_at_1 / scale
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


def _normalised(patches: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Patches `(h, w, 3)` as rows of length 1 without the means of their colours, 0 where they are flat: products are correlations."""
    rows = np.stack(patches)
    rows = (rows - rows.mean(axis=(1, 2), keepdims=True)).reshape(len(rows), -1)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3), dtype=np.float32)


def colour_index(image_rgb: ImageRGB) -> NDArray[np.int32]:
    """The histogram bin of every second pixel in both directions, flattened."""
    bins = image_rgb[::2, ::2].astype(np.int32) * COLOUR_BINS // 256
    return np.asarray(((bins[..., 0] * COLOUR_BINS + bins[..., 1]) * COLOUR_BINS + bins[..., 2]).ravel(), dtype=np.int32)


def colours(index: NDArray[np.int32], mask: SoftMask) -> NDArray[np.float64]:
    """Colour histogram of an image, given by its `colour_index`, under a soft mask of its size, `(COLOUR_BINS ** 3,)`, sum 1."""
    counts = np.bincount(index, mask[::2, ::2].ravel(), minlength=COLOUR_BINS**3)
    return np.asarray(counts / max(float(counts.sum()), 1e-6), dtype=np.float64)
