"""Further views of the target out of the first frame, so that a filter can be learned from one picture.

All are made from one patch of twice the side around the target: transformed, shifted and cut to the sample's side.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Shift = tuple[int, int]
"""Pixels that the content is moved down and to the right."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to the first frame; in this order, after the unchanged sample.

    Attributes:
        shifts: moves `(dy, dx)` as shares of half of the sample's side.
        flip: mirror left and right.
        blurs: standard deviations `(y, x)` in pixels.
        rotations: degrees, counter-clockwise.
        random_shift: the flipped, blurred and rotated samples are moved by up to half of this share of the side, each way.
        dropouts: samples without some of the channels of their features (`drop_channels`).
        dropout_probability: of a channel to be dropped.
    """

    shifts: tuple[tuple[float, float], ...] = ()
    flip: bool = False
    blurs: tuple[tuple[float, float], ...] = ()
    rotations: tuple[float, ...] = ()
    random_shift: float = 0.0
    dropouts: int = 0
    dropout_probability: float = 0.2

    @property
    def count(self) -> int:
        """Number of samples, with the unchanged one and the dropouts."""
        return 1 + len(self.shifts) + self.flip + len(self.blurs) + len(self.rotations) + self.dropouts

    def samples(self, patch: Tensor, side_px: int, generator: torch.Generator) -> tuple[Tensor, list[Shift]]:
        """The samples `(n, 3, side, side)` of a patch `(1, 3, S, S)`, and how far each was moved."""
        cuts = [(cut(transform(patch), side_px, shift), shift) for transform, shift in self._plan(side_px, generator)]
        return torch.cat([sample for sample, _ in cuts]), [shift for _, shift in cuts]

    def with_dropouts(self, features: Tensor, shifts: list[Shift], generator: torch.Generator) -> tuple[Tensor, list[Shift]]:
        """The features `(n, C, h, w)` and shifts of the samples, and after them those of the first one without some of its channels."""
        dropped = drop_channels(features[:1], self.dropouts, self.dropout_probability, generator)
        return torch.cat([features, dropped]), [*shifts, *[(0, 0)] * len(dropped)]

    def _plan(self, side_px: int, generator: torch.Generator) -> Iterator[tuple[Callable[[Tensor], Tensor], Shift]]:
        yield _unchanged, (0, 0)
        for dy, dx in self.shifts:
            yield _unchanged, (math.trunc(dy * side_px / 2), math.trunc(dx * side_px / 2))
        transforms: list[Callable[[Tensor], Tensor]] = [flip] if self.flip else []
        transforms += [partial(blur, sigma_yx=sigma_yx) for sigma_yx in self.blurs]
        transforms += [partial(rotate, degrees=degrees) for degrees in self.rotations]
        for transform in transforms:
            dy, dx = ((torch.rand(2, generator=generator) - 0.5) * (side_px * self.random_shift)).tolist()
            yield transform, (math.trunc(dy), math.trunc(dx))


def drop_channels(features: Tensor, count: int, probability: float, generator: torch.Generator) -> Tensor:
    """`(1, C, h, w)` to `(count, C, h, w)`: each channel zero with the probability, else larger, so that its mean stays."""
    kept = torch.rand((count, features.shape[1], 1, 1), generator=generator) >= probability
    return features * (kept.to(features) / (1.0 - probability))


def cut(patch: Tensor, side_px: int, shift: Shift = (0, 0)) -> Tensor:
    """The middle of a patch `(1, 3, S, S)`, with its content moved; where it is too small, its edge is repeated."""
    missing = (side_px - patch.shape[-1]) / 2
    before, after = math.floor(missing), math.ceil(missing)
    down, right = shift
    pads = (before + right, after - right, before + down, after - down)
    inside = functional.pad(patch, [min(pad, 0) for pad in pads])
    return functional.pad(inside, [max(pad, 0) for pad in pads], mode="replicate")


def flip(patch: Tensor) -> Tensor:
    """Left and right exchanged."""
    return patch.flip(-1)


def blur(patch: Tensor, sigma_yx: tuple[float, float]) -> Tensor:
    """Convolved with a sampled Gaussian, vertically and horizontally; zero beyond the edge, which a cut is meant to leave out."""
    taps_y, taps_x = (_gaussian(sigma) for sigma in sigma_yx)
    pixels = np.ascontiguousarray(patch[0].permute(1, 2, 0).numpy())
    blurred = cv2.sepFilter2D(pixels, cv2.CV_32F, taps_x, taps_y, borderType=cv2.BORDER_CONSTANT)  # 30 times faster than PyTorch's
    return torch.from_numpy(np.asarray(blurred)).permute(2, 0, 1)[None]


def rotate(patch: Tensor, degrees: float) -> Tensor:
    """Turned about its middle, counter-clockwise as seen on a screen; bilinear, its edge repeated, of the same size."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Where a pixel comes from, both in coordinates from -1 to 1 (its centres at the ends): the transpose of the turn itself.
    source = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=patch.dtype)
    grid = functional.affine_grid(source, list(patch.shape), align_corners=True)
    return functional.grid_sample(patch, grid, padding_mode="border", align_corners=True)


def _gaussian(sigma: float) -> NDArray[np.float32]:
    reach = math.ceil(2 * sigma)
    taps = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float32) ** 2) / np.float32(2 * sigma**2))
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def _unchanged(patch: Tensor) -> Tensor:
    return patch
