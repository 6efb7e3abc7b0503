"""What the spectral functions accept. Every message says what was expected and what was given."""

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from sftrack.contracts import RANGE_TOLERANCE, is_number

LEAST, GREATEST = 1e-9, 1e4
"""Limits of settings that must be above 0, and of all: far beyond what can be meant, and what is made of them stays finite in float32."""

Features = Tensor | Sequence[Tensor]
"""One pairwise feature map, or several of the same shape."""


def check_volume(name: str, volume: Tensor, like: Tensor | None = None, *, unit_range: bool = False) -> None:
    """Accept a space-time volume.

    Args:
        name: how the message calls it.
        volume: `(T, H, W)` or `(B, T, H, W)`, float32 or float64, finite, none of its sides 0.
        like: another volume, with which it must agree in shape, type and device.
        unit_range: whether its values must lie in [0, 1].

    Raises:
        TypeError: not a float32 or float64 tensor.
        ValueError: everything else.
    """
    if not isinstance(volume, Tensor):
        raise TypeError(f"expected {name} as a torch.Tensor, got {type(volume).__name__}; use torch.from_numpy for arrays")
    if volume.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected {name} in float32 or float64, got {volume.dtype}; convert it with .float()")
    if volume.ndim not in (3, 4) or not volume.numel():
        raise ValueError(f"expected {name} of shape (T, H, W) or (B, T, H, W) without a side of 0, got {tuple(volume.shape)}")
    if like is not None:
        for what in ("shape", "dtype", "device"):
            wanted, given = getattr(like, what), getattr(volume, what)
            if wanted != given:
                wanted, given = (tuple(side) if what == "shape" else side for side in (wanted, given))
                raise ValueError(f"expected {name} to have the {what} of the other volumes, {wanted}, got {given}")
    if torch.compiler.is_compiling():
        return  # a compiled program does not look at values
    lowest, highest = extremes(volume)
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError(f"expected {name} to be finite, got NaN or infinity in it")
    if unit_range and (lowest < -RANGE_TOLERANCE or highest > 1.0 + RANGE_TOLERANCE):
        raise ValueError(f"expected {name} in [0, 1], got values from {lowest:.4g} to {highest:.4g}; divide masks of 0 and 255 by 255")


def check_start(x0: Tensor, like: Tensor) -> None:
    """Accept a volume from which power iteration may start: see `check_volume`, not negative, and none of a batch all 0.

    Raises:
        TypeError, ValueError: anything else.
    """
    check_volume("x0", x0, like)
    if torch.compiler.is_compiling():
        return  # a compiled program does not look at values
    if bool((x0 < 0).any()):
        raise ValueError("expected x0 without negative values, got some; an eigenvector may be multiplied by -1")
    if not bool((x0.amax((-3, -2, -1)) > 0).all()):
        raise ValueError("expected x0 to have values above 0, got a volume of zeros, from which no iteration gets away")


def check_channels(channels: Tensor, weights: Tensor) -> None:
    """Accept channels `(B, C, T, H, W)` in [0, 1], of the type and on the device of the weights `(C,)`.

    Raises:
        TypeError, ValueError: anything else.
    """
    if not isinstance(channels, Tensor):
        raise TypeError(f"expected channels as a torch.Tensor, got {type(channels).__name__}; use torch.from_numpy for arrays")
    if channels.ndim != 5 or channels.shape[1] != len(weights):
        raise ValueError(f"expected channels of shape (B, {len(weights)}, T, H, W), got {tuple(channels.shape)}")
    if (channels.dtype, channels.device) != (weights.dtype, weights.device):
        raise ValueError(
            f"expected channels like the weights, {weights.dtype} on {weights.device}, got {channels.dtype} on {channels.device}"
        )
    check_volume("channels", channels.flatten(0, 1), unit_range=True)


def extremes(volume: Tensor) -> tuple[float, float]:
    """Smallest and greatest value, NaN if there is one."""
    with torch.no_grad():
        if volume.device.type != "cpu":
            lowest, highest = torch.stack(torch.aminmax(volume)).tolist()  # one wait for a GPU
            return lowest, highest
        # Frame by frame in NumPy: PyTorch's reductions of a large volume take longer than the filters.
        planes = volume.detach().flatten(0, -3).numpy()
        return float(np.min([plane.min() for plane in planes])), float(np.max([plane.max() for plane in planes]))


def check_features(f: Features, like: Tensor) -> tuple[Tensor, ...]:
    """Accept one or several pairwise feature maps in [0, 1] of the unary map's shape; returns them as a tuple."""
    features = tuple(f) if isinstance(f, Sequence) else (f,)
    if not features:
        raise ValueError("expected at least one pairwise feature map, got none; the unary map may serve as one")
    for index, feature in enumerate(features):
        check_volume("f" if len(features) == 1 else f"f[{index}]", feature, like, unit_range=True)
    return features


def check_settings(p: float, alpha: float, kernel_size: Sequence[int]) -> None:
    """Accept the numbers that define the graph: `p` and `alpha` from 0 to `GREATEST`, three odd kernel sizes of at least 3.

    Raises:
        ValueError: anything else.
    """
    for name, value in (("p", p), ("alpha", alpha)):
        check_number(name, value, at_least=0.0)
    if not (isinstance(kernel_size, Sequence) or (isinstance(kernel_size, np.ndarray) and kernel_size.ndim == 1)) or len(kernel_size) != 3:
        raise ValueError(f"expected a kernel size (kt, ky, kx), got {kernel_size!r}")
    for size in kernel_size:
        if not isinstance(size, Integral) or size < 3 or size % 2 == 0:
            raise ValueError(f"expected an odd kernel size of at least 3, got {size!r}")


def check_counts(iterations: int, binarize_after: int, slope: float) -> None:
    """Accept how often to iterate and where the soft binarisation begins.

    Raises:
        ValueError: a negative count, or a slope that `check_number` refuses.
    """
    check_count("iterations", iterations)
    check_count("binarize_after", binarize_after)
    check_number("slope", slope)


def check_count(name: str, count: int, at_least: int = 0) -> None:
    """Accept a whole number.

    Raises:
        ValueError: anything else, or less than `at_least`.
    """
    if not (isinstance(count, Integral) and is_number(count) and count >= at_least):
        raise ValueError(f"expected {name} to be a whole number of at least {at_least}, got {count!r}")


def check_number(name: str, value: float, *, at_least: float = LEAST) -> None:
    """Accept an int or a float, also of NumPy, up to `GREATEST`: what PyTorch and OpenCV compute with, which `bool` and `Fraction` are not.

    Raises:
        ValueError: anything else.
    """
    if not (is_number(value) and at_least <= value <= GREATEST):
        raise ValueError(f"expected {name} to be a number from {at_least:g} to {GREATEST:g}, got {value!r}")
