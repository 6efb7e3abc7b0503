"""OpenCV's own runner of NanoTrack's first two versions, to compare with."""

from pathlib import Path
from typing import Self

import cv2
import numpy as np

from sftrack.contracts import BoxXYWH, Estimate, ImageRGB


class TrackerNano:
    """`cv2.TrackerNano` under the contract of a channel; it departs from the published procedure (docs/trackers.md)."""

    def __init__(self, backbone: Path, head: Path) -> None:
        self._params = cv2.TrackerNano.Params()
        self._params.backbone, self._params.neckhead = str(backbone), str(head)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns at every start of what this machine cannot do

    @classmethod
    def of_version_2(cls, shared: Path) -> Self | None:
        """With the files under `shared/weights`; None where they are not there."""
        backbone, head = (shared / f"weights/nanotrack/nanotrackv2/nanotrack_{part}_sim.onnx" for part in ("backbone", "head"))
        return cls(backbone, head) if backbone.is_file() and head.is_file() else None

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """See `Tracker`; the box is rounded."""
        self._tracker = cv2.TrackerNano.create(self._params)
        self._tracker.init(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), tuple(round(value) for value in box_xywh.tolist()))

    def update(self, image_rgb: ImageRGB) -> Estimate:
        """See `Tracker`."""
        _, box = self._tracker.update(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
        return Estimate(np.array(box, dtype=np.float64), float(np.clip(self._tracker.getTrackingScore(), 0.0, 1.0)))
