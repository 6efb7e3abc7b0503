"""The viewer: shows a video while it is tracked. Importing this package needs no PyQt5; `run_viewer` does."""

from collections.abc import Sequence

from sftrack.contracts import BoxXYWH, FrameSource, ResultSink

from .display import DisplayError, require_display, why_not_shown
from .roles import TrackerLike, ViewerSummary

__all__ = ["DisplayError", "TrackerLike", "ViewerSummary", "require_display", "run_viewer", "why_not_shown"]


def run_viewer(
    source: FrameSource,
    tracker: TrackerLike,
    *,
    box_xywh: BoxXYWH | None = None,
    sinks: Sequence[ResultSink] | ResultSink = (),
    with_mask: bool = False,
    close_at_end: bool = False,
) -> ViewerSummary:
    """Show the source, track the target and write the results, until the user closes the window.

    Call it from the main thread. The tracker, the source and the sinks are used in other threads from then on, and source and sinks are
    closed at the end whatever happens; the tracker stays the caller's. The first tracked frame and every one after it is written once.

    Args:
        box_xywh: start box in pixels of the first frame; without one, the user drags it on the first frame.
        with_mask: ask the tracker for full-frame masks on every frame (for a sink that needs them), not only while they are shown.
        close_at_end: close the window at the end of the video, or when something fails, instead of waiting for the user.

    Raises:
        DisplayError: PyQt5 or a display is missing (also see `why_not_shown`). Source and sinks are then left as they are.
    """
    require_display()
    from .app import show

    all_sinks = (sinks,) if isinstance(sinks, ResultSink) else tuple(sinks)
    return show(source, tracker, box_xywh=box_xywh, sinks=all_sinks, with_mask=with_mask, close_at_end=close_at_end)
