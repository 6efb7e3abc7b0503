"""`boxes.txt`: one box per frame, as the analysis tools of the field read it."""

import logging
from pathlib import Path

import numpy as np

from sftrack.contracts import Frame, TrackResult
from sftrack.sinks.base import LineSink

logger = logging.getLogger(__name__)


class BoxesSink(LineSink):
    """Lines `x,y,w,h` with 3 decimals, 0-based; never NaN, never a negative size."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._last_line = "0.000,0.000,0.000,0.000"

    def line(self, frame: Frame, result: TrackResult) -> str:
        box = np.array(result.box_xywh, dtype=np.float64)
        if box.shape != (4,) or not np.isfinite(box).all():
            # readers count lines and refuse NaN: the file stays readable, the log names the fault
            logger.warning("frame %d has the box %s; the box before it is written", frame.index, box.tolist())
            return self._last_line
        box[2:] = np.maximum(box[2:], 0.0)
        rounded = np.round(box, 3) + 0.0  # no "-0.000"
        self._last_line = ",".join(f"{value:.3f}" for value in rounded)
        return self._last_line
