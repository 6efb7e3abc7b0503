"""OpenCV's own runner of NanoTrack's first two versions, to compare with."""

from pathlib import Path

import cv2
import numpy as np

from sftrack.config import ChannelConfig
from sftrack.contracts import BoxXYWH, Estimate, ImageRGB
from sftrack.trackers import register

NAME = "cv2.TrackerNano"


def tracker_nano(shared: Path) -> ChannelConfig | None:
    """With the ONNX files of version 2 under `shared/weights`; None where they are not there."""
    parts = {part: shared / f"weights/nanotrack/nanotrackv2/nanotrack_{part}_sim.onnx" for part in ("backbone", "head")}
    return ChannelConfig(NAME, NAME, parts) if all(path.is_file() for path in parts.values()) else None


@register(NAME)
class TrackerNano:
    """`cv2.TrackerNano` under the contract of a channel; it departs from the published procedure (docs/trackers.md)."""

    def __init__(self, backbone: Path, head: Path) -> None:
        self._params = cv2.TrackerNano.Params()
        self._params.backbone, self._params.neckhead = str(backbone), str(head)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns at every start of what this machine cannot do

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """See `Tracker`; the box is rounded."""
        self._tracker = cv2.TrackerNano.create(self._params)
        self._tracker.init(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), tuple(round(value) for value in box_xywh.tolist()))

    def update(self, image_rgb: ImageRGB) -> Estimate:
        """See `Tracker`."""
        _, box = self._tracker.update(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
        return Estimate(np.array(box, dtype=np.float64), float(np.clip(self._tracker.getTrackingScore(), 0.0, 1.0)))
