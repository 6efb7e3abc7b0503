"""SFSeg on the masks of a video as a stream: memory does not grow with its length, and no frame depends on where a cut is made."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
import torch

from sftrack.contracts import RANGE_TOLERANCE, ImageRGB
from sftrack.flow import MIN_SIDE_PX
from sftrack.segment.combine import combine
from sftrack.segment.links import LinkedFrame, MaskedFrame, Plane, link_frames
from sftrack.segment.palette import appearance, memberships
from sftrack.spectral import SFSegPlusPlus, power_step
from sftrack.spectral.checks import check_count, check_number, check_settings

FAINT = 0.02
"""Of the segmentation: less counts as background when the part of the frame that is worked on is chosen, and bounds the unary map."""


@dataclass(frozen=True)
class Refinement:
    """Settings, the same for every video and method that docs/benchmarks.md reports.

    Attributes:
        steps_in_time: power steps along the optical flow; a frame sees so many frames to either side.
        steps_in_space: power steps within the frame, after those in time.
        p: influence of the unary map (Eq. 2).
        kernel_px: side of the Gaussian neighbourhood in space, odd.
        colour_scale: colour difference (share of the range of L*a*b*) at which the affinity of neighbours in time has fallen to 0.61.
        flow_scale_px: the same for the distance by which the flow there and back misses.
        palette: number of colours that tell the pixels of a frame apart.
        palette_scale: colour difference over which pixels still look alike.
        flow_weight: what a difference in flow magnitude counts beside one in colour.
    """

    steps_in_time: int = 8
    steps_in_space: int = 1
    p: float = 0.2
    kernel_px: int = 17
    colour_scale: float = 0.05
    flow_scale_px: float = 0.5
    palette: int = 16
    palette_scale: float = 0.05
    flow_weight: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, at_least in (("steps_in_time", 0), ("steps_in_space", 0), ("palette", 1)):
            check_count(name, getattr(self, name), at_least)
        check_settings(self.p, 0.0, (3, self.kernel_px, self.kernel_px))
        for name in ("colour_scale", "flow_scale_px", "palette_scale"):
            check_number(name, getattr(self, name))
        check_number("flow_weight", self.flow_weight, at_least=0.0)


DEFAULT = Refinement()


def refine(
    frames_rgb: Iterable[ImageRGB],
    masks: Iterable[Plane],
    *,
    weights: SFSegPlusPlus | None = None,
    settings: Refinement = DEFAULT,
) -> Iterator[Plane]:
    """Refine the masks of one method, or combine those of several, frame by frame; `steps_in_time` frames are read ahead.

    Args:
        frames_rgb: `(H, W, 3) uint8` of at least 16x16 each; the next one may be in the same memory.
        masks: per frame the soft or hard mask `(H, W)` in [0, 1], or `(H, W, C)` of C methods.
        weights: of the methods, see `sftrack.segment.learn`; None: their mean.
        settings: see `Refinement`.

    Returns:
        Soft masks `(H, W) float32` in [0, 1]; a hard mask is above 0.5.

    Raises:
        ValueError: fewer masks than frames or the other way round, sizes that differ, masks with other values.
        WeightsError: weights of another number of methods.
    """
    for frame, x in smoothed(_checked(frames_rgb, masks), settings):
        yield smooth_in_space(frame, combine(frame, x, weights), settings)


def _checked(frames_rgb: Iterable[ImageRGB], masks: Iterable[Plane]) -> Iterator[MaskedFrame]:
    wanted: tuple[int, ...] | None = None
    for count, (image_rgb, mask) in enumerate(zip_longest(frames_rgb, masks)):
        if image_rgb is None or mask is None:
            fewer, more = ("frames", "masks") if image_rgb is None else ("masks", "frames")
            raise ValueError(f"expected a mask for every frame, got {count} {fewer} and more {more}")
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or min(image_rgb.shape[:2]) < MIN_SIDE_PX:
            raise ValueError(
                f"expected frames (H, W, 3) uint8 of at least {MIN_SIDE_PX}x{MIN_SIDE_PX}, got {image_rgb.dtype} {image_rgb.shape}"
            )
        given = np.atleast_3d(np.asarray(mask, dtype=np.float32))
        wanted = wanted or (*image_rgb.shape[:2], given.shape[-1])
        if image_rgb.shape[:2] != wanted[:2] or given.shape != wanted or not given.size:
            raise ValueError(
                f"expected frames {(*wanted[:2], 3)} and masks {wanted[:2]} or (H, W, C), C the same for all frames, "
                f"got {image_rgb.shape} and {np.shape(mask)}"
            )
        if not (given.min() >= -RANGE_TOLERANCE and given.max() <= 1.0 + RANGE_TOLERANCE):
            raise ValueError(f"expected masks in [0, 1], got {given.min():g} to {given.max():g}; divide masks of 0 and 255 by 255")
        yield MaskedFrame(image_rgb.copy(), given.clip(0.0, 1.0))  # a stream may fill the same buffers again


def smoothed(frames: Iterable[MaskedFrame], settings: Refinement = DEFAULT) -> Iterator[tuple[LinkedFrame, Plane]]:
    """The frames with their masks `(H, W, C)` after all steps in time."""
    linked = link_frames(frames, colour_scale=settings.colour_scale, flow_scale_px=settings.flow_scale_px)
    stream: Iterator[tuple[LinkedFrame, Plane]] = ((frame, frame.given.masks) for frame in linked)
    for _ in range(settings.steps_in_time):
        stream = smooth_in_time(stream)
    return stream


def smooth_in_time(stream: Iterable[tuple[LinkedFrame, Plane]]) -> Iterator[tuple[LinkedFrame, Plane]]:
    """One power step along the flow: each pixel becomes the mean of itself and of what it is tied to, weighted by the affinities.

    Args:
        stream: frames with soft masks `(H, W, C)`; one is read ahead.
    """
    before: Plane | None = None
    current: tuple[LinkedFrame, Plane] | None = None
    for coming in stream:
        if current is not None:
            yield current[0], _mean_of_linked(current[0], before, current[1], coming[1])
            before = current[1]
        current = coming
    if current is not None:
        yield current[0], _mean_of_linked(current[0], before, current[1], None)


def _mean_of_linked(frame: LinkedFrame, before: Plane | None, x: Plane, after: Plane | None) -> Plane:
    total, weights = x.copy(), np.ones(x.shape[:2], np.float32)
    for link, neighbour in ((frame.previous, before), (frame.following, after)):
        if link is not None and neighbour is not None:
            weights += link.weight
            total += link.weight[..., None] * link.fetch(neighbour)
    total /= weights[..., None]
    return total


def smooth_in_space(frame: LinkedFrame, x: Plane, settings: Refinement) -> Plane:
    """Power steps within a frame: the object's and the background's, each with its own unary map, of which each pixel takes the larger.

    Args:
        frame: the frame.
        x: soft mask `(H, W)` in [0, 1].
        settings: see `Refinement`.

    Returns:
        `(H, W)` in [0, 1]: the object's share of the two.
    """
    reach = settings.steps_in_space * (settings.kernel_px // 2)
    found = np.argwhere(x > FAINT)
    if not (len(found) and settings.steps_in_space):
        return x
    (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0)
    rows, columns = slice(max(top - reach, 0), bottom + reach + 1), slice(max(left - reach, 0), right + reach + 1)
    features = memberships(appearance(frame, rows, columns, flow_weight=settings.flow_weight), settings.palette, settings.palette_scale)
    f = [torch.from_numpy(feature)[None] for feature in features]
    part = torch.from_numpy(np.ascontiguousarray(x[rows, columns]))[None]
    unary = torch.from_numpy(cv2.GaussianBlur(x[rows, columns], (0, 0), 1.0))[None].clamp(FAINT, 1.0 - FAINT)
    kernel_size = (3, settings.kernel_px, settings.kernel_px)  # one frame: the kernel's factor in time is a constant
    for _ in range(settings.steps_in_space):
        inside, outside = (
            power_step(solution, map_, f, p=settings.p, alpha=len(f) / 2.0, kernel_size=kernel_size)
            for solution, map_ in ((part, unary), (1.0 - part, 1.0 - unary))
        )
        both = inside + outside  # 0 where a large p leaves nothing of either
        part = torch.where(both > 0.0, inside / both, part).clamp(0.0, 1.0)
    result = np.zeros_like(x)
    result[rows, columns] = part[0].numpy()
    return result
