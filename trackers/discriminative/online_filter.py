"""The classifier that ATOM learns while tracking (section 3.2 of Danelljan et al., CVPR 2019), and D3S after it.

A score map is the correlation of a filter with features that a linear projection has compressed. Both minimise

    sum_n w_n |phi(s_n) - y_n|^2 + filter_reg |filter|^2 + projection_reg |projection|^2

by Gauss-Newton steps, whose linear problems conjugate gradients solve. On the first frame both are learned; later only the filter.

Projecting with P and then correlating with f is one correlation with the filter P^T f, so residuals, Jacobian and its adjoint are each
one pass over the features, written out; nothing is differentiated automatically. Everything here works in the type of its inputs.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from . import correlation

KNEE = 0.05
"""Where the activation levels off: scores far below zero count as `-KNEE`, however negative they are."""


def activation(scores: Tensor) -> Tensor:
    """phi: the scores themselves where positive, `KNEE (exp(s / KNEE) - 1)` below. Only for learning, not for tracking."""
    return torch.where(scores >= 0, scores, KNEE * torch.expm1(scores.clamp(max=0) / KNEE))


def activation_slope(scores: Tensor) -> Tensor:
    """Derivative of `activation`."""
    return torch.exp(scores.clamp(max=0) / KNEE)


def correlate(samples: Tensor, weight: Tensor) -> Tensor:
    """Score maps `(N, H, W)` of samples `(N, C, H, W)` under a filter `(1, C, k, k)` of even side.

    Cell i sees the cells from `i - k / 2` to `i + k / 2 - 1` (zero outside), as if padded by `k / 2` and without the last row and column.
    """
    return correlation.correlate(samples, weight)[:, :-1, :-1]


def correlate_adjoint(samples: Tensor, maps: Tensor, side: int) -> Tensor:
    """Adjoint of `correlate` in the filter: `(1, C, side, side)` from samples `(N, C, H, W)` and maps `(N, H, W)`."""
    return correlation.correlate_adjoint(samples, functional.pad(maps, (0, 1, 0, 1)), side)


def rms_normalised(features: Tensor) -> Tensor:
    """Each sample of `(N, C, H, W)` scaled to a mean square of 1, and laid out channel by channel, as the products below want them."""
    return features.contiguous() / (features.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-10).sqrt()


def project(samples: Tensor, projection: Tensor) -> Tensor:
    """Compress samples `(N, C, H, W)` with a 1x1 convolution `(c, C, 1, 1)`."""
    return torch.einsum("oc,nchw->nohw", projection[:, :, 0, 0], samples)


def learn_filter_and_projection(
    samples: Tensor,
    labels: Tensor,
    weights: Tensor,
    weight: Tensor,
    projection: Tensor,
    *,
    filter_reg: float,
    projection_reg: float,
    steps: int,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Learn both on the first frame: Gauss-Newton steps of preconditioned conjugate gradients (Fletcher-Reeves).

    Args:
        samples: `(N, C, H, W)`.
        labels: wanted score maps `(N, H, W)`.
        weights: of the samples, `(N,)`.
        weight, projection: where to start from, `(1, c, k, k)` and `(c, C, 1, 1)`.
        steps: Gauss-Newton steps.
        iterations: of conjugate gradients per step.

    Returns:
        The filter and the projection.
    """
    regularisation = torch.cat([torch.full_like(weight, filter_reg).flatten(), torch.full_like(projection, projection_reg).flatten()])
    for _ in range(steps):
        step = _joint_step(samples, labels, weights[:, None, None], weight, projection, regularisation, iterations)
        weight = weight + step[: weight.numel()].view_as(weight)
        projection = projection + step[weight.numel() :].view_as(projection)
    return weight, projection


