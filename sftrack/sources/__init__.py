"""Where frames come from: a video file, a folder of pictures, a camera, or the built-in demo clip."""

from pathlib import Path

from sftrack.contracts import FrameSource
from sftrack.errors import SourceError
from sftrack.sources.camera import CameraSource
from sftrack.sources.demo import DemoSource
from sftrack.sources.frames import FrameFolderSource
from sftrack.sources.video import VideoFileSource

__all__ = ["CameraSource", "DemoSource", "FrameFolderSource", "VideoFileSource", "open_source"]


def open_source(
    *,
    video: str | Path | None = None,
    frames: str | Path | None = None,
    camera: int | str | None = None,
    demo: bool = False,
    start_frame: int = 0,
    max_frames: int | None = None,
) -> FrameSource:
    """Open the one source that is given; `start_frame` does not apply to a camera.

    Raises:
        SourceError: none or several given, negative numbers, or the source cannot be opened.
    """
    given = [
        name for name, value in (("video", video), ("frames", frames), ("camera", camera), ("demo", demo or None)) if value is not None
    ]
    if len(given) != 1:
        raise SourceError(f"expected one of video, frames, camera, demo, got {' and '.join(given) or 'none'}; give exactly one")
    if start_frame < 0 or (max_frames is not None and max_frames < 1):
        raise SourceError(f"expected a start frame >= 0 and at least 1 frame, got {start_frame} and {max_frames}; change the numbers")
    if video is not None:
        return VideoFileSource(video, start_frame=start_frame, max_frames=max_frames)
    if frames is not None:
        return FrameFolderSource(frames, start_frame=start_frame, max_frames=max_frames)
    if camera is not None:
        if start_frame:
            raise SourceError(f"expected no start frame for a camera, got {start_frame}; leave it out")
        return CameraSource(camera, max_frames=max_frames)
    return DemoSource(start_frame=start_frame, max_frames=max_frames)
