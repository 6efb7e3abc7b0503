"""Sparse optical flow: the points inside the box that do not move like the background carry the box along.

Points are followed forward and back (Kalal et al., "Forward-backward error", ICPR 2010); the background's motion is
measured around the box, so that background pixels inside the box do not hold it back.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, center_xy, keep_in_frame
from sftrack.contracts import BoxXYWH, ImageRGB

from .appearance import Appearance
from .base import BoxTracker, check_counts, check_numbers
from .reduction import sample_window
from .registry import register

Points = NDArray[np.float32]


@register("flow")
class Flow(BoxTracker):
    """See the module.

    Args:
        target_px: size (square root of the area) of the box in the reduced picture.
        grid: points per side of the box.
        reach: half side of the window in box sizes.
        max_error_px: forward-backward error above which a point does not count, in reduced pixels.
        keeps_aspect: False lets width and height change independently.
    """

    def __init__(
        self, *, target_px: float = 56.0, grid: int = 11, reach: float = 1.5, max_error_px: float = 1.0, keeps_aspect: bool = True
    ) -> None:
        check_numbers(target_px=(target_px, 8, math.inf), reach=(reach, 0, math.inf), max_error_px=(max_error_px, 0, math.inf))
        check_counts(grid=(grid, 3))
        self._target_px, self._grid, self._reach = target_px, grid, reach
        self._max_error_px, self._keeps_aspect = max_error_px, keeps_aspect

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._before = self._look(image_rgb, box_xywh)
        self._appearance = Appearance(image_rgb, box_xywh)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        scale, origin = self._frame_of(self._box)
        box = np.concatenate([(self._box[:2] - origin) * scale, self._box[2:] * scale])
        start, end, kept = self._follow(self._before, self._look(image_rgb, self._box), box)
        if kept.sum() < 6:
            self._before = self._look(image_rgb, self._box)
            return None, 0.0
        moved = self._moved_box(box, start[kept], end[kept])
        assert self._size_wh is not None
        result = keep_in_frame(np.concatenate([moved[:2] / scale + origin, moved[2:] / scale]), self._size_wh)
        self._before = self._look(image_rgb, result)
        return result, float(kept.mean()) * self._appearance.score(image_rgb, result)

    def _frame_of(self, box_xywh: BoxXYWH) -> tuple[float, NDArray[np.float64]]:
        """Scale and origin of the window around a box."""
        scale = min(1.0, self._target_px / math.sqrt(float(box_xywh[2:].prod())))
        return scale, center_xy(box_xywh) - self._half_side(box_xywh, scale)

    def _half_side(self, box_xywh: BoxXYWH, scale: float) -> float:
        return self._reach * float(box_xywh[2:].max()) + 16.0 / scale

    def _look(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> NDArray[np.uint8]:
        """The grey window around a box."""
        scale, origin = self._frame_of(box_xywh)
        side = math.ceil(2.0 * self._half_side(box_xywh, scale) * scale)
        window = sample_window(image_rgb, origin, np.array([scale, scale]), (side, side))
        return np.asarray(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    def _follow(self, before: NDArray[np.uint8], after: NDArray[np.uint8], box: BoxXYWH) -> tuple[Points, Points, NDArray[np.bool_]]:
        """Grid points of the box before and after, and which of them can be relied on."""
        inside = _grid_in(box, self._grid, 0.9)
        around = _ring(box, self._grid)
        start = np.concatenate([inside, around])
        end, error = _forward_backward(before, after, start)
        size = np.array(before.shape[::-1])
        good = (error < self._max_error_px) & (end >= 0).all(axis=1) & (end < size).all(axis=1)
        kept = good[: len(inside)]
        is_ground = good[len(inside) :]
        if is_ground.sum() >= 8:
            motion = end - start
            kept = kept & ~_moves_like(motion[len(inside) :][is_ground], motion[: len(inside)], kept)
        return inside, end[: len(inside)], kept

    def _moved_box(self, box: BoxXYWH, start: Points, end: Points) -> BoxXYWH:
        """Median displacement, and median ratio of the distances between points as the change of size."""
        shift = np.median(end - start, axis=0)
        step = np.linalg.norm(end - start - shift, axis=1)
        core = step <= 2.0 * np.median(step) + 0.5
        start, end = start[core], end[core]
        shift = (end - start).mean(axis=0)
        growth = np.array([_growth(start[:, axis], end[:, axis]) for axis in (0, 1)])
        if self._keeps_aspect:
            growth[:] = math.sqrt(float(growth.prod()))
        # The middle of the points moves by `shift`; the box's centre also by what the growth adds around that middle.
        center = center_xy(box)
        middle = start.mean(axis=0)
        center = middle + shift + (center - middle) * growth
        return box_around(center, np.maximum(box[2:] * growth, 3.0))


def _moves_like(ground_motion: Points, motion: Points, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points whose motion `(N, 2)` is the background's, unless that is nearly all of them (then the target stands still)."""
    shift = np.median(ground_motion, axis=0)
    threshold = 1.0 + 0.5 * float(np.median(np.linalg.norm(ground_motion - shift, axis=1)))
    is_ground = np.linalg.norm(motion - shift, axis=1) < threshold
    is_few_left = int((good & ~is_ground).sum()) < 0.35 * max(int(good.sum()), 1)
    return np.zeros(len(motion), dtype=np.bool_) if is_few_left else np.asarray(is_ground, dtype=np.bool_)


def _growth(start: NDArray[np.float32], end: NDArray[np.float32]) -> float:
    """Slope of end over start, kept near 1."""
    before, after = start - start.mean(), end - end.mean()
    spread = float(before @ before)
    return float(np.clip(before @ after / spread, 0.9, 1.1)) if spread > 1e-3 else 1.0


def _grid_in(box: BoxXYWH, count: int, part: float) -> Points:
    offsets = (np.arange(count) + 0.5) / count - 0.5
    x, y = np.meshgrid(offsets * part * box[2], offsets * part * box[3])
    return np.asarray(np.stack([x.ravel(), y.ravel()], axis=1) + center_xy(box), dtype=np.float32)


def _ring(box: BoxXYWH, count: int) -> Points:
    """Points on two rectangles around the box."""
    line = np.linspace(-0.5, 0.5, count)
    edge = np.concatenate([np.stack([line, np.full(count, side)], axis=1) for side in (-0.5, 0.5)])
    unit = np.concatenate([edge, edge[:, ::-1]])
    return np.asarray(np.concatenate([unit * box[2:] * factor for factor in (1.25, 1.5)]) + center_xy(box), dtype=np.float32)


def _forward_backward(before: NDArray[np.uint8], after: NDArray[np.uint8], points: Points) -> tuple[Points, NDArray[np.float64]]:
    """Where the points went, and how far from its start each comes back; infinite where it was lost."""
    end, found = _flow(before, after, points)
    back, found_back = _flow(after, before, end)
    error = np.linalg.norm(back - points, axis=1).astype(np.float64)
    error[~found | ~found_back | ~np.isfinite(error)] = np.inf
    return np.asarray(np.nan_to_num(end), dtype=np.float32), error


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8], points: Points) -> tuple[Points, NDArray[np.bool_]]:
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.03)
    end, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, np.empty_like(points), winSize=(11, 11), maxLevel=3, criteria=criteria)
    return np.asarray(end, dtype=np.float32), np.asarray(found).ravel() > 0
