"""The channel combination: how much each channel's segmentation counts on this frame (paper, Eq. 9, `z = b + sum_k w_k (2 a_k - 1)`).

The paper learns one weight per tracker. Which of five weak trackers is right changes from frame to frame, so here a small network
predicts the overlap of each channel's box with the object from what can be seen, and the weights follow from that. It knows nothing
about which tracker it judges: any set of channels works.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from sftrack.boxes import center_xy, iou
from sftrack.contracts import BoxXYWH, SoftMask
from sftrack.engine import fastest_engine
from sftrack.resampling import block_means
from sftrack.weights.bundled import bundled_path, load_network

SHRINKING = 4
"""Pixels of a mask along each side that count as one where masks are compared."""

FEATURE_NAMES = (
    "own score",
    "mean overlap with the other boxes",
    "largest overlap with another box",
    "overlap with the previous fused box",
    "distance from it in box sizes",
    "log of the area ratio to it",
    "log of the aspect ratio to it",
    "how full the box is of mask",
    "share of the mask outside the box",
    "overlap of the mask with the previous mask",
    "mean overlap of the mask with the other masks",
    "likeness of the features to the first frame",
    "likeness of the features to the recent frames",
    "correlation with the first template",
    "correlation with the recent template",
    "likeness of the colours to the first frame",
    "recent overlap with the fused box",
    "previous fused score",
)


@dataclass(frozen=True)
class Evidence:
    """What is known about K channels on one frame. Boxes and masks are in working coordinates of one window.

    Attributes:
        boxes_xywh: `(K, 4)`.
        scores: the channels' own confidences, `(K,)`.
        masks: their segmentations, `(K, h, w)`.
        descriptors: signatures of what they segmented, `(K, D)`.
        looks: how much each box looks like the target, `(K, 3)`, see `appearance`.
        record: running mean of their overlap with the fused box, `(K,)`.
        previous_box_xywh: the fused box of the previous frame.
        previous_mask: the refined segmentation of the previous frame, `(h, w)`.
        previous_score: its score.
        first_descriptor: signature of the object on the first frame, `(D,)`.
        recent_descriptor: running mean of the signatures since, `(D,)`.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    masks: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    looks: NDArray[np.float64]
    record: NDArray[np.float64]
    previous_box_xywh: BoxXYWH
    previous_mask: SoftMask
    previous_score: float
    first_descriptor: NDArray[np.float32]
    recent_descriptor: NDArray[np.float32]

    def features(self) -> NDArray[np.float32]:
        """`(K, len(FEATURE_NAMES)) float32`, one row per channel, in the order of the names."""
        count = len(self.boxes_xywh)
        between = iou(self.boxes_xywh[:, None], self.boxes_xywh[None])
        np.fill_diagonal(between, 0.0)
        others = max(count - 1, 1)
        size = np.maximum(self.boxes_xywh[:, 2:], 1e-3)
        previous_size = np.maximum(self.previous_box_xywh[2:], 1e-3)
        offset = (center_xy(self.boxes_xywh) - center_xy(self.previous_box_xywh)) / np.sqrt(previous_size.prod())
        log_ratio = np.log(size / previous_size)
        small = np.stack([block_means(mask, SHRINKING) for mask in self.masks])
        area = small.sum((1, 2)) + 1e-3
        inside = _inside(small, self.boxes_xywh / (self.masks.shape[2] / small.shape[2]))
        mask_overlap = _soft_overlap(small, small)
        np.fill_diagonal(mask_overlap, 0.0)
        box_area = np.maximum(size.prod(axis=1) / (self.masks.shape[2] / small.shape[2]) ** 2, 1e-3)
        columns = [
            self.scores,
            between.sum(1) / others,
            between.max(1),
            iou(self.boxes_xywh, self.previous_box_xywh),
            np.tanh(np.linalg.norm(offset, axis=1)),
            np.clip(log_ratio.sum(1), -2.0, 2.0),
            np.clip(log_ratio[:, 0] - log_ratio[:, 1], -2.0, 2.0),
            np.clip(inside / box_area, 0.0, 1.0),
            1.0 - inside / area,
            _soft_overlap(small, block_means(self.previous_mask, SHRINKING)[None])[:, 0],
            mask_overlap.sum(1) / others,
            self.descriptors @ self.first_descriptor,
            self.descriptors @ self.recent_descriptor,
            *self.looks.T,
            self.record,
            np.full(count, self.previous_score),
        ]
        return np.asarray(np.nan_to_num(np.stack(columns, axis=1)), dtype=np.float32)


