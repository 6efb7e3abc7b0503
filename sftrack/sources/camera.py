"""Frames from a camera: a device number, an RTSP address or an HTTP (MJPEG) address.

A thread per connection does everything that may block (opening, reading) and keeps only the newest picture. The caller's thread waits
for it in short steps, so it always notices Ctrl+C, `close`, and a connection that hangs; a hanging thread is left behind (it is a daemon).
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from sftrack.contracts import Frame, ImageRGB
from sftrack.errors import SourceError, SourceLostError
from sftrack.sources.base import BaseSource, fit_to_size

logger = logging.getLogger(__name__)

RETRY_DELAYS_S = (1.0, 2.0, 5.0)
POLL_S = 0.1
"""How long the caller's thread sleeps at most before it looks for Ctrl+C and `close`."""
JOIN_S = 1.0
"""How long `close` waits for the thread; a read that hangs longer is left to the daemon thread."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used; `read` gives BGR."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name
    def read(self) -> tuple[bool, cv2.typing.MatLike | None]: ...
    def get(self, prop_id: int, /) -> float: ...
    def release(self) -> None: ...


OpenCapture: TypeAlias = Callable[[int | str], Capture]


class _Quiet:
    """OpenCV says nothing while a thread is inside: it would print several lines for a missing camera; the user gets one of ours.

    Its log level is the whole process's, so it is put back by the last thread of those that open cameras at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._inside += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.utils.logging.setLogLevel(self._level)


_QUIET = _Quiet()


def open_cv2_capture(address: int | str) -> Capture:
    """Open a device or an address, with limits on the waiting for a network."""
    # read once by the FFmpeg inside OpenCV, which otherwise writes to the terminal about every lost packet
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with _QUIET:
        if isinstance(address, str):
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
            return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
        capture = cv2.VideoCapture(address)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture


def without_secrets(address: int | str) -> str:
    """The address as it may be shown: without user name, password and query, which often hold a key."""
    return re.sub(r"\?.*", "", re.sub(r"//[^/]*@", "//", str(address)))


class CameraSource(BaseSource):
    """The newest frame of a camera each time one is asked for; what came in between is counted in `dropped_frames`.

    `index` counts what the camera delivered, dropped frames included. A camera that disappears (error, or nothing for
    `read_timeout_s`) is tried again after 1, 2 and 5 s; a picture of another size after that is rescaled to the first size.
    """

    def __init__(
        self,
        address: int | str,
        *,
        max_frames: int | None = None,
        open_capture: OpenCapture = open_cv2_capture,
        on_waiting: Callable[[str], None] | None = None,
        wait: Callable[[float], object] | None = None,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        read_timeout_s: float = 5.0,
        open_timeout_s: float = 10.0,
    ) -> None:
        """Connect and wait for the first picture.

        Args:
            address: device number (also as text), `rtsp://...` or `http://...`.
            max_frames: deliver at most so many.
            open_capture: opens the address (tests give their own).
            on_waiting: called with one line for the user before each retry; it is logged as a warning as well.
            wait: waits so many seconds before a retry; the default ends early on `close`.
            retry_delays_s: pauses before each retry.
            read_timeout_s: a camera silent for so long counts as lost.
            open_timeout_s: the same while connecting.

        Raises:
            SourceError: no camera there, or it delivers nothing.
        """
        self._address = int(address) if isinstance(address, str) and address.isdecimal() else address
        self._max_frames, self._open_capture = max_frames, open_capture
        self._on_waiting, self._retry_delays_s = on_waiting, tuple(retry_delays_s)
        self._read_timeout_s, self._open_timeout_s = read_timeout_s, open_timeout_s
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._start_s = time.monotonic()
        self._earlier_grabbed = self._earlier_dropped = 0
        self._connection = _Connection(self._address, open_capture)
        shown = without_secrets(address)
        try:
            first = self._next_picture(open_timeout_s)
        except _LostError as error:
            self._connection.close()
            raise SourceError(f"expected a camera at '{shown}', {error}; check that it is connected and not in use") from error
        assert first is not None  # nobody can close what is still being made
        super().__init__(f"camera {shown}", first.size_wh, frames_per_second=self._connection.frames_per_second, is_live=True)
        self._first: _Picture | None = first

    @property
    def dropped_frames(self) -> int:
        """Frames that were replaced by a newer one before they were fetched."""
        return self._earlier_dropped + self._connection.dropped

    def __iter__(self) -> Iterator[Frame]:
        delivered = 0
        while delivered != self._max_frames and not self._closing.is_set():
            picture = self._fetch()
            if picture is None:
                return
            delivered += 1
            image = fit_to_size(picture.image_rgb, self.frame_size_wh)
            yield Frame(image, self._earlier_grabbed + picture.number, picture.grabbed_s - self._start_s)

    def close(self) -> None:
        """End the thread, within 2 s even where the camera hangs. May be called from any thread."""
        self._closing.set()
        self._connection.close()

    def _fetch(self) -> "_Picture | None":
        first, self._first = self._first, None
        # the one of the opening is stale as soon as there is a newer one
        newer = self._connection.poll()
        if newer or first:
            return newer or first
        try:
            return self._next_picture(self._read_timeout_s)
        except _LostError as error:
            return self._reconnect(str(error))

    def _next_picture(self, timeout_s: float) -> "_Picture | None":
        """The next picture, None after `close`."""
        deadline_s = time.monotonic() + timeout_s
        while not self._closing.is_set():
            picture = self._connection.take(POLL_S)
            if picture is not None:
                return picture
            if time.monotonic() > deadline_s:
                raise _LostError(f"it delivered nothing for {timeout_s:g} s")
        return None

    def _reconnect(self, reason: str) -> "_Picture | None":
        for attempt, delay_s in enumerate(self._retry_delays_s, start=1):
            self._tell(f"{self.name} lost ({reason}); waiting {delay_s:g} s, then retry {attempt} of {len(self._retry_delays_s)}")
            self._connection.close()
            self._wait(delay_s)
            if self._closing.is_set():
                return None
            self._earlier_grabbed += self._connection.grabbed
            self._earlier_dropped += self._connection.dropped
            self._connection = _Connection(self._address, self._open_capture)
            try:
                picture = self._next_picture(self._open_timeout_s)
            except _LostError as error:
                reason = str(error)
                continue
            if picture is None:
                # closed from another thread, perhaps before this connection was there to be closed
                self._connection.close()
                return None
            self._tell(f"{self.name} is back")
            if picture.size_wh != self.frame_size_wh:
                logger.warning("%s: size changed to %dx%d; rescaled to the first size", self.name, *picture.size_wh)
            return picture
        self._connection.close()
        raise SourceLostError(
            f"expected {self.name} to deliver frames, it disappeared ({reason}) and did not come back after "
            f"{len(self._retry_delays_s)} retries; check the cable or the network"
        )

    def _tell(self, message: str) -> None:
        logger.warning("%s", message)
        if self._on_waiting is not None:
            self._on_waiting(message)


