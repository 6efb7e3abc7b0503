"""One multiplication by the adjacency matrix of the pixel graph, as separable Gaussian filters (paper, Eq. 7).

The matrix of Eq. 2 is `M_ij = s_i^p s_j^p (1 - alpha (f_i - f_j)^2) G_ij`. Expanding the square turns `M x` into filters of three
volumes. With `y = s^p x` and `f` scaled by the square root of `alpha`:

    M x = s^p (G*y - f (f G*y - 2 G*(f y)) - G*(f^2 y))

This is Eq. 7 times alpha, so alpha may be 0. With several feature maps, `(f_i - f_j)^2` is the mean over them: each adds a term of the
second kind, and the last terms are summed before they are filtered.

The graph comes in two forms with the same numbers: `TensorGraph`, plain tensor operations, for gradients, GPUs and `torch.compile`, and
`ArrayGraph`, for speed on a CPU.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftrack.spectral.checks import Features, check_features, check_settings, check_volume
from sftrack.spectral.gaussian import KernelSize, gaussian, smooth

Volume = NDArray[np.float32] | NDArray[np.float64]
"""`(T, H, W)`."""

STRIPE_PIXELS = 64 * 1024
"""Pixels of a frame that are worked on at once, so that a stripe of all frames within the kernel's reach stays in the cache."""


def power_step(x: Tensor, s: Tensor, f: Features, *, p: float, alpha: float, kernel_size: KernelSize = (5, 5, 5)) -> Tensor:
    """One un-normalised step of power iteration, `M x` with the affinities of Eq. 2; pixels outside the volume count as 0.

    Linear in `x`, and the matrix is symmetric. Differentiable with respect to `x`, `s` and `f`; where `s` is 0 and `p < 1`, the infinite
    derivative is taken as 0.

    Args:
        x: current solution, `(T, H, W)` or `(B, T, H, W)`, float32 or float64, finite.
        s: unary map in [0, 1]: how much each pixel looks like the object. Same shape, type and device as `x`.
        f: pairwise feature map in [0, 1], or several: neighbours with equal values support each other. Same shape as `x`.
        p: influence of the unary map, at least 0.
        alpha: sensitivity to differences in `f`, at least 0. Up to 1, no affinity is negative.
        kernel_size: `(kt, ky, kx)`, odd, at least 3; standard deviation `(k - 1) / 4` per axis.

    Returns:
        A volume like `x`.

    Raises:
        TypeError, ValueError: see `sftrack.spectral.checks`.
    """
    check_settings(p, alpha, kernel_size)
    check_volume("s", s, unit_range=True)
    features = check_features(f, s)
    check_volume("x", x, s)
    return pixel_graph(s, features, p=p, alpha=alpha, kernel_size=kernel_size, x0=x).multiply(x)


