"""Frames from a video file, decoded by FFmpeg's libraries through PyAV."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sftrack.contracts import Frame, ImageRGB
from sftrack.errors import SourceError
from sftrack.sources.base import BaseSource, fit_to_size, limited_count

logger = logging.getLogger(__name__)

MAX_READ_ERRORS = 20
"""Consecutive errors of the file reader (not of the decoder) after which the rest of the file is given up."""

HEADER_SLACK_FRAMES = 2
"""Files are often one or two frames shorter than their header says; more than that is damage."""

MIN_RATE, MAX_RATE = 0.1, 1000
"""Frames per second below which it is a time lapse, which nobody watches at its own pace, and above which a header's rate is a time unit
and not a rate (some recorders write 90000)."""


class VideoFileSource(BaseSource):
    """A video file from its first frame (or `start_frame`) to its last or to where the damage begins.

    Rotation and mirroring in the metadata are applied. A frame that cannot be decoded is left out and counted in `decode_failures`,
    its index is not used again. `time_s` counts from the beginning of the stream, also for a variable frame rate.
    """

    def __init__(self, path: str | Path, *, start_frame: int = 0, max_frames: int | None = None) -> None:
        """Open the file and decode its first frame.

        Raises:
            SourceError: missing file, not a video, no frames, or `start_frame` behind the end.
        """
        self._path, self._max_frames = Path(path), max_frames
        # FFmpeg's state must not be freed by one thread while another one decodes
        self._decoding = threading.Lock()
        self._matrices: dict[int, NDArray[np.int32] | None] = {}
        self._container = _open(self._path)
        try:
            self._stream = _first_video_stream(self._container, self._path)
            rate = self._stream.average_rate or self._stream.guessed_rate
            total = _frame_total(self._container, self._stream, rate)
            super().__init__(
                name=self._path.name,
                frame_size_wh=(0, 0),
                frames_per_second=float(rate) if rate and MIN_RATE <= rate <= MAX_RATE else None,
                frame_count=limited_count(total, start_frame, max_frames),
            )
            self._frames = self._decode_from(start_frame)
            self._first: av.VideoFrame | None = next(self._frames, None)
            if self._first is None:
                raise _no_frames(self._path, start_frame)
            image = self._displayed(self._first)
        except BaseException:
            self._container.close()
            raise
        self.frame_size_wh = (image.shape[1], image.shape[0])

    def __iter__(self) -> Iterator[Frame]:
        return islice(self._deliver(), None if self._max_frames is None else min(self._max_frames, sys.maxsize))

    def close(self) -> None:
        """Free the file; may be called from any thread."""
        super().close()
        with self._decoding:
            self._container.close()

    def _deliver(self) -> Iterator[Frame]:
        resized = False
        while not self._closed:
            with self._decoding:
                if self._closed:
                    return
                decoded, self._first = self._first or next(self._frames, None), None
            if decoded is None:
                return
            image = self._displayed(decoded)
            if image.shape[1::-1] != self.frame_size_wh and not resized:
                resized = True
                logger.warning(
                    "%s: frame %d changes size to %dx%d; rescaled to the first size", self.name, self._index, *image.shape[1::-1]
                )
            yield Frame(fit_to_size(image, self.frame_size_wh), self._index, self._time_s(decoded))

    def _displayed(self, decoded: av.VideoFrame) -> ImageRGB:
        image = np.asarray(decoded.to_ndarray(format="rgb24"), dtype=np.uint8)
        if decoded.rotation not in self._matrices:
            # Not of every picture: one that was asked for it is freed only when Python looks for cycles, hundreds of pictures later.
            side_data: Any = decoded.side_data  # of which PyAV's types know nothing
            matrix = side_data.get("DISPLAYMATRIX")
            self._matrices[decoded.rotation] = None if matrix is None else np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)
        as_displayed = self._matrices[decoded.rotation]
        return image if as_displayed is None else _as_displayed(image, as_displayed)

    def _time_s(self, decoded: av.VideoFrame) -> float:
        if decoded.pts is None or decoded.time_base is None:
            return self._index / (self.frames_per_second or 1.0)
        return float((decoded.pts - (self._stream.start_time or 0)) * decoded.time_base)

    def _decode_from(self, start_frame: int) -> Iterator[av.VideoFrame]:
        """Decoded pictures from `start_frame` on; `self._index` is the position of the last one."""
        self._index, pictures = -1, self._attempts()
        if start_frame:
            sought = self._sought(start_frame)
            if sought is not None:
                self._index, pictures = start_frame - 1, sought
            else:
                # only counting from the beginning is reliable, and files without time stamps can seldom be rewound
                self._container.close()
                self._container = _open(self._path)
                self._stream = _first_video_stream(self._container, self._path)
                pictures = self._attempts()
        last: tuple[int, av.VideoFrame] | None = None
        for decoded in pictures:
            self._index += 1
            if decoded is None:
                self._count_failure(f"frame {self._index} cannot be decoded; left out")
                continue
            last = self._index, decoded
            if self._index >= start_frame:
                yield decoded
        expected = self._stream.frames or (self._matroska_count(*last) if last else 0)
        missing = expected - self._index - 1
        if missing > HEADER_SLACK_FRAMES:
            self._count_failure(f"ends after {self._index + 1} of {expected} frames (truncated?)", frames=missing)

    def _matroska_count(self, last_index: int, last: av.VideoFrame) -> int:
        """How many frames there are if the rest of a Matroska file, which counts none, has them at the usual rate; 0 where it does not say.

        Only what the file says about this stream is taken: its sound may be longer, and in other formats FFmpeg looks for the end itself.
        """
        stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self._stream.metadata.get("DURATION", ""))
        if stated is None or last.pts is None or last.time_base is None or self.frames_per_second is None:
            return 0
        hours, minutes, seconds = map(float, stated.groups())
        rest_s = 3600 * hours + 60 * minutes + seconds - float((last.pts + (last.duration or 0)) * last.time_base)
        return last_index + 1 + round(rest_s * self.frames_per_second)

    def _sought(self, start_frame: int) -> Iterator[av.VideoFrame | None] | None:
        """What `_attempts` gives from `start_frame` on; None where seeking does not lead there."""
        all_pts = _presentation_times(self._container, self._stream)
        if all_pts is None:
            return None
        if start_frame >= len(all_pts):
            raise _no_frames(self._path, start_frame)
        try:
            self._container.seek(all_pts[start_frame], stream=self._stream, backward=True)
        except av.FFmpegError:
            logger.debug("cannot seek in %s", self._path, exc_info=True)
            return None
        attempts = self._attempts()
        for decoded in attempts:
            if decoded is not None and decoded.pts is not None and decoded.pts >= all_pts[start_frame]:
                # in MPEG-TS, MPEG-PS and some AVI the seek may end behind it
                return chain([decoded], attempts) if decoded.pts == all_pts[start_frame] else None
        return None

    def _attempts(self) -> Iterator[av.VideoFrame | None]:
        """Each decoded picture, None for each one that is damaged."""
        read_errors = 0
        while read_errors < MAX_READ_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    read_errors = 0
                    yield from _decoded(packet)
                return
            except av.FFmpegError:
                read_errors += 1
                yield None


def _decoded(packet: "av.Packet[VideoStream]") -> Iterator[av.VideoFrame | None]:
    try:
        pictures = packet.decode()
    except av.FFmpegError:
        yield None
        return
    for picture in pictures:
        yield None if picture.is_corrupt else picture


def _as_displayed(image: ImageRGB, matrix: NDArray[np.int32]) -> ImageRGB:
    """Turned by quarters and mirrored as FFmpeg's display matrix says: `x' = a x + c y`, `y' = b x + d y` for its rows `a b u`, `c d v`."""
    (a, b, _), (c, d, _), _ = matrix.tolist()
    if abs(a) < abs(b):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _open(path: Path) -> InputContainer:
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        found = "a folder; use --frames for a folder of images" if os.path.isdir(path) else "nothing there; check the path"
        if os.path.exists(path) and not os.path.isdir(path):
            found = "a device or a pipe; give an ordinary file, or --camera for a camera"
        raise SourceError(f"expected a video file at '{path}', found {found}")
    try:
        return av.open(str(path), metadata_errors="replace")
    except PermissionError as error:
        raise SourceError(f"expected a readable video file, no permission to read '{path}'; change its permissions") from error
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"expected a video file, '{path}' {_what_is_wrong(path)}") from error