def _soft_overlap(masks: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Jaccard of soft masks, `(K, h, w)` with `(N, h, w)` to `(K, N)`: products for the intersection."""
    a, b = masks.reshape(len(masks), -1).astype(np.float64), others.reshape(len(others), -1).astype(np.float64)
    both = a @ b.T
    union = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - both
    return np.asarray(both / np.maximum(union, 1e-3), dtype=np.float64)


def _inside(masks: NDArray[np.float32], boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of each mask within its own box, `(K,)`."""
    sums = []
    for mask, (x, y, w, h) in zip(masks, boxes_xywh, strict=True):
        rows = slice(max(round(y), 0), max(round(y + h), 0))
        columns = slice(max(round(x), 0), max(round(x + w), 0))
        sums.append(float(mask[rows, columns].sum()))
    return np.array(sums)


class CombineNet(nn.Module):
    """Predicts the overlap of every channel's box with the object; sees each channel beside the mean and maximum of all."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int = len(FEATURE_NAMES), width: int = 48) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.layers = nn.Sequential(nn.Linear(3 * features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`(B, K, F)` to logits of the overlap `(B, K)`."""
        scaled = (features - self.mean) / self.std
        pooled = torch.cat([scaled.mean(1, keepdim=True), scaled.amax(1, keepdim=True)], dim=2)
        logits: Tensor = self.layers(torch.cat([scaled, pooled.expand(-1, scaled.shape[1], -1)], dim=2))
        return logits[..., 0]


class Combiner:
    """The combination as the pipeline uses it."""

    def __init__(self, network: CombineNet, sharpness: float) -> None:
        """`sharpness`: how strongly a better predicted overlap counts; weights are a softmax of `sharpness * overlap`."""
        example = torch.zeros(1, 2, len(FEATURE_NAMES))
        self._engine = fastest_engine(network.eval().requires_grad_(False), [example], free_axis=1)  # channels may fail
        self._sharpness = sharpness

    @classmethod
    def bundled(cls, sharpness: float) -> Self:
        """With the weights that the package ships."""
        return cls(load_network(CombineNet(), bundled_path("combine")), sharpness)

    def weigh(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features `(K, F)` to predicted overlaps `(K,)` in [0, 1] and weights `(K,)` that sum to 1."""
        [logits] = self._engine.run(features[None])
        overlap = expit(logits[0].astype(np.float64))
        return overlap, softmax(overlap * self._sharpness)


def fuse(masks: NDArray[np.float32], weights: NDArray[np.float64], unary: Literal["weighted", "median", "best"] = "weighted") -> SoftMask:
    """One segmentation from those of the channels, `(K, h, w)`.

    `weighted` is their weighted mean: Eq. 9 on probabilities, with weights that sum to 1, so it stays in [0, 1]. `median` (pixel by
    pixel) and `best` (the one of most weight) are what the paper compares it with (Table 9).
    """
    if unary == "median":
        return np.median(masks, axis=0).astype(np.float32)
    if unary == "best":
        return np.asarray(masks[int(weights.argmax())], dtype=np.float32)
    return np.asarray(np.einsum("k,khw->hw", weights, masks), dtype=np.float32)


def leader(boxes_xywh: NDArray[np.float64], trust: NDArray[np.float64]) -> int:
    """The box that most of the trust, `(K,)`, agrees with: when channels part, one of the places is right, not the middle."""
    return int((iou(boxes_xywh[:, None], boxes_xywh[None]) @ trust).argmax())


SAME_PLACE = 0.5
"""Overlap from which two boxes are taken to be on the same thing."""


def majority(boxes_xywh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the boxes `(K, 4)` are on the same thing as one of them is, if these are more than half of all; else none, `(K,)`."""
    between = iou(boxes_xywh[:, None], boxes_xywh[None])
    near = between >= SAME_PLACE
    members: NDArray[np.bool_] = near[(between * near).sum(1).argmax()]
    return members if 2 * np.count_nonzero(members) > len(members) else np.zeros_like(members)


def agree(boxes_xywh: NDArray[np.float64], overlaps: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights `(K,)` of which nearly nothing is left to channels that lie elsewhere than the leader; they sum to 1."""
    near = iou(boxes_xywh, boxes_xywh[leader(boxes_xywh, overlaps)])
    kept = weights * np.maximum(near, 0.02)
    return np.asarray(kept / kept.sum(), dtype=np.float64)
