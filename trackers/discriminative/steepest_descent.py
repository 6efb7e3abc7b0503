"""The learned optimisers of a target filter: DiMP (Bhat et al., ICCV 2019, section 3.2) and PrDiMP (Danelljan et al., CVPR 2020,
section 4.2).

Both descend along the gradient of their loss over the remembered samples, with the step length of Newton's method along it and a learned
factor. Few iterations suffice.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .correlation import correlate, correlate_adjoint

STRIDE_PX = 16
"""Pixels of the crop per cell of the classification features."""


class Samples(NamedTuple):
    """What a filter is learned from.

    Attributes:
        features: classification features `(n, C, H, W)`.
        boxes_xywh: the target in each crop, in its pixels, `(n, 4)`.
        weights: how much each counts, `(n,)`.
    """

    features: Tensor
    boxes_xywh: Tensor
    weights: Tensor


class Local(NamedTuple):
    """A loss around the present scores.

    Attributes:
        loss: without regularisation.
        slope: derivative with respect to the scores, `(n, h, w)`.
        curvature: of a change of the scores, `(n, h, w)`.
    """

    loss: Tensor
    slope: Tensor
    curvature: Callable[[Tensor], Tensor]


class SteepestDescent(nn.Module):
    """Subclasses write the loss. The state dict has the official names (below `classifier.filter_optimizer.`).

    Args:
        min_reg: lower bound of the root of the learned regularisation.
        alpha_eps: added to the regularisation where the step length is computed.
    """

    def __init__(self, min_reg: float, alpha_eps: float) -> None:
        super().__init__()
        self.log_step_length = nn.Parameter(torch.zeros(1))
        self.filter_reg = nn.Parameter(torch.zeros(1))
        self.min_reg = min_reg
        self.alpha_eps = alpha_eps

    def forward(self, kernel: Tensor, samples: Samples, iterations: int) -> Tensor:
        """The filter `(1, C, K, K)` after some iterations."""
        for kernel in self.iterates(kernel, samples, iterations):  # noqa: B007, B020 (the last one is wanted)
            pass
        return kernel

    def iterates(self, kernel: Tensor, samples: Samples, iterations: int) -> Iterator[Tensor]:
        """The filter after each iteration."""
        regularisation = self.regularisation
        around = self.around(samples, cells_of(samples.boxes_xywh, kernel))
        scores = correlate(samples.features, kernel)
        for _ in range(iterations):
            local = around(scores)
            gradient = correlate_adjoint(samples.features, local.slope, kernel.shape[-1]) + regularisation * kernel
            change = correlate(samples.features, gradient)
            energy = gradient.square().sum()
            curvature = local.curvature(change) + (regularisation + self.alpha_eps) * energy
            step = self.log_step_length.exp() * energy / curvature.clamp(min=1e-8)
            kernel = kernel - step * gradient
            scores = scores - step * change  # the scores are linear in the filter
            yield kernel

    def loss(self, kernel: Tensor, samples: Samples) -> Tensor:
        """What is made small, with regularisation. (Its gradient here has half of the regularisation's, as in the original.)"""
        local = self.around(samples, cells_of(samples.boxes_xywh, kernel))(correlate(samples.features, kernel))
        return local.loss + self.regularisation[0] * kernel.square().sum()

    @property
    def regularisation(self) -> Tensor:
        """Factor of the squared norm of the filter, `(1,)`."""
        return self.filter_reg.square().clamp(min=self.min_reg**2)

    def around(self, samples: Samples, centres_xy: Tensor) -> Callable[[Tensor], Local]:
        """The loss as a function of the scores `(n, h, w)`, for targets centred at cells `(n, 2)`."""
        raise NotImplementedError

    @property
    def peak(self) -> float:
        """What `confidence` is in the middle of a target, if the filter has learned all."""
        raise NotImplementedError

    def confidence(self, scores: Tensor) -> Tensor:
        """Scores `(n, h, w)` as targets are looked for in them."""
        raise NotImplementedError


class KLDivergence(SteepestDescent):
    """PrDiMP: the softmax of the scores should be a Gaussian density around the target's centre (section 4.2).

    Args:
        sigma: its standard deviation in cells.
        normalised: whether the density over the cells sums to 1, also where part of it lies beyond the map.
    """

    def __init__(self, *, sigma: float = 0.9, normalised: bool = True, min_reg: float = 0.05, alpha_eps: float = 0.05) -> None:
        super().__init__(min_reg, alpha_eps)
        self.sigma = sigma
        self.normalised = normalised

    @property
    def peak(self) -> float:
        """The highest density of a target in the middle of a cell."""
        return 1.0 / (2.0 * math.pi * self.sigma**2)

    def confidence(self, scores: Tensor) -> Tensor:
        """Softmax over each map."""
        return scores.flatten(1).softmax(1).view_as(scores)

    def density(self, centres_xy: Tensor, cells: int) -> Tensor:
        """`(n, cells, cells)`."""
        x, y = _distances(centres_xy, cells)
        gaussian = self.peak * torch.exp(-(x.square() + y.square()) / (2.0 * self.sigma**2))
        return gaussian / (gaussian.sum((1, 2), keepdim=True) + 1e-8) if self.normalised else gaussian

    def around(self, samples: Samples, centres_xy: Tensor) -> Callable[[Tensor], Local]:
        """The KL divergence but for the density's entropy, which is constant."""
        weights = samples.weights[:, None, None]
        density = self.density(centres_xy, samples.features.shape[-1] + 1)

        def local(scores: Tensor) -> Local:
            loss = scores.logsumexp((1, 2)) - (density * scores).sum((1, 2))
            predicted = self.confidence(scores)

            def curvature(change: Tensor) -> Tensor:
                variance = (predicted * change.square()).sum((1, 2)) - (predicted * change).sum((1, 2)).square()
                return (samples.weights * variance.clamp(min=0.0)).sum()

            return Local((samples.weights * loss).sum(), weights * (predicted - density), curvature)

        return local


class HingeLoss(SteepestDescent):
    """DiMP: least squares near the target, hinge-like away from it, by learned functions of the distance (sections 3.1 and 3.4).

    Args:
        bins: in which the distance from the target's centre is counted.
        bin_width: of a bin in cells.
    """

    def __init__(self, *, bins: int = 100, bin_width: float = 0.1, min_reg: float = 1e-3, alpha_eps: float = 0.0) -> None:
        super().__init__(min_reg, alpha_eps)
        self.bin_width = bin_width
        self.label_map_predictor = nn.Conv2d(bins, 1, 1, bias=False)
        self.target_mask_predictor = nn.Sequential(nn.Conv2d(bins, 1, 1, bias=False), nn.Sigmoid())
        self.spatial_weight_predictor = nn.Conv2d(bins, 1, 1, bias=False)

    @property
    def peak(self) -> float:
        """Of the labels that it was trained with."""
        return 1.0

    def confidence(self, scores: Tensor) -> Tensor:
        """The scores as they are."""
        return scores

    def maps(self, centres_xy: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """Label, mask and spatial weight, `(n, cells, cells)` each."""
        x, y = _distances(centres_xy, cells)
        bins = self.label_map_predictor.in_channels
        distance = torch.sqrt(x.square() + y.square())[:, None] / self.bin_width
        numbers = torch.arange(bins, device=distance.device, dtype=distance.dtype)[:, None, None]
        near = (1.0 - (distance - numbers).abs()).clamp(min=0.0)
        near[:, -1:] = (2.0 + distance - bins).clamp(0.0, 1.0)  # the last bin holds all that is farther
        predictors = (self.label_map_predictor, self.target_mask_predictor, self.spatial_weight_predictor)
        label, mask, weight = (predictor(near)[:, 0] for predictor in predictors)
        return label, mask, weight

    def around(self, samples: Samples, centres_xy: Tensor) -> Callable[[Tensor], Local]:
        """The weighted squares of what the activated scores differ from the label."""
        label, mask, spatial = self.maps(centres_xy, samples.features.shape[-1] + 1)
        weight = samples.weights.sqrt()[:, None, None] * spatial
        even, odd = (1.0 - mask) / 2.0, (1.0 + mask) / 2.0

        def local(scores: Tensor) -> Local:
            residual = weight * (even * scores.abs() + odd * scores - label)
            derivative = weight * (even * scores.sign() + odd)
            return Local(residual.square().sum(), derivative * residual, lambda change: (derivative * change).square().sum())

        return local


def cells_of(boxes_xywh: Tensor, kernel: Tensor) -> Tensor:
    """The middles of boxes in cells of the score map, `(n, 2)`, x and y."""
    return (boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2.0) / STRIDE_PX - (kernel.shape[-1] % 2) / 2.0


def _distances(centres_xy: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Columns `(n, 1, cells)` and rows `(n, cells, 1)` less the centre's."""
    numbers = torch.arange(cells, device=centres_xy.device, dtype=centres_xy.dtype)
    return numbers - centres_xy[:, 0, None, None], numbers[:, None] - centres_xy[:, 1, None, None]
