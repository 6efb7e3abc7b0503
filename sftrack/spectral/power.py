"""One multiplication by the adjacency matrix of the pixel graph, as three separable Gaussian filters (paper, Eq. 7)."""

import cv2
import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
"""`(T, H, W) float32`."""


def gaussian(size: int) -> NDArray[np.float32]:
    """The 1D factor of the neighbourhood kernel: standard deviation `(size - 1) / 4`, cut at two of them, sum 1; `size` is odd, >= 3."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"expected an odd kernel size of at least 3, got {size}")
    offsets = np.arange(size) - size // 2
    weights = np.exp(-0.5 * (offsets / ((size - 1) / 4.0)) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def smooth(volume: Volume, kernel_size: tuple[int, int, int], first: int = 0) -> Volume:
    """Separable 3D Gaussian `(kt, ky, kx)` with zeros outside the volume; frames from `first` on, `(T - first, H, W)`."""
    in_time, in_y, in_x = (gaussian(size) for size in kernel_size)
    times = np.arange(len(volume))
    offsets = times[None] - times[first:, None] + len(in_time) // 2
    weights = np.where((offsets >= 0) & (offsets < len(in_time)), in_time[np.clip(offsets, 0, len(in_time) - 1)], np.float32(0.0))
    summed = np.tensordot(weights, volume, axes=1).astype(volume.dtype)
    return np.stack([cv2.sepFilter2D(plane, -1, in_x, in_y, borderType=cv2.BORDER_CONSTANT) for plane in summed])


def power_step(
    x: Volume, s: Volume, f: Volume, *, p: float, alpha: float, kernel_size: tuple[int, int, int] = (5, 5, 5), first: int = 0
) -> Volume:
    """One un-normalised step of power iteration with the affinities of Eq. 2, `M_ij = s_i^p s_j^p (1 - alpha (f_i - f_j)^2) G_ij`.

    With `y = s^p x` (Eq. 7, times alpha so that alpha may be 0): `s^p ((1 - alpha f^2) G*y - alpha G*(f^2 y) + 2 alpha f G*(f y))`.

    Args:
        x: current solution, `(T, H, W)`, non-negative.
        s: unary map in [0, 1]: how much each pixel looks like the object.
        f: pairwise feature map in [0, 1]: neighbours with equal values support each other. For alpha <= 1 the result is non-negative.
        p: influence of the unary map.
        alpha: sensitivity to differences in `f`.
        kernel_size: `(kt, ky, kx)`, odd, at least 3.
        first: compute only the frames from this one on, `(T - first, H, W)`; the last step of a live stream needs only the newest.
    """
    unary = s**p
    y = unary * x
    a, b, c = (smooth(volume, kernel_size, first) for volume in (y, f * f * y, f * y))
    f = f[first:]
    step: Volume = unary[first:] * (a - alpha * a * f * f + alpha * (2.0 * f * c - b))
    return step
