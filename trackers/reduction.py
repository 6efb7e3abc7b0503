"""Looking at the frame through a reduced window, so that the cost of a tracker does not depend on the size of the frame."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, ImageRGB


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
    height, width = image_rgb.shape[:2]
    factor = max(1, math.floor(1.0 / float(max(scale_xy))))
    end_xy = origin_xy + np.array(size_wh) / scale_xy
    x0, y0 = (int(np.clip(math.floor(o) - factor, 0, n - 1)) for o, n in zip(origin_xy, (width, height), strict=True))
    x1, y1 = (int(np.clip(math.ceil(e) + factor, 1, n)) for e, n in zip(end_xy, (width, height), strict=True))
    factor = max(1, min(factor, x1 - x0, y1 - y0))
    part = image_rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if factor > 1:  # averaging whole blocks first, or the linear sampling below would skip pixels
        columns, rows = part.shape[1] // factor, part.shape[0] // factor
        part = np.asarray(
            cv2.resize(part[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
    # Pixel u of the window has its centre at origin + (u + 0.5) / scale; pixel j of `part` at start + factor * (j + 0.5).
    step = 1.0 / (scale_xy * factor)
    shift = (origin_xy - (x0, y0)) / factor + 0.5 * step - 0.5
    matrix = np.array([[step[0], 0.0, shift[0]], [0.0, step[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(part, matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


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
