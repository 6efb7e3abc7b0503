"""OpenCV's classical trackers as channels, each on a reduced canvas (`reduction.Canvas`).

OpenCV wants BGR, and boxes of whole pixels in its newer interface. Its trackers say only found / not found, so the score is the likeness
of what is inside the box to what was inside it before (`Appearance`). MIL is not among them: it draws its samples from a generator that it
seeds with the time, so no two runs agree.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, ImageRGB

from .appearance import Appearance
from .base import BoxTracker, check_counts, check_numbers
from .reduction import Canvas
from .registry import register


class OpenCVTracker(BoxTracker):
    """Adapter; subclasses say which tracker to build.

    Args:
        target_px: size (square root of the area) to which a larger start box is reduced; the cost grows with its square.
        reach: how far around the box the picture is kept up to date, in box sizes from its centre; must cover the search area.
    """

    takes_floats = False

    def __init__(self, *, target_px: float, reach: float) -> None:
        check_numbers(target_px=(target_px, 8, math.inf), reach=(reach, 0.5, math.inf))
        self._target_px = target_px
        self._reach = reach

    def _build(self) -> Any:  # noqa: ANN401 (OpenCV's trackers have no common type in its stubs)
        raise NotImplementedError

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        assert self._size_wh is not None
        self._canvas = Canvas(self._size_wh, box_xywh, self._target_px)
        self._tracker = self._build()
        self._tracker.init(self._draw(image_rgb), self._as_opencv(self._canvas.to_canvas(box_xywh)))
        self._appearance = Appearance(image_rgb, box_xywh)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        found, values = self._tracker.update(self._draw(image_rgb))
        box = np.array(values, dtype=np.float64)
        if not found or box.shape != (4,) or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0:
            return None, 0.0
        box = self._canvas.to_frame(box)
        return box, self._appearance.score(image_rgb, box)

    def _draw(self, image_rgb: ImageRGB) -> NDArray[np.uint8]:
        canvas_rgb = self._canvas.draw(image_rgb, self._box, self._reach)
        return np.asarray(cv2.cvtColor(canvas_rgb, cv2.COLOR_RGB2BGR), dtype=np.uint8)

    def _as_opencv(self, box_xywh: BoxXYWH) -> tuple[float, ...]:
        return tuple(box_xywh.tolist()) if self.takes_floats else tuple(round(value) for value in box_xywh.tolist())


@register("csrt")
class CSRT(OpenCVTracker):
    """Correlation filter with channel and spatial reliability (Lukezic et al., CVPR 2017)."""

    def __init__(
        self,
        *,
        target_px: float = 64.0,
        reach: float = 2.5,
        template_size: int = 200,
        scales: int = 33,
        admm_iterations: int = 4,
    ) -> None:
        super().__init__(target_px=target_px, reach=reach)
        check_counts(template_size=(template_size, 1), scales=(scales, 1), admm_iterations=(admm_iterations, 0))
        params = cv2.TrackerCSRT.Params()
        params.template_size = template_size
        params.number_of_scales = scales
        params.admm_iterations = admm_iterations
        self._params = params

    def _build(self) -> Any:  # noqa: ANN401
        return cv2.TrackerCSRT.create(self._params)


@register("kcf")
class KCF(OpenCVTracker):
    """Kernelised correlation filter with colour names (Henriques et al., TPAMI 2015); no change of scale."""

    def __init__(self, *, target_px: float = 64.0, reach: float = 2.0, threshold: float = 0.5) -> None:
        super().__init__(target_px=target_px, reach=reach)
        check_numbers(threshold=(threshold, 0, 1))
        self._params = cv2.TrackerKCF.Params()
        self._params.detect_thresh = threshold

    def _build(self) -> Any:  # noqa: ANN401
        return cv2.TrackerKCF.create(self._params)


@register("mosse")
class MOSSE(OpenCVTracker):
    """Minimum output sum of squared error filter (Bolme et al., CVPR 2010); the fastest, no change of scale."""

    takes_floats = True

    def __init__(self, *, target_px: float = 64.0, reach: float = 2.0) -> None:
        super().__init__(target_px=target_px, reach=reach)

    def _build(self) -> Any:  # noqa: ANN401
        cv2.setRNGSeed(0)  # it trains on randomly warped copies of the first patch
        return cv2.legacy.TrackerMOSSE.create()


@register("medianflow")
class MedianFlow(OpenCVTracker):
    """Median of sparse optical flow with forward-backward check (Kalal et al., ICPR 2010)."""

    takes_floats = True

    def __init__(self, *, target_px: float = 64.0, reach: float = 2.0) -> None:
        super().__init__(target_px=target_px, reach=reach)

    def _build(self) -> Any:  # noqa: ANN401
        cv2.setRNGSeed(0)
        return cv2.legacy.TrackerMedianFlow.create()
