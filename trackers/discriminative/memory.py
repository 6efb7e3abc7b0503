"""Which sample a filter remembers, and how much each counts."""

import numpy as np
from numpy.typing import NDArray


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
