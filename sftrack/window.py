"""The part of the frame that the networks see: a rectangle of frame pixels, resampled to a fixed working size."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import center_xy
from sftrack.contracts import BoxXYWH, ImageRGB, RegionMask, SoftMask
from sftrack.resampling import block_means

BORDER_VALUE = 114
"""Grey level shown outside the frame, the same in training and tracking."""

SIZE_MULTIPLE = 16
"""The networks halve the resolution four times."""


@dataclass(frozen=True)
class Window:
    """A rectangle in frame pixels and the size it is resampled to.

    Attributes:
        origin_xy: frame coordinates of its top-left corner, whole pixels; may lie outside the frame.
        extent_wh: its width and height in frame pixels.
        size_wh: width and height of the resampled picture.
    """

    origin_xy: tuple[int, int]
    extent_wh: tuple[int, int]
    size_wh: tuple[int, int]

    @classmethod
    def around(cls, box_xywh: BoxXYWH, size_px: int, context: float = 1.0) -> "Window":
        """A square of `size_px` around a box, holding the box and its surroundings.

        Its side in the frame is `context * sqrt((w + p) (h + p))` with `p = (w + h) / 2`, the context rule of SiamFC
        (Bertinetto et al., 2016): twice the side of a square box.
        """
        width, height = np.maximum(box_xywh[2:], 1.0)
        margin = (width + height) / 2.0
        side = max(round(context * float(np.sqrt((width + margin) * (height + margin)))), 8)
        x, y = np.round(center_xy(box_xywh) - side / 2.0)
        return cls((int(x), int(y)), (side, side), (size_px, size_px))

    @classmethod
    def whole_frame(cls, frame_size_wh: tuple[int, int], max_side_px: int = 480) -> "Window":
        """The whole frame at a maximum side, as the paper works; padded on the right and below to what the networks need."""
        scale = min(1.0, max_side_px / max(frame_size_wh))
        size = tuple(-(-round(side * scale) // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in frame_size_wh)
        extent = tuple(round(side / scale) for side in size)
        return cls((0, 0), (extent[0], extent[1]), (size[0], size[1]))

    @property
    def scale_xy(self) -> NDArray[np.float64]:
        """Working pixels per frame pixel, `(2,)`."""
        return np.array(self.size_wh, dtype=np.float64) / np.array(self.extent_wh, dtype=np.float64)

    def to_window(self, boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes `(..., 4)` from frame to working coordinates."""
        scale = self.scale_xy
        return np.concatenate([(boxes_xywh[..., :2] - self.origin_xy) * scale, boxes_xywh[..., 2:] * scale], axis=-1)

    def to_frame(self, boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes `(..., 4)` from working to frame coordinates."""
        scale = self.scale_xy
        return np.concatenate([boxes_xywh[..., :2] / scale + self.origin_xy, boxes_xywh[..., 2:] / scale], axis=-1)

    def frame_box(self, frame_size_wh: tuple[int, int]) -> BoxXYWH:
        """Where the whole frame lies, in working coordinates."""
        return self.to_window(np.array([0.0, 0.0, *frame_size_wh]))

    def extract(self, image: ImageRGB) -> ImageRGB:
        """The window's content `(size_h, size_w, 3) uint8`; grey outside the frame. Averaged where it shrinks, so nothing aliases."""
        x0, y0 = self.origin_xy
        x1, y1 = x0 + self.extent_wh[0], y0 + self.extent_wh[1]
        height, width = image.shape[:2]
        inside = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        if inside.shape[:2] != (y1 - y0, x1 - x0):
            left, top = min(max(-x0, 0), x1 - x0), min(max(-y0, 0), y1 - y0)
            padded = np.full((y1 - y0, x1 - x0, image.shape[2]), BORDER_VALUE, dtype=np.uint8)
            if x0 < width and y0 < height:
                padded[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
            inside = padded
        # Averaging whole pixels is fast, parts of pixels slow: interpolate to a multiple first, which loses less than half of the pixels.
        multiple = max(-(-self.extent_wh[0] // (2 * self.size_wh[0])), 1)
        near = cv2.resize(inside, (self.size_wh[0] * multiple, self.size_wh[1] * multiple), interpolation=cv2.INTER_LINEAR)
        return block_means(np.asarray(near, dtype=np.uint8), multiple)

    def move(self, masks: NDArray[np.float32], source: "Window") -> NDArray[np.float32]:
        """Soft masks `(N, h, w)` that were made in `source`, resampled into this window; 0 where `source` did not look."""
        if source == self or not len(masks):
            return masks
        return self._resample(masks, np.array(source.origin_xy, dtype=np.float64), source.scale_xy)

    def look_at(self, mask: RegionMask) -> SoftMask:
        """A tracker's mask, resampled into this window; 0 where the tracker did not look."""
        size_wh = np.maximum(np.minimum(mask.values.shape[::-1], np.round(mask.region_xywh[2:] * self.scale_xy)), 1.0)
        # Averaged where it shrinks, like the picture.
        shrunk = cv2.resize(mask.values, (int(size_wh[0]), int(size_wh[1])), interpolation=cv2.INTER_AREA)
        values = np.asarray(shrunk, dtype=np.float32)
        seen = self._resample(values[None], mask.region_xywh[:2], size_wh / mask.region_xywh[2:])[0]
        return np.asarray(np.clip(seen, 0.0, 1.0), dtype=np.float32)

    def _resample(self, masks: NDArray[np.float32], origin_xy: NDArray[np.float64], scale_xy: NDArray[np.float64]) -> NDArray[np.float32]:
        """Masks `(N, h, w)` whose upper left corner lies at `origin_xy` of the frame, with so many pixels per pixel of the frame."""
        ratio = scale_xy / self.scale_xy
        shift = (np.array(self.origin_xy) - origin_xy) * scale_xy
        # Pixel centres lie at +0.5, so the half pixel enters on both sides of the scaling.
        matrix = np.array([[ratio[0], 0.0, shift[0] + 0.5 * ratio[0] - 0.5], [0.0, ratio[1], shift[1] + 0.5 * ratio[1] - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.stack([cv2.warpAffine(mask, matrix, self.size_wh, flags=flags) for mask in masks]).astype(np.float32)

    def paste(self, mask: SoftMask, frame_size_wh: tuple[int, int]) -> SoftMask:
        """A working-size mask `(size_h, size_w)` in frame coordinates `(H, W)`; 0 outside the window."""
        pasted = np.zeros(frame_size_wh[::-1], dtype=np.float32)
        x0, y0 = np.clip(self.origin_xy, 0, frame_size_wh)
        x1, y1 = np.clip(np.add(self.origin_xy, self.extent_wh), 0, frame_size_wh)
        if x0 < x1 and y0 < y1:
            seen = cv2.resize(mask, self.extent_wh, interpolation=cv2.INTER_LINEAR)
            left, top = x0 - self.origin_xy[0], y0 - self.origin_xy[1]
            pasted[y0:y1, x0:x1] = seen[top : top + y1 - y0, left : left + x1 - x0]
        return pasted


def rasterise(boxes_xywh: NDArray[np.float64], size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Box images `(N, h, w)`: the covered part of each pixel, in [0, 1], so that sub-pixel boxes differ."""

    def coverage(start: NDArray[np.float64], stop: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        edges = np.arange(count, dtype=np.float64)
        covered = np.minimum(stop[:, None], edges + 1.0) - np.maximum(start[:, None], edges)
        return np.asarray(np.clip(covered, 0.0, 1.0), dtype=np.float64)

    columns = coverage(boxes_xywh[:, 0], boxes_xywh[:, 0] + boxes_xywh[:, 2], size_wh[0])
    rows = coverage(boxes_xywh[:, 1], boxes_xywh[:, 1] + boxes_xywh[:, 3], size_wh[1])
    return (rows[:, :, None] * columns[:, None, :]).astype(np.float32)
