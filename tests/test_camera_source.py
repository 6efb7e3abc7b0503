"""What happens when a camera is slow to be read, away, unplugged, hanging, or comes back with another size."""

import contextlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest

from sftrack.errors import SourceError, SourceLostError
from sftrack.sources import CameraSource, open_source
from sftrack.sources.camera import open_cv2_capture
from tests.cameras import FakeCapture, camera
from tests.clips import SIZE_WH, picture


def test_slow_reader_gets_the_newest_frame_and_the_rest_is_counted() -> None:
    source, _ = camera(FakeCapture(1000, pause_s=0.005))
    with source:
        indices = []
        for frame in source:
            indices.append(frame.index)
            if len(indices) == 4:
                break
            time.sleep(0.1)
        assert min(np.diff(indices)[1:]) > 3
        assert source.dropped_frames >= indices[-1] - 4


def fail() -> tuple[bool, Any]:
    raise RuntimeError("usb\nunplugged")


SECRET_ADDRESS = "rtsp://me:s3c@ret@10.0.0.7:554/live?key=s3c"


def fail_with_address() -> tuple[bool, Any]:
    raise RuntimeError(f"cannot read {SECRET_ADDRESS}")


@pytest.mark.parametrize("ending", [lambda: (False, None), fail, lambda: time.sleep(3) or (False, None)], ids=["false", "raises", "hangs"])
def test_camera_that_comes_back_goes_on(ending: Callable[[], tuple[bool, Any]], caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    first, dead, third = FakeCapture(5, ending=ending), FakeCapture(is_open=False), FakeCapture(1000, start=0, size_wh=(128, 96))
    source, waits = camera(first, dead, third, on_waiting=told.append, read_timeout_s=0.2, max_frames=30)
    with source:
        frames = list(source)
    assert waits == [1.0, 2.0]
    assert {frame.image_rgb.shape for frame in frames} == {(48, 64, 3)}
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert "waiting 1 s" in told[0]
    assert "is back" in told[-1]
    assert "size changed to 128x96" in caplog.text


@pytest.mark.parametrize("ending", [lambda: (False, None), fail_with_address], ids=["ends", "raises"])
def test_no_password_is_shown(ending: Callable[[], tuple[bool, Any]], caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    source = CameraSource(
        SECRET_ADDRESS,
        open_capture=lambda _address: FakeCapture(3, ending=ending),
        on_waiting=told.append,
        wait=lambda _seconds: source.close(),
    )
    with source:
        list(source)
    shown = [source.name, *told, caplog.text, *(thread.name for thread in threading.enumerate())]
    assert source.name == "camera rtsp://10.0.0.7:554/live"
    assert told
    with pytest.raises(SourceError) as refused:
        CameraSource(SECRET_ADDRESS, open_capture=lambda _address: FakeCapture(0, ending=ending))
    assert not any("s3c" in text for text in [*shown, str(refused.value)])


def test_camera_that_stays_away_ends_with_an_error_after_all_retries() -> None:
    source, waits = camera(FakeCapture(5))
    frames = iter(source)
    assert next(frames).index >= 0
    with source, pytest.raises(SourceLostError, match="cannot be opened") as caught:
        list(frames)
    assert waits == [1.0, 2.0, 5.0]
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("capture", [FakeCapture(is_open=False), FakeCapture(0), FakeCapture(0, ending=fail)])
def test_no_camera_is_one_clear_line(capture: FakeCapture) -> None:
    with pytest.raises(SourceError, match="expected a camera at '0'") as caught:
        camera(capture)
    assert "\n" not in str(caught.value)
    assert capture.is_released


def test_no_real_camera_is_said_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="expected a camera at '97', it cannot be opened"):
        open_source(camera="97")
    assert capfd.readouterr().err == ""


def test_cameras_opened_at_the_same_time_leave_opencvs_log_level_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the whole process's: who opens second must not take the silence of the first for what it was."""
    first_is_open, both_are_open, first_is_done = threading.Event(), threading.Event(), threading.Event()

    def slow_capture(address: str, *_: object) -> None:
        if address == "first":
            first_is_open.set()
            assert both_are_open.wait(60.0)
        else:
            both_are_open.set()
            assert first_is_done.wait(60.0)

    monkeypatch.setattr("sftrack.sources.camera.cv2.VideoCapture", slow_capture)
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        first, second = (threading.Thread(target=open_cv2_capture, args=[name]) for name in ("first", "second"))
        first.start()
        assert first_is_open.wait(60.0)
        second.start()
        first.join()
        first_is_done.set()
        second.join()
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_ERROR
    finally:
        cv2.utils.logging.setLogLevel(before)


def test_close_does_not_wait_for_a_camera_that_hangs() -> None:
    released = threading.Event()
    source, _ = camera(FakeCapture(2, ending=lambda: (released.wait(10), None)), read_timeout_s=60)
    consumer = threading.Thread(target=lambda: list(source))
    consumer.start()
    time.sleep(0.1)
    start_s = time.monotonic()
    source.close()
    consumer.join(2)
    assert not consumer.is_alive()
    assert time.monotonic() - start_s < 2
    released.set()


class Mjpeg(BaseHTTPRequestHandler):
    """What a network camera answers, over and over."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        with contextlib.suppress(OSError):
            for index in range(200):
                encoded = cv2.imencode(".jpg", picture(index)[..., ::-1])[1].tobytes()
                self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(encoded), encoded))
                time.sleep(0.005)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output stays readable."""


def test_http_camera_through_opencv() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with open_source(camera=f"http://127.0.0.1:{server.server_port}/video", max_frames=5) as source:
            frames = list(source)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert source.frame_size_wh == SIZE_WH
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    red, green, blue = frames[0].image_rgb[20, 4]
    assert (red > 180, green < 60, blue < 60) == (True, True, True)


def test_address_that_nobody_answers_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        open_source(camera="http://127.0.0.1:9/video")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