class Graph(Protocol):
    """The matrix M of a volume or of each volume of a batch."""

    def multiply(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Frames `start` to `stop` (not included; None: the end) of `M x`, `(..., stop - start, H, W)`."""


def pixel_graph(s: Tensor, features: Sequence[Tensor], *, p: float, alpha: float, kernel_size: KernelSize, x0: Tensor) -> Graph:
    """The graph of checked volumes, in the form that is faster for iterations that begin at `x0`."""
    differentiable = torch.is_grad_enabled() and any(volume.requires_grad for volume in (x0, s, *features))
    in_arrays = s.device.type == "cpu" and not differentiable and not torch.compiler.is_compiling()
    form = BatchGraph if in_arrays else TensorGraph
    return form(s, features, p=p, alpha=alpha, kernel_size=kernel_size)


class TensorGraph:
    """The graph in tensor operations: any device, differentiable."""

    def __init__(self, s: Tensor, features: Sequence[Tensor], *, p: float, alpha: float, kernel_size: KernelSize) -> None:
        """See `power_step`."""
        # Where s is 0, the power's derivative is infinite: it is left out there, and the value is exact.
        self._unary = torch.where(s > 0.0, s.clamp_min(torch.finfo(s.dtype).tiny) ** p, 0.0 if p else 1.0)
        self._features = [feature * (alpha / len(features)) ** 0.5 for feature in features]
        self._kernel_size = kernel_size

    def multiply(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Graph`."""
        y = self._unary * x
        weighted = [feature * y for feature in self._features]
        squared = reduce(torch.add, (feature * fy for feature, fy in zip(self._features, weighted, strict=True)))
        a, b, *c = smooth(torch.stack([y, squared, *weighted]), self._kernel_size)
        for feature, filtered in zip(self._features, c, strict=True):
            b = b + feature * (feature * a - 2.0 * filtered)
        step: Tensor = self._unary * (a - b)
        return step[..., start:stop, :, :]


class ArrayGraph:
    """The graph of one volume in NumPy and OpenCV, one thread.

    What takes the time is not arithmetic but memory: so `s^p` is computed once, each stripe of a frame goes through all operations while it
    is in the cache, in place, and the frames within the kernel's reach lie in a ring, of which a product with the weights in time is the
    sum over frames.
    """

    def __init__(self, s: Volume, features: Sequence[Volume], *, p: float, alpha: float, kernel_size: KernelSize) -> None:
        """See `power_step`; `(T, H, W)` each."""
        scale = s.dtype.type((alpha / len(features)) ** 0.5)
        self._unary = np.empty(s.shape, s.dtype)
        for plane, target in zip(s, self._unary, strict=True):
            cv2.pow(np.maximum(plane, 0), p, dst=target)
        self._features = [feature * scale for feature in features]
        in_time, self._in_y, self._in_x = (np.array(gaussian(size)) for size in kernel_size)
        self._in_time = in_time.astype(s.dtype)  # OpenCV takes its weights in float64, the product in time in its own type

    def multiply(self, x: Volume, start: int = 0, stop: int | None = None) -> Volume:
        """See `Graph`."""
        stop = len(x) if stop is None else stop
        result = np.empty((stop - start, *x.shape[1:]), x.dtype)
        height, width = x.shape[1:]
        rows = max(STRIPE_PIXELS // width, 4 * len(self._in_y))
        for top in range(0, height, rows):
            self._multiply_stripe(x, result, start, top, min(top + rows, height))
        return result

    def _multiply_stripe(self, x: Volume, result: Volume, start: int, top: int, bottom: int) -> None:
        """Rows `top` to `bottom` of the result, for which the filter needs some rows beyond."""
        reach, count = len(self._in_time) // 2, len(self._in_time)
        above, below = max(top - len(self._in_y) // 2, 0), min(bottom + len(self._in_y) // 2, x.shape[1])
        seen, wanted = slice(above, below), slice(top - above, bottom - above)
        ring = np.zeros((count, 2 + len(self._features), below - above, x.shape[2]), x.dtype)
        summed, filtered = np.empty((2, *ring.shape[1:]), x.dtype)
        flat_ring, flat_summed = ring.reshape(count, -1), summed.reshape(-1)
        for newest in range(max(start - reach, 0), start + len(result) + reach):
            slot = ring[newest % count]
            if newest < len(x):
                self._weigh(x[newest, seen], newest, seen, slot)
            else:
                slot.fill(0)
            frame = newest - reach
            if frame < start:
                continue
            # Slot j holds the frame whose number leaves the remainder j.
            np.dot(np.roll(self._in_time, frame - reach), flat_ring, out=flat_summed)
            for plane, target in zip(summed, filtered, strict=True):
                cv2.sepFilter2D(plane, -1, self._in_x, self._in_y, dst=target, borderType=cv2.BORDER_CONSTANT)
            self._join(filtered[:, wanted], frame, slice(top, bottom), summed[0, wanted], result[frame - start, top:bottom])

    def _weigh(self, x: Volume, frame: int, rows: slice, target: Volume) -> None:
        """Into `(2 + K, h, W)`: `y`, the sum of all `f^2 y`, and each `f y`."""
        y, squared, *weighted = target
        np.multiply(self._unary[frame, rows], x, out=y)
        for index, (feature, fy) in enumerate(zip(self._features, weighted, strict=True)):
            np.multiply(feature[frame, rows], y, out=fy)
            if index == 0:
                np.multiply(feature[frame, rows], fy, out=squared)
            else:
                squared += feature[frame, rows] * fy

    def _join(self, filtered: Volume, frame: int, rows: slice, scratch: Volume, target: Volume) -> None:
        """From the filtered planes `(2 + K, h, W)`, which are used up, to rows of the result."""
        a, b, *c = filtered
        for feature, fy in zip(self._features, c, strict=True):
            np.multiply(feature[frame, rows], a, out=scratch)
            scratch -= fy
            scratch -= fy
            scratch *= feature[frame, rows]
            b += scratch
        np.subtract(a, b, out=target)
        target *= self._unary[frame, rows]


class BatchGraph:
    """`ArrayGraph` of a tensor or, one after the other, of each volume of a batch."""

    def __init__(self, s: Tensor, features: Sequence[Tensor], *, p: float, alpha: float, kernel_size: KernelSize) -> None:
        """See `power_step`."""
        batches = zip(*(_arrays(volume) for volume in (s, *features)), strict=True)
        self._graphs = [ArrayGraph(one, rest, p=p, alpha=alpha, kernel_size=kernel_size) for one, *rest in batches]

    def multiply(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Graph`."""
        steps = [torch.from_numpy(graph.multiply(one, start, stop)) for graph, one in zip(self._graphs, _arrays(x), strict=True)]
        return torch.stack(steps) if x.ndim == 4 else steps[0]


def _arrays(volumes: Tensor) -> list[Volume]:
    """The volumes of a batch, or the only one, without copying."""
    return list(volumes.detach().reshape(-1, *volumes.shape[-3:]).numpy())