def _what_is_wrong(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "is empty (0 bytes); copy it again"
    if head[4:8] in (b"ftyp", b"mdat", b"moov"):
        return "is an MP4 without its index (moov), so it was cut off while being recorded or copied; copy or record it again"
    return "is not one; give a file such as mp4, mkv, avi, mov or webm"


def _first_video_stream(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"expected a video file, '{path}' has no video stream (only sound or data); give another file")
    stream = container.streams.video[0]
    # the trackers need both cores; a second decoding thread was measured to gain nothing at 854x480
    stream.codec_context.thread_count = 1
    return stream


def _frame_total(container: InputContainer, stream: VideoStream, rate: Fraction | None) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / av.time_base
    else:
        return None
    return round(seconds * float(rate)) or None if rate else None


def _presentation_times(container: InputContainer, stream: VideoStream) -> list[int] | None:
    """The time stamps of all frames in the order of showing, without decoding; None where the file has none."""
    times: list[int] = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return None
                times.append(packet.pts)
    except av.FFmpegError:
        logger.debug("damage found while counting frames", exc_info=True)
    times.sort()
    return times


def _no_frames(path: Path, start_frame: int) -> SourceError:
    if start_frame:
        return SourceError(f"expected more than {start_frame} frames in '{path}', it has fewer; choose a smaller start frame")
    return SourceError(f"expected a video with frames, '{path}' has none that can be decoded; copy or convert it again")
