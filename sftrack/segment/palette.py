"""Pairwise features of the pixel graph in space: which of a few colours a pixel has, and how fast it moves."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.flow import Flow
from sftrack.segment.links import LinkedFrame, Plane, colours_of

SAMPLES = 4096
"""Pixels from which the palette of a frame is made."""

FLOW_HALF_PX = 4.0
"""Flow magnitude per frame that is mapped to 1/2."""


def flow_magnitudes(frame: LinkedFrame) -> tuple[Plane, Plane]:
    """How fast each pixel moves to the previous and to the next frame, `m / (m + FLOW_HALF_PX)`, `(H, W)` in [0, 1) each.

    The motion is that beside the frame's median, which is mostly the camera's: what a moving camera adds would say nothing about objects.
    At the ends of a video, where there is one neighbour only, both are the same; without any, they are 0.
    """
    flows = [link.flow for link in (frame.previous, frame.following) if link is not None]
    speeds = [_beside_the_median(flow) for flow in flows] or [np.zeros(frame.given.image_rgb.shape[:2], np.float32)]
    first, second = (np.asarray(speed / (speed + np.float32(FLOW_HALF_PX)), dtype=np.float32) for speed in (speeds[0], speeds[-1]))
    return first, second


def _beside_the_median(flow: Flow) -> Plane:
    camera = np.median(flow[::8, ::8], axis=(0, 1))
    return np.asarray(cv2.magnitude(flow[..., 0] - camera[0], flow[..., 1] - camera[1]), dtype=np.float32)


def appearance(frame: LinkedFrame, rows: slice, columns: slice, *, flow_weight: float) -> Plane:
    """Colours and weighted flow magnitudes (to the previous and the next frame) of a part of the frame, `(h, w, 5)` in [0, 1]."""
    colours = colours_of(frame.given.image_rgb[rows, columns])
    speeds = [flow_weight * magnitude[rows, columns] for magnitude in flow_magnitudes(frame)]
    return np.concatenate([colours, np.stack(speeds, axis=2)], axis=2, dtype=np.float32)


def memberships(values: Plane, count: int, scale: float) -> NDArray[np.float32]:
    """How much each pixel belongs to each entry of a palette made from the same pixels, `(K, h, w)`: vectors of length 1, not negative.

    With such vectors and `alpha = 1/2`, the affinity `1 - alpha |f_i - f_j|^2` of Eq. 2 is the product `f_i . f_j`: exact, never
    negative, and close to 1 or 0 depending on whether two pixels look alike, which no single map in [0, 1] can say about colours.

    Args:
        values: `(h, w, C)`.
        count: entries of the palette; fewer where there are fewer pixels.
        scale: standard deviation of a membership, in units of the values.
    """
    pixels = values.reshape(-1, values.shape[2])
    sample = np.ascontiguousarray(pixels[:: max(len(pixels) // SAMPLES, 1)])
    count = min(count, len(sample))
    # Starting from groups by lightness instead of from random ones, the palette depends on the pixels alone.
    labels = np.empty((len(sample), 1), np.int32)
    labels[np.argsort(sample[:, 0], kind="stable"), 0] = np.arange(len(sample)) * count // len(sample)
    stop = (cv2.TERM_CRITERIA_COUNT, 10, 0.0)
    _, _, palette = cv2.kmeans(sample, count, labels, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    # |v - c|^2 without |v|^2, which the normalisation takes out
    gaps = (np.square(palette).sum(axis=1)[:, None] - 2.0 * (palette @ pixels.T)) / np.float32(2.0 * scale * scale)
    weights = cv2.exp(gaps.min(axis=0) - gaps)
    weights /= np.sqrt(np.square(weights).sum(axis=0))
    return np.asarray(np.minimum(weights, 1.0), dtype=np.float32).reshape(count, *values.shape[:2])
