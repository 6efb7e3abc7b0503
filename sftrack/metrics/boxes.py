"""Overlap metrics of boxes against the truth, as the OTB benchmark defines them (Wu, Lim, Yang, TPAMI 2015)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrack.boxes import iou

OVERLAP_THRESHOLDS: NDArray[np.float64] = np.arange(21) / 20.0
"""0, 0.05, ..., 1."""


def success_curve(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> NDArray[np.float64]:
    """Share of frames whose IoU is *above* (not equal to) each threshold of `OVERLAP_THRESHOLDS`, `(21,)`.

    The first frame is left out (its box was given), and so are frames whose true box is NaN (target absent). A predicted box that
    is NaN counts as a miss. IoU is that of continuous boxes, without the inclusive +1 of some tools. The last value is always 0.

    Raises:
        ValueError: not two arrays `(N, 4)` of the same N, or no frame left to judge.
    """
    boxes, truth = np.asarray(boxes_xywh, dtype=np.float64), np.asarray(truth_xywh, dtype=np.float64)
    if boxes.shape != truth.shape or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected two arrays (N, 4) of the same length, got {boxes.shape} and {truth.shape}")
    judged = np.isfinite(truth).all(axis=1) & (np.arange(len(truth)) > 0)
    if not judged.any():
        raise ValueError("expected at least one frame with a true box after the first one, got none")
    overlaps = iou(boxes[judged], truth[judged])
    return np.asarray((overlaps[:, None] > OVERLAP_THRESHOLDS).mean(axis=0), dtype=np.float64)


def success_auc(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> float:
    """Area under the success curve of one sequence: the mean of its 21 values. Data sets report the mean over sequences."""
    return float(success_curve(boxes_xywh, truth_xywh).mean())
