"""Which samples a filter remembers, and how much each counts."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sftrack.engine import on_device

from .patches import Vector
from .steepest_descent import Samples


class SampleWeights:
    """Weights of a fixed number of slots; a new sample replaces the one of least weight (empty slots have none and come first).

    Each sample that is added weighs `1 / (1 - rate)` times the one before, so old ones fade out. Those of the first frame, which are the
    only ones known to be right, keep a share together.

    Attributes:
        values: the weights `(slots,) float32`; together about 1.

    Args:
        slots: how many samples are remembered.
        initial: how many of them are of the first frame, in the first slots.
        initial_share: what these weigh together at least; they are then never replaced. 0: they fade and are replaced like all others.
    """

    def __init__(self, slots: int, initial: int, initial_share: float) -> None:
        self.values: NDArray[np.float32] = np.zeros(slots, np.float32)
        self.values[:initial] = 1.0 / initial
        self.count = initial
        self._share = np.float32(initial_share)
        self._protected = initial if initial_share > 0.0 else 0
        self._previous: int | None = None

    @property
    def used(self) -> int:
        """Number of slots that hold a sample: the first ones."""
        return min(self.count, len(self.values))

    def add(self, rate: float) -> int:
        """Make room for a sample; returns its slot."""
        weights = self.values
        slot = self._protected + int(weights[self._protected :].argmin())
        if self._previous is None:
            weights /= np.float32(1.0 - rate)
            weights[slot] = rate
        else:
            weights[slot] = weights[self._previous] / np.float32(1.0 - rate)
        weights /= weights.sum()
        initial = weights[: self._protected]
        if self._protected and initial.sum() < self._share:
            weights /= self._share + weights[self._protected :].sum()
            initial[:] = self._share / np.float32(self._protected)
        self._previous = slot
        self.count += 1
        return slot


class SampleMemory:
    """Features and boxes of the samples that DiMP's filter is learned from.

    Args:
        features, boxes_xywh: those of the first frame, `(n, C, h, w)` and, in pixels of the crop, `(n, 4)`.
        slots, initial_share: see `SampleWeights`.
    """

    def __init__(self, features: Tensor, boxes_xywh: Tensor, slots: int, initial_share: float) -> None:
        initial = len(features)
        self.weights = SampleWeights(slots, initial, initial_share)
        self._features = features.new_zeros((slots, *features.shape[1:]))
        self._boxes = boxes_xywh.new_zeros((slots, 4))
        self._features[:initial], self._boxes[:initial] = features, boxes_xywh

    def add(self, features: Tensor, box_xywh: Vector, rate: float) -> None:
        """Remember a sample `(1, C, h, w)`; `rate` as for `SampleWeights.add`."""
        slot = self.weights.add(rate)
        self._features[slot] = features[0]
        self._boxes[slot] = on_device(box_xywh, self._boxes.device)

    @property
    def samples(self) -> Samples:
        """What is remembered."""
        used = self.weights.used
        weights = on_device(self.weights.values[:used].copy(), self._features.device)
        return Samples(self._features[:used], self._boxes[:used], weights)
