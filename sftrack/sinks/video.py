"""`annotated.mp4`: the video with what was found drawn on it, playable in a browser."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from sftrack.contracts import Frame, ImageRGB, TrackResult
from sftrack.errors import SinkError
from sftrack.overlay import draw_result
from sftrack.sinks.base import BaseSink
from sftrack.sinks.files import sink_error

logger = logging.getLogger(__name__)

DEFAULT_FRAMES_PER_SECOND = 30.0
QUEUE_LENGTH = 4
"""Frames that may wait for the encoder; then `write` waits, because a file must not lose frames."""
SECONDS_PER_FRAGMENT = 2.0
"""What is lost at most of a file whose writer is killed."""
ENCODERS = {
    "libx264": {"preset": "ultrafast", "crf": "23"},
    "libopenh264": {},
    "mpeg4": {"qscale": "4"},
}
"""In the order of preference; only H.264 plays in every browser."""

Draw: TypeAlias = Callable[[Frame, TrackResult], ImageRGB]


def draw_frame(frame: Frame, result: TrackResult) -> ImageRGB:
    """The frame with its result and number."""
    return draw_result(frame.image_rgb, result, frame_index=frame.index)


class AnnotatedVideoSink(BaseSink):
    """Draws and encodes in a thread of its own, one picture per frame: at a constant rate, or each at its time.

    The file is written in fragments while it grows, so that it plays also where the program was killed. Odd sizes get one more row or
    column, because the encoding halves the colours' resolution.

    Attributes:
        codec_name: the encoder in use, `libx264` where FFmpeg has it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        frame_size_wh: tuple[int, int],
        frames_per_second: float | None = None,
        is_live: bool = False,
        draw: Draw = draw_frame,
    ) -> None:
        """Create the file and start the encoder.

        Args:
            path: of the file.
            frame_size_wh: width and height of the frames in pixels.
            frames_per_second: at which it plays; 30 where the source has no rate (None).
            is_live: show each picture at its `time_s`, to the nearest 1/rate: of a camera some frames are missing, and without them
                everything would go too fast.
            draw: makes the picture of a frame.

        Raises:
            SinkError: it cannot be written, or no encoder is there.
        """
        self.path = Path(path)
        self._size_wh, self._is_live, self._draw = frame_size_wh, is_live, draw
        rate = Fraction(frames_per_second or DEFAULT_FRAMES_PER_SECOND).limit_denominator(1001)
        self._container, self._stream, self.codec_name = _open(self.path, frame_size_wh, rate)
        self._written = 0
        self._start_s, self._last_pts = 0.0, -1
        self._failure: SinkError | None = None
        self._closed = False
        self._waiting: queue.Queue[tuple[Frame, TrackResult] | None] = queue.Queue(QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._run, name="video encoder", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, result: TrackResult) -> None:
        """Hand a frame to the encoder; its image must not be changed afterwards.

        Raises:
            SinkError: an earlier frame could not be written, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"expected an open '{self.path}', it is closed already; write before closing")
        if self._failure is not None:
            raise self._failure
        self._put((frame, result))

    def close(self) -> None:
        """Encode what waits and finish the file.

        Raises:
            SinkError: it could not be finished; what was written before stays playable.
        """
        if self._closed:
            return
        self._closed = True
        self._put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _put(self, item: tuple[Frame, TrackResult] | None) -> None:
        # in steps, because the thread may fail, or the user press Ctrl+C, while the queue is full
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=0.1)
                return

    def _run(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                self._encode(self._draw(*item), item[0].time_s)
        except Exception as error:
            self._failure = sink_error(self.path, error)
        finally:
            self._finish()

    def _encode(self, image_rgb: ImageRGB, time_s: float) -> None:
        picture = av.VideoFrame.from_ndarray(_to_yuv420(image_rgb, self._size_wh), format="yuv420p")
        picture.pts, picture.time_base = self._next_pts(time_s), 1 / _rate(self._stream)
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        self._written += 1

    def _next_pts(self, time_s: float) -> int:
        """When the picture is shown, in units of 1/rate; always later than the one before."""
        if not self._written:
            self._start_s = time_s
        due = round((time_s - self._start_s) * _rate(self._stream)) if self._is_live else 0
        self._last_pts = max(due, self._last_pts + 1)
        return self._last_pts

    def _finish(self) -> None:
        try:
            if self._written and self._failure is None:
                self._container.mux(self._stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            self._failure = self._failure or sink_error(self.path, error)
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            self._failure = self._failure or sink_error(self.path, error)
        if not self._written and self._failure is None:
            # without a frame it would be a file that no player opens
            with contextlib.suppress(OSError):
                self.path.unlink()


def _open(path: Path, frame_size_wh: tuple[int, int], rate: Fraction) -> tuple[OutputContainer, VideoStream, str]:
    """The file with the best encoder that FFmpeg has here."""
    try:
        # FFmpeg opens the file with the first frame only; the user should know before tracking begins
        path.open("wb").close()
    except OSError as error:
        raise sink_error(path, error) from error
    try:
        return _open_with_best_encoder(path, frame_size_wh, rate)
    except BaseException:  # Ctrl+C included: an empty file is no video
        if path.is_file():
            path.unlink()
        raise


def _open_with_best_encoder(path: Path, frame_size_wh: tuple[int, int], rate: Fraction) -> tuple[OutputContainer, VideoStream, str]:
    reason: Exception | None = None
    for codec_name, options in ENCODERS.items():
        try:
            av.codec.Codec(codec_name, "w")
        except (av.FFmpegError, ValueError) as error:
            logger.info("no encoder %s", codec_name)
            reason = error
            continue
        try:
            container = av.open(str(path), "w", format="mp4", options=_container_options())
        except (av.FFmpegError, OSError) as error:
            raise sink_error(path, error) from error
        try:
            return container, _add_stream(container, codec_name, options, frame_size_wh, rate), codec_name
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = error
            with contextlib.suppress(av.FFmpegError, OSError):
                container.close()
    raise SinkError(f"expected one of the encoders {', '.join(ENCODERS)} for '{path}', got '{reason}'; go on without the video")


def _container_options() -> dict[str, str]:
    """Fragments while the file grows; FFmpeg 8 and newer turn them into one with an ordinary index when it is finished."""
    is_hybrid = av.library_versions["libavformat"] >= (62, 0, 0)
    flags = "+hybrid_fragmented" if is_hybrid else "+frag_keyframe+empty_moov+default_base_moof"
    return {"movflags": flags, "flush_packets": "1"}


def _add_stream(
    container: OutputContainer, codec_name: str, options: dict[str, str], frame_size_wh: tuple[int, int], rate: Fraction
) -> VideoStream:
    stream = container.add_stream(codec_name, rate=rate, options=dict(options))
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height = (side + side % 2 for side in frame_size_wh)
    context.pix_fmt = "yuv420p"
    context.time_base = 1 / rate
    context.gop_size = max(1, round(float(rate) * SECONDS_PER_FRAGMENT))
    context.thread_count = 1
    # what OpenCV's conversion makes; players would guess another matrix for HD
    context.colorspace, context.color_range = 6, 1
    context.open()
    return stream


def _rate(stream: VideoStream) -> Fraction:
    return Fraction(stream.codec_context.framerate)


def _to_yuv420(image_rgb: ImageRGB, size_wh: tuple[int, int]) -> ImageRGB:
    width, height = size_wh
    if image_rgb.shape[1::-1] != size_wh:
        image_rgb = np.asarray(cv2.resize(image_rgb, size_wh), dtype=np.uint8)
    if width % 2 or height % 2:
        image_rgb = np.asarray(cv2.copyMakeBorder(image_rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
