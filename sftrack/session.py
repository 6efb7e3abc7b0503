"""The one loop of a run without a screen: source -> tracker -> sinks, ended by the last frame, the user, or a failure."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from sftrack.contracts import BoxXYWH, Frame, FrameSource, ImageRGB, ResultSink
from sftrack.errors import SFTrackError, SourceError
from sftrack.signals import handled
from sftrack.summary import Summary

if TYPE_CHECKING:
    from sftrack.pipeline import SFTracker

_Picture = TypeVar("_Picture", Frame, ImageRGB)

FALLBACK_SIZE = (80, 24)
"""Columns and rows of a terminal that does not tell how many it has."""


def run_session(
    source: FrameSource,
    tracker: "SFTracker",
    sink: ResultSink,
    box_xywh: BoxXYWH,
    *,
    with_mask: bool = False,
    progress: bool | None = None,
) -> Summary:
    """Track from the source's first frame to its end and close the sink, whatever ends the run.

    Args:
        box_xywh: the target in the first frame, in its pixels.
        with_mask: ask the tracker for full-frame masks (needed by sinks that write or draw them).
        progress: show a bar on stderr; None means only where stderr is a terminal.

    Returns:
        The summary. A lost source or a file that cannot be written is in its `failure`, because results exist all the same.

    Raises:
        SFTrackError: nothing could be tracked: a bad start box, no frame at all.
    """
    summary, interrupt = Summary(), Interrupt()
    start_s = time.perf_counter()
    try:
        with handled(interrupt.on_signal, signal.SIGINT, signal.SIGTERM), sink, _bar(source, progress) as bar:
            frames = interrupt.frames(source)
            for frame, upcoming in with_upcoming(frames) if not source.is_live else ((frame, None) for frame in frames):
                if summary.frames == 0:
                    result = tracker.init(frame.image_rgb, box_xywh, with_mask=with_mask)
                else:
                    result = tracker.update(frame.image_rgb, with_mask=with_mask, upcoming_rgb=upcoming.image_rgb if upcoming else None)
                summary.write(frame, result)
                sink.write(frame, result)
                bar.set_postfix_str(result.state, refresh=False)
                bar.update()
                if interrupt.requested:  # the next frame may be at hand already
                    break
    except SFTrackError as error:
        if summary.frames == 0:
            raise
        summary.failure = error
    except KeyboardInterrupt:  # the second one: the user does not want to wait for the frame's end
        interrupt.requested = True
    summary.interrupted = interrupt.requested
    summary.elapsed_s = time.perf_counter() - start_s
    summary.decode_failures = source.decode_failures
    if summary.frames == 0 and not summary.interrupted:
        raise SourceError(f"expected at least one frame from {source.name}, got none; give another source or a smaller --start-frame")
    return summary


def with_upcoming(frames: Iterator[_Picture]) -> Iterator[tuple[_Picture, _Picture | None]]:
    """Each frame with the one after it, None after the last. Not for live sources, where a result would wait for the next frame."""
    current = next(frames, None)
    while current is not None:
        failure = None
        try:
            upcoming = next(frames, None)
        except SFTrackError as error:  # the frame at hand is whole
            upcoming, failure = None, error
        yield current, upcoming
        if failure is not None:
            raise failure
        current = upcoming


class Interrupt:
    """Turns SIGINT and SIGTERM into a request to end between two frames, so that no frame is half written.

    While `waiting` (for a camera that may never answer) the signal raises KeyboardInterrupt at once, and so does a second signal.
    """

    def __init__(self) -> None:
        self.requested = False
        self.waiting = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """The handler, see `handled`."""
        again, self.requested = self.requested, True
        if self.waiting or again:
            raise KeyboardInterrupt

    def frames(self, source: FrameSource) -> Iterator[Frame]:
        """The source's frames until the user asks for the end."""
        iterator = iter(source)
        while True:
            try:
                self.waiting = True
                frame = None if self.requested else next(iterator, None)
            except KeyboardInterrupt:
                frame = None
            finally:
                self.waiting = False
            if frame is None:
                return
            yield frame


def _bar(source: FrameSource, progress: bool | None) -> "tqdm[Any]":
    shown = sys.stderr.isatty() if progress is None else progress
    width = _terminal_width()
    return tqdm(
        total=source.frame_count,
        unit=" frames",
        desc=source.name,
        disable=not shown,
        leave=False,
        ncols=None if width else FALLBACK_SIZE[0],
        nrows=None if width else FALLBACK_SIZE[1],
        dynamic_ncols=width > 0,
    )


def _terminal_width() -> int:
    """Columns of the terminal on stderr, 0 where it does not know (some containers): tqdm would show nothing at all."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0
