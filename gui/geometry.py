"""From points of the widget to points of the frame and back, and from a drag to a box. Without Qt."""

from dataclasses import dataclass

import numpy as np

from sftrack.boxes import clip_box
from sftrack.contracts import BoxXYWH

MIN_DRAG_PX = 5.0
"""Smallest width and height, in pixels of the frame, of a box that is accepted from the mouse: smaller ones are slips."""


@dataclass(frozen=True)
class Letterbox:
    """A frame shown as large as fits into a widget, centred, its proportions kept.

    Points are continuous: (0, 0) is the top-left corner of the first pixel, in the frame and in the widget (logical pixels there).
    """

    frame_size_wh: tuple[int, int]
    widget_size_wh: tuple[int, int]

    @property
    def scale(self) -> float:
        """Widget pixels per frame pixel."""
        return min(max(widget, 1) / frame for widget, frame in zip(self.widget_size_wh, self.frame_size_wh, strict=True))

    @property
    def offset_xy(self) -> tuple[float, float]:
        """Where the frame's top-left corner lies in the widget."""
        (frame_w, frame_h), (widget_w, widget_h) = self.frame_size_wh, self.widget_size_wh
        return (widget_w - frame_w * self.scale) / 2.0, (widget_h - frame_h * self.scale) / 2.0

    def to_widget(self, x: float, y: float) -> tuple[float, float]:
        left, top = self.offset_xy
        return left + x * self.scale, top + y * self.scale

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """Not clipped: a point on the dark border is outside the frame."""
        left, top = self.offset_xy
        return (x - left) / self.scale, (y - top) / self.scale

    def box_to_widget(self, box_xywh: BoxXYWH) -> tuple[float, float, float, float]:
        x, y, w, h = (float(value) for value in box_xywh)
        left, top = self.to_widget(x, y)
        return left, top, w * self.scale, h * self.scale

    def drag_to_box(self, start_xy: tuple[float, float], end_xy: tuple[float, float]) -> BoxXYWH:
        """The box between two points of the widget, in any order, clipped to the frame; its size may be 0."""
        corners = np.array([self.to_frame(*start_xy), self.to_frame(*end_xy)], dtype=np.float64)
        top_left, bottom_right = corners.min(axis=0), corners.max(axis=0)
        return clip_box(np.concatenate([top_left, bottom_right - top_left]), self.frame_size_wh)


def why_too_small(box_xywh: BoxXYWH) -> str | None:
    """Why a dragged box is refused, in words; None if it is large enough."""
    width, height = float(box_xywh[2]), float(box_xywh[3])
    if width >= MIN_DRAG_PX and height >= MIN_DRAG_PX:
        return None
    return f"that box is {width:.0f} x {height:.0f} px; drag one of at least {MIN_DRAG_PX:.0f} x {MIN_DRAG_PX:.0f} px around the target"
