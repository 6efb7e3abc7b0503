"""The per-pixel median of box masks, as a baseline for the fusion."""

import numpy as np
from numpy.typing import NDArray


def majority_box(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The extremes of the area that lies in more than half of the boxes `(K, 4)`; None where there is none.

    This is the box of the per-pixel median of the boxes' masks at unlimited resolution: the edges of the boxes cut the plane into cells, in
    each of which the count of boxes is constant.
    """
    x = np.unique(np.concatenate([boxes_xywh[:, 0], boxes_xywh[:, 0] + boxes_xywh[:, 2]]))
    y = np.unique(np.concatenate([boxes_xywh[:, 1], boxes_xywh[:, 1] + boxes_xywh[:, 3]]))
    middle_x, middle_y = (x[:-1] + x[1:]) / 2.0, (y[:-1] + y[1:]) / 2.0
    in_x = (boxes_xywh[:, :1] < middle_x) & (middle_x < boxes_xywh[:, :1] + boxes_xywh[:, 2:3])
    in_y = (boxes_xywh[:, 1:2] < middle_y) & (middle_y < boxes_xywh[:, 1:2] + boxes_xywh[:, 3:])
    votes = in_y.T.astype(np.int64) @ in_x.astype(np.int64)
    rows, columns = np.nonzero(2 * votes > len(boxes_xywh))
    if not len(rows):
        return None
    left, top, right, bottom = x[columns.min()], y[rows.min()], x[columns.max() + 1], y[rows.max() + 1]
    return np.array([left, top, right - left, bottom - top])


def majority_track(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """`majority_box` per frame of `(K, N, 4)` as `(N, 4)`; the last box where there is no majority, at first the coordinates' median."""
    track = np.empty(boxes_xywh.shape[1:])
    last = np.median(boxes_xywh[:, 0], axis=0)
    for index in range(boxes_xywh.shape[1]):
        found = majority_box(boxes_xywh[:, index])
        last = last if found is None else found
        track[index] = last
    return track
