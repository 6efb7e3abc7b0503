"""Correlation of feature maps with one filter, and its adjoint, as matrix products: on a CPU several times faster than convolutions with a
single output channel."""

from torch import Tensor
from torch.nn import functional


def correlate(features: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlation with zero padding `K // 2`: score (i, j) sees the cells `i - K // 2 .. i - K // 2 + K - 1`.

    Args:
        features: `(n, C, H, W)`.
        kernel: `(1, C, K, K)`.

    Returns:
        `(n, H + 1, W + 1)` for an even K, `(n, H, W)` for an odd one.
    """
    side = kernel.shape[-1]
    taps = kernel.flip(2, 3).flatten(2)[0].T  # (K K, C)
    products = taps @ features.flatten(2)
    height, width = (cells + 1 - side % 2 for cells in features.shape[2:])
    return functional.fold(products, (height, width), side, padding=(side - 1) // 2)[:, 0]


def correlate_adjoint(features: Tensor, residuals: Tensor, side: int) -> Tensor:
    """The gradient `(1, C, K, K)` with respect to the kernel of `sum(residuals * correlate(features, kernel))`.

    Args:
        features: `(n, C, H, W)`.
        residuals: of the size of the scores, `(n, h, w)`.
        side: K.
    """
    height, width = features.shape[2:]
    padded = functional.pad(residuals, ((side - 1) // 2,) * 4)
    # Not `functional.unfold`, which on CUDA starts a kernel for each of the n, and on a CPU takes longer for the same values.
    shifted = padded.unfold(1, height, 1).unfold(2, width, 1).flatten(3).flatten(1, 2)  # (n, K K, H W)
    taps = (features.flatten(2) @ shifted.transpose(1, 2)).sum(0)
    return taps.view(1, -1, side, side).flip(2, 3)
