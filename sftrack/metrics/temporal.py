"""TCONT: do the masks of neighbouring frames, moved along the optical flow, agree with the truth (SFSeg++ paper, Eq. 14 and 15)?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import RANGE_TOLERANCE, ImageRGB
from sftrack.flow import Flow, dense_flow, warp
from sftrack.metrics.masks import Mask, jaccard


def temporal_consistency(
    masks: Sequence[NDArray[np.bool_ | np.floating]],
    truth: Sequence[Mask],
    *,
    frames_rgb: Sequence[ImageRGB] | None = None,
    flows: Sequence[tuple[Flow, Flow]] | None = None,
    threshold: float = 0.5,
) -> float:
    """Mean over the frames 2 to n - 1 of the Jaccard index between the truth and `consistent_mask` of the frame and its two neighbours.

    The index ranges printed in Eq. 14 have different lengths; frames i - 1, i, i + 1 for i = 2 to n - 1 must be meant. A frame on which
    truth and combined mask are both empty counts as 1 (the convention of `jaccard`).

    Args:
        masks: n masks `(H, W)`, bool or soft in [0, 1]; any sequence, also one that reads files when it is indexed.
        truth: n masks `(H, W) bool`.
        frames_rgb: n frames `(H, W, 3) uint8`, from which the flow is computed with OpenCV's DIS.
        flows: instead of frames, per frame 2 to n - 1 the flow to the frame before it and to the frame after it, `(H, W, 2)` each.
        threshold: of the mean of the three masks.

    Raises:
        ValueError: fewer than three frames, counts or sizes that differ, both or none of frames and flows, or what `consistent_mask` and
            `jaccard` refuse.
    """
    count = len(masks)
    if count < 3 or len(truth) != count:
        raise ValueError(f"expected as many masks as true masks, at least 3, got {count} and {len(truth)}")
    if (frames_rgb is None) == (flows is None):
        raise ValueError("expected either the frames or the flows, got " + ("neither" if flows is None else "both"))
    if frames_rgb is not None and len(frames_rgb) != count:
        raise ValueError(f"expected {count} frames, one per mask, got {len(frames_rgb)}")
    if flows is not None and len(flows) != count - 2:
        raise ValueError(f"expected {count - 2} pairs of flows, one per frame that has two neighbours, got {len(flows)}")
    values = []
    for index in range(1, count - 1):
        if flows is not None:
            if len(flows[index - 1]) != 2:
                raise ValueError(f"expected two flows for frame {index}, to the one before and after, got {len(flows[index - 1])}")
            to_previous, to_next = flows[index - 1]
        elif frames_rgb is not None:
            frame = frames_rgb[index]
            to_previous, to_next = (dense_flow(frame, frames_rgb[other]) for other in (index - 1, index + 1))
        combined = consistent_mask(masks[index - 1], masks[index], masks[index + 1], to_previous, to_next, threshold=threshold)
        values.append(jaccard(combined, truth[index]))
    return float(np.mean(values))


def consistent_mask(
    previous: NDArray[np.bool_ | np.floating],
    current: NDArray[np.bool_ | np.floating],
    following: NDArray[np.bool_ | np.floating],
    to_previous: Flow,
    to_next: Flow,
    *,
    threshold: float = 0.5,
) -> Mask:
    """Eq. 14 for one frame: the mean of its mask and its neighbours' masks moved to it along the flow, thresholded (`>=`), `(H, W) bool`.

    Args:
        previous: mask of the frame before, `(H, W)`, bool or soft in [0, 1].
        current: mask of the frame.
        following: mask of the frame after.
        to_previous: flow from the frame to the one before, `(H, W, 2)` in pixels.
        to_next: flow from the frame to the one after.
        threshold: above 0, at most 1; what moves in from outside the frame counts as 0.

    Raises:
        ValueError: sizes that differ, masks outside [0, 1], flow that is not finite, another threshold.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"expected a threshold above 0 and at most 1, got {threshold}")
    for name, mask in (("previous", previous), ("current", current), ("following", following)):
        if mask.ndim != 2 or mask.shape != current.shape or not mask.size:
            raise ValueError(f"expected masks (H, W) of one size, got {mask.shape} for {name} and {current.shape} for current")
        if not (mask.min() >= -RANGE_TOLERANCE and mask.max() <= 1.0 + RANGE_TOLERANCE):
            raise ValueError(
                f"expected masks in [0, 1], got {mask.min():.4g} to {mask.max():.4g} for {name}; divide masks of 0 and 255 by 255"
            )
    for name, flow in (("to_previous", to_previous), ("to_next", to_next)):
        if flow.shape != (*current.shape, 2):
            raise ValueError(f"expected flow of shape {(*current.shape, 2)}, got {flow.shape} for {name}")
    return np.asarray((warp(previous, to_previous) + warp(following, to_next) + current) / 3.0 >= threshold)
