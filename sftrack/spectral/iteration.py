"""SFSeg for one unary map: Algorithm 1 of the paper, and what the authors' published code does instead."""

import logging
from typing import Literal

import torch
from torch import Tensor

from sftrack.spectral.checks import Features, check_counts, check_features, check_settings, check_start, check_volume
from sftrack.spectral.gaussian import KernelSize
from sftrack.spectral.power import Graph, pixel_graph

log = logging.getLogger(__name__)

EPSILON = 1e-4
"""Of the published code, in norms and ranges."""

SLOPE = 10.0
"""How steep the soft binarisation is: 0 becomes 0.007, 0.4 becomes 0.27, 1 becomes 0.993."""


def sfseg(
    s: Tensor,
    f: Features | None = None,
    *,
    x0: Tensor | None = None,
    iterations: int = 5,
    binarize_after: int = 3,
    p: float = 0.2,
    alpha: float = 1.0,
    kernel_size: KernelSize = (5, 5, 5),
    slope: float = SLOPE,
    mode: Literal["paper", "official"] = "paper",
) -> Tensor:
    """Segment a space-time volume: power iteration on the pixel graph that `s` and `f` define (Algorithm 1).

    `paper`: every iteration is `power_step`, negative values set to 0, L2 norm over the volume (Eq. 8); from iteration
    `binarize_after + 1` on, soft binarisation. As the eigenvector has no scale, each frame is scaled to the sum that `s` has in it before
    that, so that the object neither grows nor shrinks. A hard mask is then the result > 0.5. Without binarisation the result is the
    iterate, which comes nearer to the eigenvector with every step; it is scaled as a whole to the sum of `s`, or less, to a peak of 1.

    `official`: the numbers of the published code. Frames nearer than `2 * (kt // 2)` to either end are not filtered; after each
    iteration every frame is divided by its norm, stretched to [0, 1] and put through a sigmoid, so the result lies in [0.5, 0.7311).
    `binarize_after` and `slope` have no effect, as in that code. docs/spectral.md compares the two.

    Args:
        s: unary map in [0, 1], `(T, H, W)` or `(B, T, H, W)`, float32 or float64: how much each pixel looks like the object.
        f: pairwise feature map in [0, 1] of the same shape, or several; None uses `s`. The paper uses optical flow magnitudes.
        x0: where the iteration starts, of the same shape, not negative, none all 0; in `paper` its scale does not matter; None: at `s`.
        iterations: at least 0; 5 in the paper.
        binarize_after: iterations without soft binarisation; never binarised where it is at least `iterations`.
        p: influence of the unary map; 0.2 in the paper for masks made with supervision, 0.1 without.
        alpha: sensitivity to differences in `f`.
        kernel_size: `(kt, ky, kx)`, odd, at least 3.
        slope: of the soft binarisation `1 / (1 + exp(-slope (x - 0.5)))`.
        mode: see above.

    Returns:
        A volume like `s`, in [0, 1].

    Raises:
        TypeError, ValueError: see `sftrack.spectral.checks`.
    """
    if mode not in ("paper", "official"):
        raise ValueError(f"expected the mode 'paper' or 'official', got '{mode}'")
    check_settings(p, alpha, kernel_size)
    check_counts(iterations, binarize_after, slope)
    check_volume("s", s, unit_range=True)
    features = (s,) if f is None else check_features(f, s)
    if x0 is not None:
        check_start(x0, s)
    x = s if x0 is None else x0
    graph = pixel_graph(s, features, p=p, alpha=alpha, kernel_size=kernel_size, x0=x)
    if mode == "official":
        return _official(graph, x, iterations, guard=2 * (kernel_size[0] // 2))
    if x0 is not None:
        x = x0 / x0.detach().amax((-3, -2, -1), keepdim=True)  # the squares of large values are infinite
    return iterate(graph, x, s, iterations=iterations, binarize_after=binarize_after, slope=slope)


def iterate(graph: Graph, x: Tensor, s: Tensor, *, iterations: int, binarize_after: int, slope: float) -> Tensor:
    """The paper's iteration from `x` on, in the last `T, H, W`; see `sfseg`. Returns soft values in [0, 1]."""
    sums = s.sum((-2, -1), keepdim=True)
    for iteration in range(iterations):
        x = normalise(graph.multiply(x).clamp_min(0.0))
        if iteration >= binarize_after:
            x = torch.where(sums > 0.0, torch.sigmoid(slope * (scale_to(x, sums) - 0.5)), 0.0)
    return x if iterations > binarize_after else _into_range(x, s)


def normalise(x: Tensor) -> Tensor:
    """Divide each volume by its L2 norm (Eq. 8); a volume of zeros stays one."""
    return x / _or_one(torch.linalg.vector_norm(x, dim=(-3, -2, -1), keepdim=True))


def scale_to(x: Tensor, sums: Tensor) -> Tensor:
    """Scale each frame so that its sum is that of `sums`, `(..., T, 1, 1)`; a frame of zeros stays one."""
    return x / _or_one(x.sum((-2, -1), keepdim=True)) * sums


def _into_range(x: Tensor, s: Tensor) -> Tensor:
    """Scale each volume to the sum of `s`, or less, so that nothing is above 1."""
    volume = (-3, -2, -1)
    to_sum = s.sum(volume, keepdim=True) / _or_one(x.sum(volume, keepdim=True))
    to_one = 1.0 / _or_one(x.amax(volume, keepdim=True))
    return (x * torch.minimum(to_sum, to_one)).clamp_max(1.0)  # rounding


def _or_one(divisor: Tensor) -> Tensor:
    """Divisors, 1 instead of those that are next to 0: what they divide fades away, and so does its gradient."""
    return torch.where(divisor > torch.finfo(divisor.dtype).tiny, divisor, 1.0)


def _official(graph: Graph, x: Tensor, iterations: int, guard: int) -> Tensor:
    """The published code: window by window it filters what one filtering of the volume gives, except for the guard frames."""
    frames = x.shape[-3]
    if frames <= 2 * guard and not torch.compiler.is_compiling():
        log.warning("official mode filters no frame of a volume of %d: it leaves out %d at each end", frames, guard)
    for _ in range(iterations):
        if frames > 2 * guard:
            filtered = graph.multiply(x, guard, frames - guard)
            x = torch.cat([x[..., :guard, :, :], filtered, x[..., frames - guard :, :, :]], dim=-3)
        x = torch.sigmoid(stretch_frames(x))
    return x


def stretch_frames(x: Tensor) -> Tensor:
    """Each frame divided by its norm and stretched to [0, 1], as in the published code."""
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + EPSILON)
    x = x - x.amin((-2, -1), keepdim=True)
    stretched: Tensor = x / (x.amax((-2, -1), keepdim=True) + EPSILON)
    return stretched
