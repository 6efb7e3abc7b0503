"""Looking at the frame through a reduced window, so that the cost of a tracker does not depend on the size of the frame."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.resampling import block_means


def sample_window(
    image_rgb: ImageRGB, origin_xy: NDArray[np.float64], scale_xy: NDArray[np.float64], size_wh: tuple[int, int]
) -> NDArray[np.uint8]:
    """A window of the image, resampled; outside the frame its border is repeated.

    Args:
        image_rgb: `(H, W, C) uint8`.
        origin_xy: frame coordinates of the window's top-left edge.
        scale_xy: window pixels per frame pixel.
        size_wh: width and height of the result in its own pixels.

    Returns:
        `(size_wh[1], size_wh[0], C) uint8`.
    """
    # Numbers one by one: this runs a dozen times per frame, and arrays of two are slow.
    height, width = image_rgb.shape[:2]
    (left, top), (scale_x, scale_y) = origin_xy.tolist(), scale_xy.tolist()
    factor = max(1, math.floor(1.0 / max(scale_x, scale_y)))
    x0, x1 = _covered(left, left + size_wh[0] / scale_x, factor, width)
    y0, y1 = _covered(top, top + size_wh[1] / scale_y, factor, height)
    factor = min(factor, x1 - x0, y1 - y0)
    part: NDArray[Any] = block_means(image_rgb[y0:y1, x0:x1], factor)  # or the linear sampling would skip pixels
    columns = _Samples((left - x0) / factor, 1.0 / (scale_x * factor), size_wh[0], part.shape[1])
    rows = _Samples((top - y0) / factor, 1.0 / (scale_y * factor), size_wh[1], part.shape[0])
    matrix = np.array([[columns.step, 0.0, columns.start], [0.0, rows.step, rows.start]])
    has_colours = part.ndim == 3 and part.shape[2] == 3
    part = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA) if has_colours else part  # half of the time with a fourth channel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(part, matrix, (columns.count, rows.count), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB) if has_colours else seen
    seen = cv2.copyMakeBorder(seen, rows.before, rows.after, columns.before, columns.after, cv2.BORDER_REPLICATE)
    return np.asarray(seen, dtype=np.uint8).reshape(size_wh[1], size_wh[0], *image_rgb.shape[2:])


def _covered(start: float, end: float, margin: int, side: int) -> tuple[int, int]:
    """The pixels, at least one, from `start` to `end` and some more on each side, of those that the frame has along an axis."""
    first = min(max(math.floor(start) - margin, 0), side - 1)
    return first, max(min(math.ceil(end) + margin, side), first + 1)


class _Samples:
    """Places along an axis of an image, `step` apart, of which those beyond its ends repeat the first and the last one at them.

    Attributes:
        start, count: the first place, in the image's pixels, that has to be sampled, and how many there are.
        before, after: how many repetitions.
    """

    def __init__(self, origin: float, step: float, count: int, side: int) -> None:
        """`origin`: where in the image the window begins; `count`: the window's pixels; `side`: the image's."""
        first = origin + 0.5 * step - 0.5  # pixel 0 of both has its centre at 0.5
        self.before = min(max(math.floor(-first / step), 0), count - 1)
        self.after = count - min(max(math.ceil((side - 1 - first) / step) + 1, self.before + 1), count)
        self.start, self.step, self.count = first + self.before * step, step, count - self.before - self.after


class Canvas:
    """A fixed, reduced coordinate system over the whole frame, of which only the neighbourhood of the target is kept up to date.

    Trackers with a position of their own need coordinates that stay the same, but look only near the last box. The scale is chosen so that
    the start box becomes about `target_px` large (square root of its area) and, in canvas pixels, a box of whole numbers: so interfaces
    that take only integers lose nothing at the start.
    """

    def __init__(self, frame_size_wh: tuple[int, int], box_xywh: BoxXYWH, target_px: float, margin_px: float = 32.0) -> None:
        scale = min(1.0, target_px / math.sqrt(box_xywh[2] * box_xywh[3]))
        wanted = np.maximum(np.round(box_xywh[2:] * scale), 4.0)
        self.scale_xy: NDArray[np.float64] = wanted / box_xywh[2:]
        # A margin around the frame: some trackers fail where their search area leaves the picture.
        margin = math.ceil(max(margin_px, float(wanted.max())))
        whole_xy = np.ceil(box_xywh[:2] * self.scale_xy) + margin
        self.origin_xy: NDArray[np.float64] = box_xywh[:2] - whole_xy / self.scale_xy
        size = np.ceil((np.array(frame_size_wh) - self.origin_xy) * self.scale_xy).astype(int) + margin
        self.size_wh = (int(size[0]), int(size[1]))
        self.pixels: NDArray[np.uint8] = np.zeros((self.size_wh[1], self.size_wh[0], 3), np.uint8)
        self._is_fresh = False

    def draw(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, reach: float) -> NDArray[np.uint8]:
        """Bring the part within `reach` box sizes of the box's centre up to date.

        Returns:
            The whole canvas `(h, w, 3) uint8` (the caller must not change it).
        """
        box = self.to_canvas(box_xywh)
        half = np.maximum(reach * max(box[2], box[3]), 16.0)
        center = box[:2] + box[2:] / 2.0
        x0, y0 = np.clip(np.floor(center - half), 0, np.array(self.size_wh) - 1).astype(int)
        x1, y1 = np.clip(np.ceil(center + half), (x0 + 1, y0 + 1), self.size_wh).astype(int)
        if not self._is_fresh:  # the first time everything, so that no tracker ever sees an undefined pixel
            x0, y0, (x1, y1) = 0, 0, self.size_wh
            self._is_fresh = True
        origin = self.origin_xy + np.array([x0, y0]) / self.scale_xy
        self.pixels[y0:y1, x0:x1] = sample_window(image_rgb, origin, self.scale_xy, (int(x1 - x0), int(y1 - y0)))
        return self.pixels

    def to_canvas(self, box_xywh: BoxXYWH) -> BoxXYWH:
        """A box of the frame in canvas pixels."""
        return np.concatenate([(box_xywh[:2] - self.origin_xy) * self.scale_xy, box_xywh[2:] * self.scale_xy])

    def to_frame(self, box_xywh: BoxXYWH) -> BoxXYWH:
        """A box of the canvas in frame pixels."""
        return np.concatenate([box_xywh[:2] / self.scale_xy + self.origin_xy, box_xywh[2:] / self.scale_xy])
