"""A projection and a filter, with the samples that they are learned from (see `online_filter`)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftrack.engine import on_device

from .memory import SampleWeights
from .online_filter import correlate, learn_filter, learn_filter_and_projection, project

FILTER_REG, PROJECTION_REG = 0.1, 1e-4
"""How much the squares of filter and projection count against them."""


class LearnedFilter:
    """Learns both on the first frame; after that it remembers samples and improves the filter.

    Args:
        features: of the first frame's samples, `(N, C, H, W)`.
        labels: the score maps that they should have, `(N, H, W)`.
        weight, projection: where to start from, `(1, c, k, k)` and `(c, C, 1, 1)`.
        steps, iterations: Gauss-Newton steps, and conjugate gradients in each.
        slots, initial_share: see `SampleWeights`.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        weight: Tensor,
        projection: Tensor,
        *,
        steps: int,
        iterations: int,
        slots: int,
        initial_share: float,
    ) -> None:
        count = len(features)
        self.weights = SampleWeights(slots, count, initial_share)
        self.weight, self.projection = learn_filter_and_projection(
            features,
            labels,
            torch.from_numpy(self.weights.values[:count]).to(features),
            weight.to(features),
            projection.to(features),
            filter_reg=FILTER_REG,
            projection_reg=PROJECTION_REG,
            steps=steps,
            iterations=iterations,
        )
        projected = self.project(features)
        self._samples, self._labels = (first.new_zeros((slots, *first.shape[1:])) for first in (projected, labels))
        self._samples[:count], self._labels[:count] = projected, labels

    def project(self, features: Tensor) -> Tensor:
        """Features `(N, C, H, W)` to samples `(N, c, H, W)`."""
        return project(features, self.projection)

    def scores(self, sample: Tensor) -> NDArray[np.float32]:
        """What the filter says about a sample `(1, c, H, W)`: `(H, W)`."""
        return np.asarray(correlate(sample, self.weight)[0].cpu().numpy(), dtype=np.float32)

    def remember(self, sample: Tensor, label: Tensor, rate: float) -> None:
        """Keep a sample `(1, c, H, W)`, and the score map `(1, H, W)` that it should have; `rate` as for `SampleWeights.add`."""
        slot = self.weights.add(rate)
        self._samples[slot], self._labels[slot] = sample[0], label[0]

    def learn(self, iterations: int) -> None:
        """Improve the filter on what is remembered."""
        used = self.weights.used
        weights = on_device(self.weights.values[:used].copy(), self._samples.device).to(self._samples.dtype)
        samples, labels = self._samples[:used], self._labels[:used]
        self.weight = learn_filter(samples, labels, weights, self.weight, filter_reg=FILTER_REG, iterations=iterations)


def random_start(inputs: int, outputs: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What learning may start from: a filter `(1, outputs, side, side)` and a projection `(outputs, inputs, 1, 1)`, as ATOM draws them."""
    projection = torch.randn((outputs, inputs, 1, 1), generator=generator) / math.sqrt(inputs)
    weight = torch.randn((1, outputs, side, side), generator=generator) / (outputs * side**2)
    return weight, projection
