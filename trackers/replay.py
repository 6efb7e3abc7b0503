"""Boxes of a file as a channel: the output of any other program takes part in the fusion."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.datasets.sequence import read_boxes
from sftrack.errors import ConfigError

from .base import BoxTracker, check_paths
from .registry import register


@register("replay")
class Replay(BoxTracker):
    """Hands out one recorded box per update: row k after k updates (row 0 belongs to the frame of `init`).

    A later `init` does not rewind: the pipeline may re-initialise a channel on any frame, and the rows belong to frames. Only an `init`
    on the frame before the last one takes that one back: a channel that went ahead is sent over it again. Use a new object for another
    pass. Rows of NaN and frames after the last row give the last box with score 0.

    Args:
        path: text file with one `x,y,w,h` per line (commas, tabs or blanks), 0-based.
        boxes_xywh: `(N, 4)` instead of a file.
        scores: `(N,)` in [0, 1]; 1 where not given.
        one_based: the file counts pixels from 1, as those of OTB and UAV123 do.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        boxes_xywh: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        one_based: bool = False,
    ) -> None:
        if (path is None) == (boxes_xywh is None):
            raise ConfigError("expected either path (a file of boxes) or boxes_xywh for tracker 'replay', got both or none")
        check_paths(path=path)
        boxes = read_boxes(Path(path)) if path is not None else np.array(boxes_xywh, dtype=np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise ConfigError(f"expected boxes of shape (N, 4) for tracker 'replay', got {boxes.shape}")
        self._boxes = boxes - np.array([1.0, 1.0, 0.0, 0.0]) if one_based else boxes
        self._scores = np.ones(len(boxes)) if scores is None else np.array(scores, dtype=np.float64)
        if self._scores.shape != (len(boxes),):
            raise ConfigError(f"expected {len(boxes)} scores for tracker 'replay', one per box, got shape {self._scores.shape}")
        self._updates = 0
        self._last_images: tuple[ImageRGB | None, ImageRGB | None] = (None, None)

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        before, last = self._last_images
        if image_rgb is before and image_rgb is not last:
            self._updates -= 1
            self._last_images = (None, before)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._updates += 1
        self._last_images = (self._last_images[1], image_rgb)
        if self._updates >= len(self._boxes):
            return None, 0.0
        return self._boxes[self._updates], float(self._scores[self._updates])
