"""`boxes.txt`: one box per frame, as the analysis tools of the field read it."""

import logging
from pathlib import Path

import numpy as np

from sftrack.contracts import BoxXYWH, Frame, TrackResult
from sftrack.sinks.base import LineSink

logger = logging.getLogger(__name__)


class BoxesSink(LineSink):
    """Lines `x,y,w,h` with 3 decimals, 0-based; never NaN, never a negative size."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._last_line = box_line(np.zeros(4))

    def line(self, frame: Frame, result: TrackResult) -> str:
        box = np.array(result.box_xywh, dtype=np.float64)
        if box.shape != (4,) or not np.isfinite(box).all():
            # readers count lines and refuse NaN: the file stays readable, the log names the fault
            logger.warning("frame %d has the box %s; the box before it is written", frame.index, box.tolist())
            return self._last_line
        self._last_line = box_line(box)
        return self._last_line


def box_line(box_xywh: BoxXYWH) -> str:
    """`x,y,w,h` with 3 decimals; never a negative size, never `-0.000`."""
    x, y, w, h = np.round(box_xywh, 3) + 0.0
    return f"{x:.3f},{y:.3f},{max(w, 0.0):.3f},{max(h, 0.0):.3f}"
