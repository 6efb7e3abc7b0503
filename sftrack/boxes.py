"""Geometry of boxes. The order of the numbers is in every name; see `contracts` for the coordinate convention."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.errors import BoxError, FrameError

MIN_SIDE_PX = 2.0
"""Smallest width or height of a box that can be tracked."""


def parse_box(text: str) -> BoxXYWH:
    """Read `x,y,w,h` (commas, blanks or tabs; floats allowed).

    Raises:
        BoxError: not four numbers.
    """
    parts = text.replace(",", " ").split()
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != 4:
        raise BoxError(f"expected a box as four numbers x,y,w,h (pixels, 0-based), got '{text}'; for example 120,80,64,48")
    return np.array(values, dtype=np.float64)


def checked_box(box_xywh: ArrayLike | Sequence[float], frame_size_wh: tuple[int, int]) -> BoxXYWH:
    """The box clipped to the frame, as `(4,) float64`.

    Raises:
        BoxError: not four finite numbers, a side below `MIN_SIDE_PX` after clipping, or no overlap with the frame.
    """
    width, height = frame_size_wh
    try:
        box = np.asarray(box_xywh, dtype=np.float64)
        shown = ",".join(f"{value:g}" for value in box.ravel())
    except (TypeError, ValueError):  # a text, say
        box, shown = np.empty(0), str(box_xywh)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise BoxError(f"expected a box of four finite numbers x,y,w,h, got '{shown}'; give for example 120,80,64,48")
    if box[2] < MIN_SIDE_PX or box[3] < MIN_SIDE_PX:
        raise BoxError(f"expected a box at least {MIN_SIDE_PX:g} pixels wide and high, got {shown}; give w and h, not a second corner")
    with np.errstate(over="ignore"):  # x + w may be infinite
        clipped = clip_box(box, frame_size_wh)
    if clipped[2] < MIN_SIDE_PX or clipped[3] < MIN_SIDE_PX:
        raise BoxError(f"expected a box inside the frame of {width}x{height} pixels, got {shown}; x,y is its top-left corner")
    return clipped


def clip_box(boxes_xywh: NDArray[np.float64], frame_size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """The parts of boxes `(..., 4)` inside the frame; their size is 0 where there is none."""
    limits = np.array(frame_size_wh, dtype=np.float64)
    top_left = np.clip(boxes_xywh[..., :2], 0.0, limits)
    bottom_right = np.clip(boxes_xywh[..., :2] + boxes_xywh[..., 2:], 0.0, limits)
    return np.concatenate([top_left, np.maximum(bottom_right - top_left, 0.0)], axis=-1)


def keep_in_frame(box_xywh: BoxXYWH, frame_size_wh: tuple[int, int]) -> BoxXYWH:
    """The box moved, not cut, so that at least `MIN_SIDE_PX` of it stay visible in each direction.

    Sizes beyond the frame's are reduced to it: the next crop is as large as the box, and an error must not feed itself.
    """
    limits = np.array(frame_size_wh, dtype=np.float64)
    size = np.clip(box_xywh[2:], MIN_SIDE_PX, np.maximum(limits, MIN_SIDE_PX))
    return keep_visible(np.concatenate([box_xywh[:2] + (box_xywh[2:] - size) / 2.0, size]), frame_size_wh)


def keep_visible(box_xywh: BoxXYWH, frame_size_wh: tuple[int, int]) -> BoxXYWH:
    """The box moved so that at least `MIN_SIDE_PX` of it (all of a smaller one) stay visible in each direction; its size is kept."""
    size = box_xywh[2:]
    visible = np.minimum(MIN_SIDE_PX, size)
    return np.concatenate([np.clip(box_xywh[:2], visible - size, np.array(frame_size_wh, dtype=np.float64) - visible), size])


def center_xy(box_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres `(..., 2)` of boxes `(..., 4)`."""
    return box_xywh[..., :2] + box_xywh[..., 2:] / 2.0


def box_around(center: NDArray[np.float64], size_wh: NDArray[np.float64]) -> BoxXYWH:
    """The box of the given size around a centre `(2,)`."""
    return np.concatenate([center - size_wh / 2.0, size_wh])


def box_of_mask(mask: NDArray[np.bool_]) -> BoxXYWH:
    """The half-open extremes of the True pixels of `(H, W)` as `(4,)` x, y, w, h; NaN where there is none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        return np.full(4, np.nan)
    return np.array([columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]], dtype=np.float64)


def iou(boxes_xywh: ArrayLike, others_xywh: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes `(..., 4)` with boxes `(..., 4)`, broadcast; 0 where the union is empty or a number is NaN."""
    boxes, others = np.asarray(boxes_xywh, dtype=np.float64), np.asarray(others_xywh, dtype=np.float64)
    top_left = np.maximum(boxes[..., :2], others[..., :2])
    bottom_right = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    width, height = np.moveaxis(np.maximum(bottom_right - top_left, 0.0), -1, 0)
    intersection = width * height
    union = boxes[..., 2] * boxes[..., 3] + others[..., 2] * others[..., 3] - intersection
    overlap = np.divide(intersection, union, out=np.zeros_like(union), where=(union > 0.0) & (union < np.inf))
    return np.asarray(np.minimum(overlap, 1.0), dtype=np.float64)  # rounding may go beyond 1


def checked_image(image_rgb: ImageRGB, size_wh: tuple[int, int] | None = None) -> ImageRGB:
    """The image itself if it is a non-empty `(H, W, 3) uint8` array of the expected size.

    Raises:
        FrameError: anything else.
    """
    given = f"{getattr(image_rgb, 'dtype', type(image_rgb).__name__)} {getattr(image_rgb, 'shape', '')}"
    if (
        not isinstance(image_rgb, np.ndarray)
        or image_rgb.ndim != 3
        or image_rgb.shape[2] != 3
        or image_rgb.dtype != np.uint8
        or not image_rgb.size
    ):
        raise FrameError(f"expected an RGB image (H, W, 3) uint8, got {given}; convert it before tracking")
    if size_wh is not None and image_rgb.shape[1::-1] != size_wh:
        raise FrameError(
            f"expected a frame of {size_wh[0]}x{size_wh[1]} pixels like the first one, got {given}; call init again for another size"
        )
    return image_rgb
