"""Where results go: text files, the annotated video, masks, or several of them at once."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sftrack.contracts import Frame, ResultSink, TrackResult
from sftrack.errors import SinkError
from sftrack.sinks.base import BaseSink
from sftrack.sinks.boxes import BoxesSink
from sftrack.sinks.files import sink_error
from sftrack.sinks.jsonl import JsonLinesSink
from sftrack.sinks.masks import MasksSink
from sftrack.sinks.times import TimesSink
from sftrack.sinks.video import AnnotatedVideoSink

__all__ = ["AnnotatedVideoSink", "BoxesSink", "JsonLinesSink", "MasksSink", "SinkGroup", "TimesSink", "open_sinks"]

logger = logging.getLogger(__name__)


class SinkGroup(BaseSink):
    """Several sinks as one; when one fails, it is closed and left out, and the others stay complete."""

    def __init__(self, sinks: Sequence[ResultSink]) -> None:
        self.sinks = tuple(sinks)
        self._active = list(sinks)

    @property
    def codec_name(self) -> str | None:
        """The video encoder in use, None without a video."""
        return next((sink.codec_name for sink in self.sinks if isinstance(sink, AnnotatedVideoSink)), None)

    def write(self, frame: Frame, result: TrackResult) -> None:
        """Write to each sink.

        Raises:
            SinkError: one failed, after the others got the frame. It is raised once per failed sink; one may go on writing.
        """
        errors: list[SinkError] = []
        for sink in tuple(self._active):
            try:
                sink.write(frame, result)
            except SinkError as error:
                errors.append(error)
                self._active.remove(sink)
                self._close(sink)
        _raise_first(errors)

    def close(self) -> None:
        """Close each sink.

        Raises:
            SinkError: one could not be finished, after all others were closed.
        """
        active, self._active = self._active, []
        _raise_first([error for sink in active if (error := self._close(sink)) is not None])

    @staticmethod
    def _close(sink: ResultSink) -> SinkError | None:
        try:
            sink.close()
        except SinkError as error:
            return error
        return None


def open_sinks(
    out_dir: str | Path,
    *,
    frame_size_wh: tuple[int, int],
    frames_per_second: float | None,
    is_live: bool = False,
    video: bool = True,
    masks: bool = False,
) -> SinkGroup:
    """`boxes.txt`, `times.txt`, `track.jsonl`, and where asked for `annotated.mp4` and `masks/`; see docs/formats.md.

    Args:
        out_dir: created where it does not exist; files of an earlier run are overwritten.
        frame_size_wh: width and height of the frames in pixels.
        frames_per_second: of the annotated video; 30 where the source has none (None).
        is_live: show each frame of the annotated video at its time, because some are missing.
        video: write the annotated video.
        masks: write the masks.

    Raises:
        SinkError: the folder or one of the files cannot be written.
    """
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sink_error(folder, error) from error
    opened: list[ResultSink] = []
    try:
        opened += [BoxesSink(folder / "boxes.txt")]
        opened += [TimesSink(folder / "times.txt")]
        opened += [JsonLinesSink(folder / "track.jsonl")]
        if video:
            annotated = folder / "annotated.mp4"
            opened += [AnnotatedVideoSink(annotated, frame_size_wh=frame_size_wh, frames_per_second=frames_per_second, is_live=is_live)]
        if masks:
            opened += [MasksSink(folder / "masks")]
    except BaseException:
        SinkGroup(opened).close()
        raise
    return SinkGroup(opened)


def _raise_first(errors: list[SinkError]) -> None:
    for error in errors[1:]:
        logger.warning("%s", error)
    if errors:
        raise errors[0]
