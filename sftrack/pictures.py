"""Pictures from disk, wherever they are read: data sets, folders of frames, masks, the demo."""

from pathlib import Path

import cv2
import numpy as np

from sftrack.contracts import ImageRGB
from sftrack.errors import SourceError


def read_rgb(path: Path) -> ImageRGB:
    """A picture as `(H, W, 3) uint8` in RGB order, turned as its EXIF data say.

    Raises:
        SourceError: the file is missing or is not an image.
    """
    image_bgr = read_picture(path, cv2.IMREAD_COLOR, "an image")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_picture(path: Path, flags: int, what: str) -> cv2.typing.MatLike:
    """A picture as OpenCV has it.

    Not with `cv2.imread`, which says on stderr, and not to us, why a file cannot be opened, and fails on non-ASCII names on Windows.

    Raises:
        SourceError: the file is missing or is not an image; `what` is what it calls it.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
        decoded = cv2.imdecode(encoded, flags) if encoded.size else None
    except OSError as error:
        raise SourceError(f"expected {what} at {path}, it cannot be read: {error.strerror or error}") from error
    except cv2.error as error:
        raise SourceError(f"expected {what} at {path}, it cannot be decoded: {error.err}") from error
    if decoded is None:
        raise SourceError(f"expected {what} at {path}, {'the file is no picture' if encoded.size else 'the file is empty'}")
    return decoded