def _joint_step(
    samples: Tensor, labels: Tensor, weights: Tensor, weight: Tensor, projection: Tensor, regularisation: Tensor, iterations: int
) -> Tensor:
    """One Gauss-Newton step of filter and projection, behind each other in a vector."""
    side, f, p = weight.shape[-1], weight[0].flatten(1), projection[:, :, 0, 0]

    def scores_of(full: Tensor) -> Tensor:
        """Of the filter `(C, k k)` on what is not projected yet."""
        return correlate(samples, full.view(1, -1, side, side))

    def gradient(error: Tensor) -> Tensor:
        """Of `sum error * scores`, in both."""
        full = correlate_adjoint(samples, error, side)[0].flatten(1)
        return torch.cat([(p @ full).flatten(), (f @ full.T).flatten()])

    def normal(step: Tensor) -> Tensor:
        df, dp = step[: f.numel()].view_as(f), step[f.numel() :].view_as(p)
        return gradient(curvature * scores_of(p.T @ df + dp.T @ f)) + regularisation * step

    scores = scores_of(p.T @ f)
    slope = activation_slope(scores)
    curvature = weights * slope.square()
    both = torch.cat([f.flatten(), p.flatten()])
    descent = -gradient(weights * slope * (activation(scores) - labels)) - regularisation * both
    return conjugate_gradients(normal, descent, iterations, scale=regularisation)


def learn_filter(samples: Tensor, labels: Tensor, weights: Tensor, weight: Tensor, *, filter_reg: float, iterations: int) -> Tensor:
    """Improve the filter alone, on projected samples: one Gauss-Newton step of plain conjugate gradients (Polak-Ribiere).

    Args: as for `learn_filter_and_projection`, of projected samples `(N, c, H, W)`.
    """
    side = weight.shape[-1]
    scores = correlate(samples, weight)
    slope = activation_slope(scores)
    sample_weights = weights[:, None, None]
    curvature = sample_weights * slope.square()

    def normal(step: Tensor) -> Tensor:
        return correlate_adjoint(samples, curvature * correlate(samples, step), side) + filter_reg * step

    descent = -correlate_adjoint(samples, sample_weights * slope * (activation(scores) - labels), side) - filter_reg * weight
    return weight + conjugate_gradients(normal, descent, iterations)


def conjugate_gradients(normal: Callable[[Tensor], Tensor], target: Tensor, iterations: int, *, scale: Tensor | None = None) -> Tensor:
    """Approximate solution of `normal(x) = target` for a symmetric, positive definite operator, from zero.

    Args:
        scale: preconditioner, by which residuals are divided; with it directions follow Fletcher and Reeves, without Polak and Ribiere.
    """
    solution, residual = torch.zeros_like(target), target
    direction, previous, previous_product = torch.zeros_like(target), torch.zeros_like(target), target.new_ones(())
    for _ in range(iterations):
        z = residual if scale is None else residual / scale
        product = (residual * z).sum()
        changed = product if scale is not None else product - (previous * z).sum()
        direction = z + torch.where(previous_product == 0.0, 0.0, changed / previous_product).clamp(min=0.0) * direction
        applied = normal(direction)
        # Nothing is left to do where the product is 0; to leave the loop then, the host would have to wait for a GPU every time.
        length = torch.where(product == 0.0, 0.0, product / (direction * applied).sum())
        solution = solution + length * direction
        previous, previous_product, residual = residual, product, residual - length * applied
    return solution


def gaussian_labels(centres: Tensor, side: int, sigma: float) -> Tensor:
    """Wanted score maps `(N, side, side)` with a peak of 1, from the targets' offsets from the middle, `(N, 2)`, y and x in cells."""
    cells = torch.arange(side, dtype=centres.dtype, device=centres.device) - (side - 1) / 2
    profiles = torch.exp(-(cells - centres[..., None]).square() / (2 * sigma**2))
    return profiles[:, 0, :, None] * profiles[:, 1, None, :]


def upsampling(side: int, output: int) -> Tensor:
    """The matrix E `(output, side)` of trigonometric interpolation: `E @ scores @ E.T` has its value of cell m at `m * output / side`.

    The highest frequency of an even side counts twice, once for each sign, as in the original implementation.
    """
    frequencies = torch.arange(-(side // 2), side // 2 + 1, dtype=torch.float64)
    places = torch.arange(output, dtype=torch.float64) * side / output
    shifts = places[:, None] - torch.arange(side, dtype=torch.float64)
    return torch.cos(2 * torch.pi * frequencies * shifts[..., None] / side).sum(dim=-1) / side


def upsampled(scores: NDArray[np.float32], matrix: Tensor) -> NDArray[np.float32]:
    """A map of scores `(side, side)` at the resolution of a matrix of `upsampling`, `(output, output)`."""
    # In PyTorch: NumPy would wake as many threads as there are cores for these small products.
    fine: NDArray[np.float32] = (matrix @ torch.from_numpy(scores) @ matrix.T).numpy()
    return fine
