"""Everything the viewer says in its status bar, without Qt."""

from sftrack.contracts import FrameSource, TrackResult
from sftrack.errors import SFTrackError

from .roles import Phase, Snapshot

CHOOSE_TEXT = "drag a box around the target"


def phase_text(phase: Phase, source: FrameSource, has_target: bool) -> str:
    """What is going on and what the user can do."""
    match phase:
        case Phase.STARTING:
            return f"starting with {source.name} ..."
        case Phase.CHOOSING:
            return f"{CHOOSE_TEXT} (Esc keeps the old one)" if has_target else CHOOSE_TEXT
        case Phase.PAUSED:
            return "paused: Space goes on, R chooses the target again"
        case Phase.RUNNING:
            return "Space pauses, R chooses the target again, H shows all keys"
        case Phase.ENDED:
            return "end of video: Q quits"


def info_text(source: FrameSource, snapshot: Snapshot | None) -> str:
    """The figures, those first that must not be cut off in a narrow window: score, failed channels, rates, losses, source."""
    parts = [] if snapshot is None else _tracking_texts(snapshot)
    if source.decode_failures:
        parts.append(f"{source.decode_failures} damaged")
    width, height = source.frame_size_wh
    rate = f"{source.frames_per_second:.4g} fps in" if source.frames_per_second else "no frame rate"
    return "  |  ".join([*parts, rate, f"{width} x {height}", source.name])


def _tracking_texts(snapshot: Snapshot) -> list[str]:
    parts = []
    if snapshot.result is not None:
        parts = [f"score {snapshot.result.score:.2f}", *failed_channels_text(snapshot.result)]
    parts.append(_position_text(snapshot))
    parts.append(f"{snapshot.tracked_fps:.1f} fps tracked" if snapshot.tracked_fps is not None else "- fps tracked")
    parts.append(f"{snapshot.frames_not_shown} dropped")
    if snapshot.frames_skipped:
        parts.append(f"{snapshot.frames_skipped} skipped by the source")
    return parts


def _position_text(snapshot: Snapshot) -> str:
    """Counted as in the result files and by `--start-frame`, so that what is read here can be looked up there."""
    index, last = snapshot.frame.index, snapshot.last_index
    return f"frame {index}" if last is None else f"frame {index} / {max(index, last)}"


def failed_channels_text(result: TrackResult) -> list[str]:
    """The channels that failed on this frame, with how often they did so far; empty where none did."""
    failed = [f"{channel.name} ({channel.failures}x)" for channel in result.channels if channel.error is not None]
    return [f"failed: {', '.join(failed)}"] if failed else []


def error_text(error: BaseException, what: str) -> str:
    """An error in words: ours as they are, foreign ones with what failed and their type."""
    if isinstance(error, SFTrackError):
        return str(error)
    first_line = (str(error).splitlines() or [""])[0]
    return f"{what} failed: {first_line or 'no reason given'} ({type(error).__name__}); --debug shows more"
