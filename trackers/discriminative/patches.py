"""Square patches around the target, as the trackers with online learning sample them; identical to the pixel.

Positions are `(y, x)`, sizes `(h, w)`, in pixels whose centres have whole coordinates; all of them are float32, as in the original
implementations, so that roundings fall alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftrack.contracts import ImageRGB

Vector = NDArray[np.float32]
"""A position `(y, x)` or a size `(h, w)`, `(2,)`."""


@dataclass(frozen=True)
class Patch:
    """A square part of a frame, resized.

    Attributes:
        image_rgb: `(1, 3, N, N) float32`, 0 to 255, on the CPU.
        bounds: top, left, bottom, right in the frame (the last two exclusive), `(4,)`. Where the frame was decimated they miss the
            offset of its grid, up to half of the decimation factor: the published networks were tuned with this.
    """

    image_rgb: Tensor
    bounds: Vector

    @property
    def position(self) -> Vector:
        """Its middle in the frame."""
        return (self.bounds[:2] + self.bounds[2:] - np.float32(1)) / np.float32(2)

    @property
    def scale(self) -> np.float32:
        """Pixels of the frame per pixel of the patch."""
        sides = (self.bounds[2:] - self.bounds[:2]) / np.float32(self.image_rgb.shape[-1])
        return np.float32(np.sqrt(sides[0] * sides[1]))


def vector(values: object) -> Vector:
    """Two numbers as a `Vector`."""
    return np.asarray(values, dtype=np.float32)


def sample_patch(
    image_rgb: ImageRGB,
    position: Vector,
    side_px: float,
    output_px: int,
    *,
    max_shrink: float | None = None,
    fractional_bounds: bool = False,
) -> Patch:
    """Cut a square out of a frame and resize it (bilinear, float32, no anti-aliasing); beyond the frame its edge is repeated.

    A square more than twice as large as the result is first decimated, so the cost does not depend on its size.

    Args:
        image_rgb: `(H, W, 3) uint8`.
        position: middle of the square; its fraction is cut off.
        side_px: side of the square in the frame.
        output_px: side N of the result.
        max_shrink: shift the square into the frame, and shrink it by up to this factor if it is larger (border mode `inside_major` of
            PyTracking). None leaves it where it is.
        fractional_bounds: compute its bounds as PyTracking has done since May 2022: they are not floored before they are cut to whole
            pixels, and the fractions stay in `Patch.bounds`. The published results were made without.
    """
    size = np.array(image_rgb.shape[:2])
    side = np.float32(side_px)
    if max_shrink is not None:
        shrink = np.clip((side / size.astype(np.float32)).min(), 1.0, max_shrink)
        side = np.trunc(side / np.float32(shrink))
    factor = max(1, int(float(side / np.float32(output_px)) - 0.1))
    middle = np.trunc(position).astype(np.int64)
    offset = np.minimum(middle % factor, size - 1)  # or, in a frame smaller than the factor, nothing would be left
    decimated = image_rgb[offset[0] :: factor, offset[1] :: factor]
    middle = (middle - offset) // factor
    rows_columns = max(2, int(np.rint(side / np.float32(factor))))
    if fractional_bounds:
        top_left, bottom_right = middle - (rows_columns - 1) / 2, middle + rows_columns / 2 + 1
    else:
        top_left, bottom_right = middle - float((rows_columns - 1) // 2), middle + float(rows_columns // 2 + 1)
    if max_shrink is not None:
        before, after = np.maximum(-top_left, 0), np.maximum(bottom_right - decimated.shape[:2], 0)
        top_left, bottom_right = top_left + (before - after), bottom_right + (before - after)
        before, after = np.maximum(-top_left, 0), np.maximum(bottom_right - decimated.shape[:2], 0)
        out = np.floor((before + after) / 2)
        centred = np.where(out > 0, -top_left - out, 0)
        top_left, bottom_right = top_left + centred, bottom_right + centred
    cut = _cut(decimated, np.trunc(top_left).astype(np.int64), np.trunc(bottom_right).astype(np.int64))
    pixels = torch.from_numpy(cut).permute(2, 0, 1)[None].float()
    if pixels.shape[2:] != (output_px, output_px):
        pixels = functional.interpolate(pixels, (output_px, output_px), mode="bilinear", align_corners=False)
    return Patch(pixels, vector(factor * np.concatenate([top_left, bottom_right])))


def _cut(image_rgb: ImageRGB, top_left: NDArray[np.int64], bottom_right: NDArray[np.int64]) -> ImageRGB:
    """The given rows and columns, repeating the edge beyond the image, even where nothing of it is inside. Contiguous."""
    limits = np.array(image_rgb.shape[:2])
    start, stop = np.clip(top_left, 0, limits - 1), np.clip(bottom_right, 1, limits)
    missing = bottom_right - top_left - (stop - start)
    before = np.clip(-top_left, 0, missing)
    inside = image_rgb[start[0] : stop[0], start[1] : stop[1]]
    if not missing.any():
        return np.ascontiguousarray(inside)
    (top, left), (bottom, right) = before.tolist(), (missing - before).tolist()
    return np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)


def to_patch(position: Vector, size: Vector, patch_position: Vector, patch_scale: float | np.float32, patch_px: int) -> Vector:
    """A target in a frame as box `x, y, w, h` in a patch of N pixels, `(4,)`.

    Its upper left corner is `(side - 1) / 2` from the middle, while `from_patch` takes the middle at `side / 2`: they are not inverse to
    each other. The published networks were tuned with this.
    """
    scale = np.float32(patch_scale)
    middle = (position - patch_position) / scale + np.float32((patch_px - 1) / 2)
    size = size / scale
    corner = middle - (size - np.float32(1)) / np.float32(2)
    return np.concatenate([corner[::-1], size[::-1]])


def from_patch(box_xywh: Vector, patch_position: Vector, patch_scale: float | np.float32, patch_px: int) -> tuple[Vector, Vector]:
    """Position and size in the frame of a box in a patch; see `to_patch`."""
    scale = np.float32(patch_scale)
    middle, size = box_xywh[1::-1] + box_xywh[:1:-1] / np.float32(2), box_xywh[:1:-1]
    return (middle - np.float32((patch_px - 1) / 2)) * scale + patch_position, size * scale
