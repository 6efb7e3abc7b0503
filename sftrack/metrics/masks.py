"""One mask against the truth, as the DAVIS benchmark defines it (Perazzi et al., CVPR 2016): region similarity J and contour accuracy F."""

import math
from numbers import Real

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""`(H, W) bool`, True on the object."""

BOUNDARY_TOLERANCE = 0.008
"""Distance, as a share of the image's diagonal, up to which boundary pixels match; rounded up to whole pixels (8 at 480x854)."""


def jaccard(mask: Mask, truth: Mask) -> float:
    """J: intersection over union of two masks `(H, W) bool`; 1 where both are empty, 0 where one is (DAVIS convention).

    Raises:
        TypeError, ValueError: not two boolean arrays of one shape `(H, W)`.
    """
    _check_masks(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_f(mask: Mask, truth: Mask, *, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F: harmonic mean of the precision and the recall of the mask's boundary pixels against the truth's.

    A boundary pixel is matched where the other boundary has a pixel within the tolerance (Euclidean, a dilation with a disk). Without any
    boundary in both masks the value is 1, with one in only one of them 0. A mask that fills the frame has no boundary: the frame's
    edge is none.

    Args:
        mask: `(H, W) bool`.
        truth: `(H, W) bool`.
        tolerance: below 1 a share of the diagonal (rounded up), from 1 on pixels.

    Raises:
        TypeError, ValueError: not two boolean arrays of one shape `(H, W)`, or a tolerance that is not positive.
    """
    _check_masks(mask, truth)
    if not (isinstance(tolerance, Real) and 0 < tolerance < math.inf):
        raise ValueError(f"expected a tolerance above 0, a share of the diagonal or pixels, got {tolerance!r}")
    radius_px = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*mask.shape))
    found, wanted = boundary(mask), boundary(truth)
    count_found, count_wanted = np.count_nonzero(found), np.count_nonzero(wanted)
    if not (count_found and count_wanted):
        return float(count_found == count_wanted)
    precision = np.count_nonzero(found & _near(wanted, radius_px)) / count_found
    recall = np.count_nonzero(wanted & _near(found, radius_px)) / count_wanted
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels `(H, W) bool` that differ from their right, lower or lower right neighbour: a line one pixel wide.

    Raises:
        TypeError, ValueError: not a boolean array `(H, W)`.
    """
    _check_masks(mask)
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return np.asarray((mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:]))


def _near(line: Mask, radius_px: float) -> Mask:
    """Pixels within the radius of a True pixel: the distance transform is several times faster than dilation with a disk of this size."""
    distance = cv2.distanceTransform((~line).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= radius_px + 1e-3)  # distances are square roots of whole numbers, in float32


def _check_masks(*masks: Mask) -> None:
    if not all(isinstance(mask, np.ndarray) for mask in masks):
        given = " and ".join(type(mask).__name__ for mask in masks)
        raise TypeError(f"expected masks as NumPy arrays, got {given}; use np.asarray")
    if any(mask.ndim != 2 or not mask.size or mask.dtype != np.bool_ or mask.shape != masks[0].shape for mask in masks):
        given = " and ".join(f"{mask.dtype} {mask.shape}" for mask in masks)
        raise ValueError(f"expected boolean masks (H, W) of one size, got {given}; threshold soft masks first")
