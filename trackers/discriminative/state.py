"""Where a target is, as the trackers with online learning keep it."""

from dataclasses import dataclass, replace

import numpy as np

from sftrack.contracts import BoxXYWH

from .patches import Vector, from_patch, vector

OUTSIDE_SHARE = 0.3
"""How far the target's centre may leave the frame before the box is refined, in sizes of the target."""

SIDE_RANGE_PX = (1e-2, 1e5)
"""Refined boxes with a side beyond this, in the frame, are no boxes."""


@dataclass(frozen=True)
class State:
    """Position `(y, x)` and size `(h, w)` in the frame, and pixels of the frame per pixel of the crop."""

    position: Vector
    size: Vector
    scale: np.float32

    @property
    def base_size(self) -> Vector:
        """The size in the crop."""
        return self.size / self.scale

    @property
    def box_xywh(self) -> BoxXYWH:
        """As it is handed out."""
        corner = self.position - (self.size - np.float32(1)) / np.float32(2)
        return np.concatenate([corner[::-1], self.size[::-1]]).astype(np.float64)

    def moved(self, position: Vector, frame_size: tuple[int, ...]) -> "State":
        """At another position, kept near a frame of this height and width."""
        beyond = np.float32(OUTSIDE_SHARE) * self.size
        return replace(self, position=np.clip(position, -beyond, vector(frame_size) + beyond))

    def refined(self, box_xywh: Vector, crop_position: Vector, crop_scale: np.float32, crop_px: int, base_size: Vector) -> "State | None":
        """That of a refined box in a crop; None where the box is none. The scale keeps the area of the base size."""
        position, size = from_patch(box_xywh, crop_position, crop_scale, crop_px)
        if not (SIDE_RANGE_PX[0] < size.min() and size.max() < SIDE_RANGE_PX[1]):
            return None
        return State(position, size, np.sqrt(np.prod(size) / np.prod(base_size)))


def start_state(box_xywh: BoxXYWH, search_area_scale: float, crop_px: int) -> State:
    """That of a box, with crops whose side is `search_area_scale` times the square root of its area."""
    size = vector(box_xywh[:1:-1])
    scale = np.float32(np.sqrt(np.prod(size * np.float32(search_area_scale))) / crop_px)
    return State(vector(box_xywh[1::-1]) + (size - np.float32(1)) / np.float32(2), size, scale)
