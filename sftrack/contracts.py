"""What flows between the stages: frames, boxes, estimates, results, and the four roles that pass them on.

    FrameSource -> Tracker (a channel) ... -> TrackResult -> ResultSink

Conventions: images are `(H, W, 3) uint8`, RGB. Boxes are `(4,) float64`, `x, y, w, h` in pixels of the frame, 0-based, where `x, y` is
the top-left *edge*: the box of exactly the first pixel is `0, 0, 1, 1`. Times are in seconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

ImageRGB: TypeAlias = NDArray[np.uint8]
"""`(H, W, 3) uint8` in RGB order."""

BoxXYWH: TypeAlias = NDArray[np.float64]
"""`(4,) float64`: x, y (top-left edge), w, h in pixels, 0-based."""

SoftMask: TypeAlias = NDArray[np.float32]
"""`(H, W) float32` in [0, 1]."""

RANGE_TOLERANCE = 1e-5
"""By how much soft masks and other maps may leave [0, 1]: resizing and filtering round."""


def is_number(value: object) -> bool:
    """Whether it is an int or a float, also of NumPy; `bool` is none here, as in a settings file."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


State: TypeAlias = Literal["tracking", "uncertain", "lost"]


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        image_rgb: `(H, W, 3) uint8`.
        index: 0-based position in the source (in the file, not in what is tracked: `--start-frame 10` begins with 10).
        time_s: presentation time in the source; for a live source, seconds since it was opened.
    """

    image_rgb: ImageRGB
    index: int
    time_s: float


@runtime_checkable
class FrameSource(Protocol):
    """A stream of frames of one size. Iterating reads it once; `close` (or leaving the `with` block) frees it at any moment.

    Attributes:
        name: short name for titles and messages (file name, folder name, camera address).
        frame_size_wh: width and height in pixels of every frame that is delivered.
        frames_per_second: nominal rate, None where the source has none (a folder of images).
        frame_count: expected number of frames, None where it cannot be known (a camera).
        is_live: True where frames are lost when they are not fetched in time.
        decode_failures: frames so far that could not be decoded and were left out.
    """

    name: str
    frame_size_wh: tuple[int, int]
    frames_per_second: float | None
    frame_count: int | None
    is_live: bool
    decode_failures: int

    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...


@dataclass(frozen=True)
class RegionMask:
    """A soft mask of the part of a frame that a tracker looked at, at a resolution of its own; the target is nowhere else.

    A mask of the whole frame would cost more to make and to hand over than the tracking itself where targets are small.

    Attributes:
        values: `(h, w) float32` in [0, 1].
        region_xywh: `(4,) float64`: the rectangle of the frame that the values fill from edge to edge; it may reach beyond the frame.
    """

    values: SoftMask
    region_xywh: BoxXYWH


@dataclass(frozen=True)
class Estimate:
    """What one tracker says about one frame.

    Attributes:
        box_xywh: `(4,) float64`. A tracker that lost its target repeats the last box with a low score.
        score: its own confidence in [0, 1]; 0 where it says that the target is lost, 1 where it has no measure of its own.
        mask: from trackers that segment: the target's probability in each pixel, or how much of the pixel is the target's; else None.
            The pipeline takes it in place of what NN_feat2seg would see in the box.
    """

    box_xywh: BoxXYWH
    score: float
    mask: RegionMask | None = None


@runtime_checkable
class Tracker(Protocol):
    """A single-target tracker, one channel of the ensemble. Objects share no state; images are never changed."""

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None: ...
    def update(self, image_rgb: ImageRGB) -> Estimate: ...


@runtime_checkable
class Movable(Protocol):
    """A tracker that, when it went astray, is moved and not started again, so that it goes on looking for the same thing.

    `forget_last`: the last frame was looked at from where it should not have been, and comes once more; nothing that it taught may stay.
    """

    def move_to(self, box_xywh: BoxXYWH, *, forget_last: bool = False) -> None: ...


@runtime_checkable
class Closable(Protocol):
    """A tracker that holds more than memory, such as a process. `close` may come from another thread while the tracker is at work."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class ChannelResult:
    """What one channel contributed to one frame.

    Attributes:
        name: the channel's name in the preset.
        box_xywh: its box, or None where it failed on this frame.
        score: its own confidence in [0, 1], 0 where it failed.
        weight: its share in the fused segmentation, in [0, 1]; the shares of a frame sum to 1 (0 where all channels failed).
        failures: on how many frames so far it failed: it could not be started or restarted, raised, or returned something else than a
            finite box in the frame, a score in [0, 1] and, if any, a mask in [0, 1].
        restarts: how often it was re-initialised from the fused box so far.
        error: why it failed on this frame, in one line, else None.
    """

    name: str
    box_xywh: BoxXYWH | None
    score: float
    weight: float
    failures: int = 0
    restarts: int = 0
    error: str | None = None


@dataclass(frozen=True)
class TrackResult:
    """The fused answer for one frame.

    Attributes:
        box_xywh: `(4,) float64`, always finite, w and h > 0; the last good box while the target is lost.
        score: in [0, 1].
        state: `tracking`, `uncertain` (a box, but doubtful), or `lost` (being searched for).
        mask: refined segmentation `(H, W) float32` in [0, 1] in frame coordinates, where asked for; else None.
        channels: one entry per channel, in the preset's order.
        timings_s: seconds spent per stage (`channels`, `feat2seg`, `combine`, `spectral`, `seg2box`, `restart`, `search`; `total`).
    """

    box_xywh: BoxXYWH
    score: float
    state: State
    mask: SoftMask | None = None
    channels: tuple[ChannelResult, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class ResultSink(Protocol):
    """Where results go, frame by frame. What was written stays readable whenever the program ends after `close`."""

    def write(self, frame: Frame, result: TrackResult) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
