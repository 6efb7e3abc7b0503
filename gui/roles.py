"""What goes into the viewer and what comes out, without Qt."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from sftrack.contracts import BoxXYWH, Frame, ImageRGB, TrackResult


class TrackerLike(Protocol):
    """The part of `sftrack.SFTracker` that the viewer uses, from its worker thread only."""

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, *, with_mask: bool = False) -> TrackResult: ...
    def update(self, image_rgb: ImageRGB, *, with_mask: bool = False) -> TrackResult: ...


class Phase(Enum):
    """What the worker is doing."""

    STARTING = "starting"
    """Waiting for the first frame, or for the tracker's `init`."""
    CHOOSING = "choosing"
    """Holding a frame until a box is dragged on it; a live picture runs on until there has been a target."""
    PAUSED = "paused"
    """Not tracking. A file stands still, a live picture runs on."""
    RUNNING = "running"
    ENDED = "ended"
    """No more frames will be tracked; source and sinks are closed or being closed."""


@dataclass(frozen=True)
class Snapshot:
    """The newest that there is to show.

    Attributes:
        result: None for a frame that was not tracked (before a target is chosen, a live picture while paused).
        frames_tracked: frames that were tracked so far, each counted once.
        tracked_fps: frames tracked per second over the last second or so, None while that is unknown.
        frames_not_shown: frames that were tracked or read and replaced by newer ones before the window asked.
        frames_skipped: frames of a live source that passed between two tracked ones.
        last_index: the expected index of the source's last frame, None where it cannot be known.
    """

    frame: Frame
    result: TrackResult | None
    frames_tracked: int = 0
    tracked_fps: float | None = None
    frames_not_shown: int = 0
    frames_skipped: int = 0
    last_index: int | None = None


@dataclass(frozen=True)
class ViewerSummary:
    """How a viewing ended.

    Attributes:
        frames_tracked: frames with a result, including the one on which the target was chosen; that many were written to each sink.
        seconds_per_frame: seconds spent in the tracker for each of them, without waiting for the video's own pace.
        interrupted: Ctrl+C in the terminal, or SIGTERM, closed the window.
        reached_end: the source delivered its last frame.
        error: what ended the tracking early, None if nothing did. The user has seen its words, unless it came from closing the sinks.
    """

    frames_tracked: int
    seconds_per_frame: tuple[float, ...]
    interrupted: bool = False
    reached_end: bool = False
    error: Exception | None = None