class _LostError(Exception):
    """Says why, in words that fit after a comma."""


class _Picture:
    def __init__(self, image_rgb: ImageRGB, number: int) -> None:
        self.image_rgb, self.number, self.grabbed_s = image_rgb, number, time.monotonic()

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.image_rgb.shape[1], self.image_rgb.shape[0]


class _Connection:
    """One opened camera and the thread that reads it."""

    def __init__(self, address: int | str, open_capture: OpenCapture) -> None:
        self._address, self._open_capture = address, open_capture
        self._changed = threading.Condition()
        self._newest: _Picture | None = None
        self._lost: str | None = None
        self._stop = threading.Event()
        self.grabbed = self.dropped = 0
        self.frames_per_second: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera {without_secrets(address)}", daemon=True)
        self._thread.start()

    def poll(self) -> _Picture | None:
        """The newest picture if there is one that was not yet taken."""
        with self._changed:
            picture, self._newest = self._newest, None
            return picture

    def take(self, timeout_s: float) -> _Picture | None:
        """The newest picture, None where none came within `timeout_s`.

        Raises:
            _LostError: there will be no more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._lost is not None, timeout_s)
            picture, self._newest = self._newest, None
            if picture is None and self._lost is not None:
                raise _LostError(self._lost)
            return picture

    def close(self) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            logger.warning("camera %s hangs and is left behind", without_secrets(self._address))

    def _run(self) -> None:
        capture: Capture | None = None
        reason = "it was closed"
        try:
            capture = self._open_capture(self._address)
            reason = self._read_all(capture) if capture.isOpened() else "it cannot be opened"
        except Exception as error:
            words = " ".join(str(error).split()).replace(str(self._address), without_secrets(self._address))
            reason = f"reading failed: {words or type(error).__name__}"
        finally:
            with self._changed:
                self._lost = reason
                self._changed.notify_all()
            if capture is not None:
                capture.release()

    def _read_all(self, capture: Capture) -> str:
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 1.0 <= rate <= 1000.0 else None
        while not self._stop.is_set():
            is_good, image_bgr = capture.read()
            if not is_good or image_bgr is None:
                return "it stopped delivering frames"
            picture = _Picture(np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), self.grabbed)
            with self._changed:
                self.grabbed += 1
                self.dropped += self._newest is not None
                self._newest = picture
                self._changed.notify_all()
        return "it was closed"
