"""Square crops around the target, as the Siamese trackers were trained on them (specified in pysot's terms; identical to the pixel)."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB


def fill_colour(image_rgb: ImageRGB) -> NDArray[np.uint8]:
    """What pixels beyond the border look like: the mean of each channel, `(3,) uint8`, truncated, not rounded."""
    sums = np.array(cv2.sumElems(image_rgb)[:3])  # whole numbers, exact in float64
    return np.asarray(sums / (image_rgb.shape[0] * image_rgb.shape[1]), dtype=np.uint8)


def crop_square(image_rgb: ImageRGB, center_xy: NDArray[np.float64], side_px: int, size_px: int, fill: NDArray[np.uint8]) -> ImageRGB:
    """Cut a square out of an image and resize it (bilinear on whole grey levels, without anti-aliasing, as in training).

    Only the square is ever copied, never the frame; where it lies inside the frame not even that.

    Args:
        image_rgb: `(H, W, 3) uint8`; the order of the channels does not matter here.
        center_xy: middle of the square in pixels of the image, `(2,)`.
        side_px: side of the square in the image.
        size_px: side of the result.
        fill: colour of what lies beyond the border, `(3,) uint8`.

    Returns:
        `(size_px, size_px, 3) uint8`, which may be a view of the image: not to be written to.
    """
    height, width = image_rgb.shape[:2]
    x0, y0 = (math.floor(float(center) - (side_px + 1) / 2 + 0.5) for center in center_xy)
    left, top = min(max(-x0, 0), side_px), min(max(-y0, 0), side_px)
    right, bottom = min(max(x0 + side_px - width, 0), side_px), min(max(y0 + side_px - height, 0), side_px)
    square = image_rgb[max(y0, 0) : max(y0 + side_px, 0), max(x0, 0) : max(x0 + side_px, 0)]
    if not square.size:
        return np.full((size_px, size_px, 3), fill, np.uint8)
    if left or top or right or bottom:
        bordered = cv2.copyMakeBorder(square, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill.tolist())
        square = np.asarray(bordered, dtype=np.uint8)
    if side_px == size_px:
        return square
    return np.asarray(cv2.resize(square, (size_px, size_px), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
