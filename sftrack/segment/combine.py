"""SFSeg++: one unary map from the masks of several methods and the flow magnitudes, with learned weights (Eq. 9)."""

import logging
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch

from sftrack.errors import WeightsError
from sftrack.segment.links import LinkedFrame, Plane
from sftrack.segment.palette import flow_magnitudes
from sftrack.spectral import FitSettings, SFSegPlusPlus, fit

log = logging.getLogger(__name__)

SHRINK = 8
"""Learning sees maps shrunk by this: a handful of weights needs no more, and it takes seconds."""

FRAMES_PER_VIDEO = 40
"""What is learned from at most; longer videos give every n-th piece of five frames."""

PIECE = 5
"""Frames per piece, as in the paper."""

RATE = 0.3
"""First learning rate: high, as there are so few weights."""


FLOWS = ("flow to the previous frame", "flow to the next frame")
"""What the last two channels are called."""


def channels_of(frame: LinkedFrame, x: Plane) -> Plane:
    """The channels of SFSeg++, `(C + 2, H, W)` in [0, 1]: soft masks `(H, W, C)` and the two flow magnitudes."""
    return np.stack([*np.moveaxis(x, 2, 0), *flow_magnitudes(frame)])


def combine(frame: LinkedFrame, x: Plane, weights: SFSegPlusPlus | None) -> Plane:
    """One soft mask `(H, W)` in [0, 1] from those of C methods `(H, W, C)`: Eq. 9 or, without weights, their mean.

    Raises:
        WeightsError: weights of another number of methods.
    """
    if weights is None:
        return np.ascontiguousarray(x.mean(axis=2, dtype=np.float32))
    check_weights(weights, x.shape[2])
    with torch.inference_mode():
        unary, _ = weights.maps(torch.from_numpy(channels_of(frame, x))[None, :, None].to(weights.w_s))
    return np.asarray(unary[0, 0].float().cpu().numpy())


def check_weights(weights: SFSegPlusPlus, methods: int, names: Sequence[str] = ()) -> None:
    """Refuse weights of another number of methods, two sets of them, or a method in another's place, where the names are known.

    Methods that the weights do not know may be the same ones in folders of other names: those are taken in their order, and named.

    Raises:
        WeightsError: they do not fit.
    """
    if not weights.shared:
        raise WeightsError("expected one set of weights, as `sftrack segment --learn` writes them, got one for each of the two maps")
    if weights.channels != methods + 2:
        raise WeightsError(
            f"expected weights of {methods} methods and two flow magnitudes, got those of {weights.channels - 2}; "
            "give the masks that they were learned with, in the same order"
        )
    learned = weights.names[: -len(FLOWS)]
    others = [(name, known) for name, known in zip(names, learned, strict=False) if name != known]
    if any(name in learned for name, _ in others):
        raise WeightsError(f"expected the masks in the order of the weights, {', '.join(learned)}, got {', '.join(names)}")
    for name, known in others:
        log.warning("the weights were learned for '%s', and are taken for '%s'", known, name)


Sample = tuple[torch.Tensor, torch.Tensor]
"""Channels `(C + 2, T, h, w)` and the true mask `(T, h, w)` of one video, shrunk."""


def sample(stream: Iterable[tuple[LinkedFrame, Plane]], frames: int) -> Sample:
    """What can be learned from a video of so many frames, whose masks were smoothed in time and whose truth is known.

    Raises:
        ValueError: no frame, or none with a true mask.
    """
    every = -(-frames // FRAMES_PER_VIDEO)
    channels, truths = [], []
    for index, (frame, x) in enumerate(stream):
        if (index // PIECE) % every or frame.given.truth is None:
            continue
        size_wh = (max(x.shape[1] // SHRINK, 1), max(x.shape[0] // SHRINK, 1))
        planes = [*channels_of(frame, x), frame.given.truth.astype(np.float32)]
        *small, truth = (cv2.resize(plane, size_wh, interpolation=cv2.INTER_AREA) for plane in planes)
        channels.append(np.stack(small))
        truths.append(truth)
    if not truths:
        raise ValueError("expected frames with true masks to learn from, got none")
    return torch.from_numpy(np.stack(channels, axis=1)).clamp(0.0, 1.0), torch.from_numpy(np.stack(truths)).clamp(0.0, 1.0)


def learn(samples: Iterable[Sample], methods: Sequence[str] = ()) -> SFSegPlusPlus:
    """Learn the weights from videos, with the Focal-Dice loss (Eq. 12). Same samples, same weights.

    Args:
        samples: one per video.
        methods: what the methods are called, in the order of their masks.

    Raises:
        ValueError: no samples, samples of different numbers of methods, or another number of names.
    """
    videos = list(samples)
    if not videos:
        raise ValueError("expected at least one video to learn from, got none")
    weights = SFSegPlusPlus(len(videos[0][0]), iterations=0, names=(*methods, *FLOWS) if methods else ())
    fit(weights, videos, settings=FitSettings(frames=PIECE, rate=RATE))
    return weights.eval()
