"""`masks/%05d.png`: the refined segmentation of each frame."""

import contextlib
from pathlib import Path

import cv2
import numpy as np

from sftrack.contracts import Frame, SoftMask, TrackResult
from sftrack.errors import SinkError
from sftrack.overlay import MASK_THRESHOLD
from sftrack.sinks.base import BaseSink
from sftrack.sinks.files import sink_error


class MasksSink(BaseSink):
    """One 8-bit grey PNG of the frame's size per frame, named by its index: 255 on the object, 0 elsewhere (as in DAVIS).

    With `soft=True` the values are 255 times the segmentation. A frame without a mask gets an empty picture, so that none is missing.
    """

    def __init__(self, folder: str | Path, *, soft: bool = False) -> None:
        """Create the folder; pictures that are there already stay until they are overwritten.

        Raises:
            SinkError: it cannot be created.
        """
        self.path = Path(folder)
        self._soft = soft
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sink_error(self.path, error) from error

    def write(self, frame: Frame, result: TrackResult) -> None:
        """Write the frame's picture.

        Raises:
            SinkError: it cannot be written; no half picture is left.
        """
        mask = result.mask if result.mask is not None else np.zeros(frame.image_rgb.shape[:2], np.float32)
        write_mask(self.path / f"{frame.index:05d}.png", mask, soft=self._soft)

    def close(self) -> None:
        """Every picture is complete; a folder without one is removed."""
        with contextlib.suppress(OSError):  # as a folder with one is
            self.path.rmdir()


def write_mask(path: Path, mask: SoftMask, *, soft: bool) -> None:
    """Write a mask `(H, W)` in [0, 1] as 8-bit grey PNG: 255 above `MASK_THRESHOLD` and 0 elsewhere, or 255 times the value with `soft`.

    Raises:
        SinkError: it cannot be written; the file is complete or not there.
    """
    if soft:
        levels = np.rint(np.clip(np.nan_to_num(mask), 0.0, 1.0) * 255).astype(np.uint8)
    else:
        levels = np.where(mask > MASK_THRESHOLD, np.uint8(255), np.uint8(0))
    is_good, encoded = cv2.imencode(".png", levels)
    if not is_good:
        raise SinkError(f"expected to write '{path}', got a failure of the PNG encoder; try without masks")
    part = path.with_suffix(".part")
    try:
        part.write_bytes(encoded.tobytes())
        part.replace(path)
    except OSError as error:
        raise sink_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
