"""From a segmented crop to the region of the target: crops, contours, and rectangles around them (D3S, section 3.4)."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, SoftMask
from sftrack.window import Window

from .segmentation import CROP_PX

AREA_FACTOR = 4.0
"""Side of the crop over the square root of the target's area."""

MIN_CONTOUR_AREA = 50.0
"""Area of a contour, through the centres of its pixels, from which it is a target."""

_MAX_AXIS = 0.6  # of the mask's side; an ellipse that is larger says nothing about the direction of a target
_MIN_PIXEL_SHARE = 0.9
_EMPTY_WEIGHT = 0.25

Polygon = NDArray[np.float64]
"""Four corners `(4, 2)` of a rectangle, x and y of centres of pixels, in order around it."""


def crop_window(box_xywh: BoxXYWH) -> Window:
    """The square part of the frame in which a target is segmented; always the size of the network's input."""
    x, y, width, height = box_xywh.tolist()
    side = math.ceil(AREA_FACTOR * math.sqrt(width * height))
    return Window((round(x + width / 2.0 - side / 2.0), round(y + height / 2.0 - side / 2.0)), (side, side), (CROP_PX, CROP_PX))


def cut(image: NDArray[Any], window: Window, *, edge: bool) -> NDArray[Any]:
    """The content of a window, resized bilinearly without anti-aliasing, as the network was trained on it.

    The last row and the last column of the image count as beyond its border.

    Args:
        image: `(H, W, 3) uint8` or `(H, W) float32`.
        window: overlaps with the image.
        edge: repeat the pixels at the border beyond it; else there are zeros.
    """
    x0, y0 = window.origin_xy
    side = window.extent_wh[0]
    height, width = image.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = max(x0 + side - width + 1, 0), max(y0 + side - height + 1, 0)
    part = image[y0 + top : y0 + side - bottom, x0 + left : x0 + side - right]
    if left or top or right or bottom:
        part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE if edge else cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.resize(part, window.size_wh, interpolation=cv2.INTER_LINEAR), dtype=image.dtype)


def filled(polygon: Polygon, frame_size_wh: tuple[int, int]) -> SoftMask:
    """A polygon drawn into a frame, `(H, W) float32`: its corners cut to whole pixels, its edges included."""
    mask = np.zeros(frame_size_wh[::-1], np.float32)
    return np.asarray(cv2.fillPoly(mask, [polygon.astype(np.int32)], 1.0), dtype=np.float32)


def restricted(values: NDArray[Any], mask: NDArray[Any], margin_px: int) -> SoftMask:
    """Values `(H, W)` times a mask that is dilated by a square of the given side."""
    return np.asarray(values * cv2.dilate(mask, np.ones((margin_px, margin_px), np.uint8)), dtype=np.float32)


def corners_of(box_xywh: BoxXYWH) -> Polygon:
    """Centres of the corner pixels of a box."""
    x, y, width, height = box_xywh.tolist()
    return _corners(x, y, x + width - 1.0, y + height - 1.0)


def _corners(x1: float, y1: float, x2: float, y2: float) -> Polygon:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], dtype=np.float64)


def sides_product(polygon: Polygon) -> float:
    """Area of a rectangle by its first two sides."""
    return math.dist(polygon[0], polygon[1]) * math.dist(polygon[1], polygon[2])


def box_of_same_area(polygon: Polygon) -> BoxXYWH:
    """The axis-aligned box with the centre of a rectangle, its area, and the aspect ratio of the box around it."""
    extent = polygon.max(axis=0) - polygon.min(axis=0)
    size = extent * math.sqrt(sides_product(polygon) / float(extent.prod())) + 1.0
    return np.concatenate([polygon.mean(axis=0) - size / 2.0, size])


@dataclass(frozen=True)
class Contour:
    """The outline of the largest connected part of a mask.

    Attributes:
        points: `(N, 1, 2) int32`, x and y of its pixels, in the form that OpenCV takes.
        area: in pixels, through the centres of the pixels.
    """

    points: NDArray[np.int32]
    area: float

    def extremes(self) -> tuple[int, int, int, int]:
        """First column, first row, last column, last row."""
        (x1, y1), (x2, y2) = self.points.min(axis=(0, 1)).tolist(), self.points.max(axis=(0, 1)).tolist()
        return x1, y1, x2, y2

    def upright_rectangle(self) -> Polygon:
        """The rectangle around it with sides along the axes."""
        return _corners(*self.extremes())

    def min_area_rectangle(self) -> Polygon:
        """The smallest rectangle of any direction around it."""
        return np.asarray(cv2.boxPoints(cv2.minAreaRect(self.points)), dtype=np.float64)

    def filled(self, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """What it encloses, without holes, `(H, W) uint8`, 0 or 1."""
        mask = np.zeros(size_wh[::-1], np.uint8)
        return np.asarray(cv2.drawContours(mask, [self.points], 0, 1, cv2.FILLED), dtype=np.uint8)


def largest_contour(mask: NDArray[np.bool_]) -> Contour | None:
    """The outline of the part with the largest area of a mask `(H, W)`, None where none is larger than `MIN_CONTOUR_AREA`."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(points) for points in outlines]
    best = int(np.argmax(areas)) if areas else 0
    if not areas or areas[best] <= MIN_CONTOUR_AREA:
        return None
    return Contour(np.asarray(outlines[best], dtype=np.int32), areas[best])


def fit_rotated(mask: NDArray[Any]) -> Polygon | None:
    """A rectangle in the direction of the largest part of a mask `(H, W)`, 0 or 1, shrunk to where most of its pixels are.

    The direction is that of the ellipse that fits its outline. None where there is no part that is large enough.
    """
    contour = largest_contour(binary := mask > 0)
    if contour is None:
        return None
    height, width = mask.shape
    center, axes, degrees = cv2.fitEllipse(contour.points)
    if axes[0] > _MAX_AXIS * height or axes[1] > _MAX_AXIS * width:
        center, _, degrees = cv2.minAreaRect(contour.points)
    matrix = cv2.getRotationMatrix2D(center, degrees, 1.0)
    upright = np.rint(cv2.warpAffine(binary.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)) > 0
    turned = largest_contour(upright)
    if turned is None:
        return None
    corners = _corners(*_shrunk(upright, turned.extremes()))
    return corners @ (inverse := cv2.invertAffineTransform(matrix))[:, :2].T + inverse[:, 2]


def _shrunk(mask: NDArray[np.bool_], rectangle: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Move the edges of a rectangle (first column, first row, last column, last row) inwards, one pixel at a time, as long as that pays."""
    sums = cv2.integral(mask.astype(np.uint8))
    total = int(sums[-1, -1])

    def value(x1: int, y1: int, x2: int, y2: int) -> float:
        inside = int(sums[y2 + 1, x2 + 1]) - int(sums[y1, x2 + 1]) - int(sums[y2 + 1, x1]) + int(sums[y1, x1])
        area = (x2 - x1 + 1) * (y2 - y1 + 1)
        cost = _EMPTY_WEIGHT * (area - inside) + inside + (total - inside)
        return inside / cost if inside >= _MIN_PIXEL_SHARE * total and cost >= 1e-3 else -1.0

    best, moved = -1.0, True
    while moved:
        moved = False
        for edge, step in ((1, 1), (0, 1), (3, -1), (2, -1)):  # top, left, bottom, right
            trial = list(rectangle)
            trial[edge] += step
            if (worth := value(*trial)) > best:
                best, rectangle, moved = worth, (trial[0], trial[1], trial[2], trial[3]), True
    return rectangle
