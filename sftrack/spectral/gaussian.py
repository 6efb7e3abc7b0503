"""The neighbourhood of the pixel graph: a separable 3D Gaussian, as the weights of each axis and as a differentiable filter."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

KernelSize = tuple[int, int, int]
"""`(kt, ky, kx)`: frames, rows, columns; odd, at least 3."""


def gaussian(size: int) -> tuple[float, ...]:
    """The 1D factor of the kernel: standard deviation `(size - 1) / 4`, cut at two of them, sum 1."""
    weights = [math.exp(-0.5 * ((place - size // 2) / ((size - 1) / 4.0)) ** 2) for place in range(size)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def smooth(volume: Tensor, kernel_size: KernelSize) -> Tensor:
    """Filter `(..., T, H, W)` with the Gaussian, zeros outside the volume."""
    smoothed: Tensor = _Smooth.apply(volume, kernel_size)  # type: ignore[no-untyped-call]
    return smoothed


class _Smooth(torch.autograd.Function):
    """The filter is its own transpose (symmetric weights, zeros outside), so the gradient is smoothed by the same filter."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, kernel_size: KernelSize) -> Tensor:  # noqa: ANN401 (PyTorch does not type it)
        ctx.kernel_size = kernel_size
        in_time, in_y, in_x = (gaussian(size) for size in kernel_size)
        if volume.device.type == "cpu" and not torch.compiler.is_compiling():
            # OpenCV filters a plane about twenty times faster than PyTorch's convolutions do.
            planes = volume.detach().contiguous().flatten(0, -3).numpy()
            smoothed, by_column, by_row = np.empty_like(planes), np.array(in_x), np.array(in_y)
            for plane, target in zip(planes, smoothed, strict=True):
                cv2.sepFilter2D(plane, -1, by_column, by_row, dst=target, borderType=cv2.BORDER_CONSTANT)
            in_plane = torch.from_numpy(smoothed).view(volume.shape)
        else:
            in_plane = _along(_along(volume, in_x, -1), in_y, -2)
        return _along(in_plane, in_time, -3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return smooth(gradient, ctx.kernel_size), None


def _along(volume: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """A symmetric filter along one axis as a sum of shifted volumes; on a GPU faster than a convolution of one channel."""
    middle, length = len(weights) // 2, volume.shape[dim]
    total = volume * weights[middle]
    for shift in range(1, min(middle + 1, length)):
        weight = weights[middle + shift]
        total.narrow(dim, shift, length - shift).add_(volume.narrow(dim, 0, length - shift), alpha=weight)
        total.narrow(dim, 0, length - shift).add_(volume.narrow(dim, shift, length - shift), alpha=weight)
    return total
