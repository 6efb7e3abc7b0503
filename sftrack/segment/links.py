"""The edges of the pixel graph between frames: each pixel is tied to where the optical flow says it was and will be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB
from sftrack.flow import Flow, dense_flow
from sftrack.metrics.masks import Mask

Plane = NDArray[np.float32]
"""`(H, W) float32`."""


@dataclass(frozen=True, eq=False)
class Link:
    """The edges from one frame to a neighbouring one.

    Attributes:
        flow: `(H, W, 2)`, pixels from each pixel of the frame to its place in the other.
        weight: `(H, W)` in [0, 1], the affinity of each pixel and the one it is tied to (the exponential of Eq. 1).
    """

    flow: Flow
    weight: Plane
    _places: tuple[NDArray[np.int16], NDArray[np.uint16]]

    @classmethod
    def between(cls, colours: Plane, other: Plane, flow: Flow, back: Flow, *, colour_scale: float, flow_scale_px: float) -> "Link":
        """Weigh the edges by how far the colours differ and by how far the flow back misses the pixel that it came from.

        Args:
            colours: the frame's, `(H, W, 3)`.
            other: the neighbouring frame's.
            flow: from the frame to the neighbour.
            back: from the neighbour to the frame.
            colour_scale: difference of colours at which the affinity has fallen to 0.61.
            flow_scale_px: the same for the distance by which the flow there and back misses.
        """
        height, width = flow.shape[:2]
        columns = flow[..., 0] + np.arange(width, dtype=np.float32)
        rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
        # Whole pixels and 1/32 of them: twice as fast as places in float32, and used many times.
        places = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
        link = cls(flow, np.empty(0, np.float32), (places[0].astype(np.int16), places[1].astype(np.uint16)))
        squared = _squared_gap(link.fetch(other), colours, colour_scale) + _squared_gap(link.fetch(back), -flow, flow_scale_px)
        is_inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
        return cls(flow, np.where(is_inside, cv2.exp(-0.5 * squared), np.float32(0.0)), link._places)

    def fetch(self, values: Plane) -> Plane:
        """The neighbour's values `(H, W, C)` at the places that this frame's pixels are tied to; the nearest ones outside the frame."""
        planes = [np.ascontiguousarray(values[..., first : first + 4]) for first in range(0, values.shape[2], 4)]  # OpenCV takes up to 4
        moved = [cv2.remap(plane, *self._places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in planes]
        return np.concatenate([plane.reshape(*self.flow.shape[:2], -1) for plane in moved], axis=2, dtype=np.float32)


def _squared_gap(values: Plane, others: Plane, scale: float) -> Plane:
    gap = cv2.subtract(values, others)
    return np.asarray(cv2.transform(cv2.multiply(gap, gap), np.full((1, values.shape[2]), scale**-2)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class MaskedFrame:
    """A frame `(H, W, 3) uint8` RGB, the soft masks `(H, W, C)` in [0, 1] of C methods, and the true mask `(H, W)`, if known."""

    image_rgb: ImageRGB
    masks: Plane
    truth: Mask | None = None


@dataclass(frozen=True, eq=False)
class LinkedFrame:
    """A frame with its edges to the one before and the one after; None at either end of the video."""

    given: MaskedFrame
    previous: Link | None
    following: Link | None


def link_frames(frames: Iterable[MaskedFrame], *, colour_scale: float, flow_scale_px: float) -> Iterator[LinkedFrame]:
    """Tie each frame to its neighbours, reading one frame ahead."""
    scales = {"colour_scale": colour_scale, "flow_scale_px": flow_scale_px}
    current: tuple[MaskedFrame, Plane] | None = None
    to_previous: Link | None = None
    for coming in frames:
        coming_colours = colours_of(coming.image_rgb, sigma_px=1.0)
        if current is not None:
            frame, colours = current
            forward = dense_flow(frame.image_rgb, coming.image_rgb)
            backward = dense_flow(coming.image_rgb, frame.image_rgb)
            yield LinkedFrame(frame, to_previous, Link.between(colours, coming_colours, forward, backward, **scales))
            to_previous = Link.between(coming_colours, colours, backward, forward, **scales)
        current = coming, coming_colours
    if current is not None:
        yield LinkedFrame(current[0], to_previous, None)


def colours_of(image_rgb: ImageRGB, *, sigma_px: float = 0.0) -> Plane:
    """CIE L*a*b* `(H, W, 3)` in [0, 1] (8-bit values / 255), where distances are roughly those that are seen; smoothed if asked for."""
    lab = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2LAB)
    if sigma_px:
        lab = cv2.GaussianBlur(lab, (0, 0), sigma_px)
    return lab.astype(np.float32) / np.float32(255.0)
