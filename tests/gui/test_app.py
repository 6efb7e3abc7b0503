"""`run_viewer` as a whole: what it returns, and what happens to errors, signals and threads."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from sftrack.errors import SinkError
from sftrack.gui import ViewerSummary, app, run_viewer
from sftrack.gui.window import ViewerWindow

from .fakes import FakeSink, FakeSource, FakeTracker

BOX = np.array([10.0, 20.0, 40.0, 30.0])
ROOT = Path(__file__).resolve().parents[2]


def the_window() -> ViewerWindow:
    """The viewer's window, while `run_viewer` shows it."""
    return next(widget for widget in QApplication.topLevelWidgets() if isinstance(widget, ViewerWindow) and widget.isVisible())


def when_tracking(act: Callable[[ViewerWindow], object], frames: int = 3) -> None:
    """Act on the window once so many frames are tracked, from inside the viewer's event loop."""

    def look() -> None:
        if the_window().worker.frames_tracked < frames:
            QTimer.singleShot(10, look)
        else:
            act(the_window())

    QTimer.singleShot(10, look)


def test_the_summary_of_a_whole_video(qtbot: QtBot) -> None:
    sink = FakeSink()
    summary = run_viewer(FakeSource(20), FakeTracker(), box_xywh=BOX, sinks=sink, close_at_end=True)
    assert isinstance(summary, ViewerSummary)
    assert (summary.frames_tracked, len(summary.seconds_per_frame)) == (20, 20)
    assert min(summary.seconds_per_frame[1:]) >= 0.002
    assert summary.reached_end
    assert not summary.interrupted
    assert summary.error is None
    assert sink.frames == list(range(20))


def test_masks_for_a_sink_are_asked_for_on_every_frame(qtbot: QtBot) -> None:
    tracker = FakeTracker()
    run_viewer(FakeSource(5), tracker, box_xywh=BOX, with_mask=True, close_at_end=True)
    assert tracker.masks_wanted == [True] * 5


def test_a_file_is_not_played_faster_than_its_rate(qtbot: QtBot) -> None:
    start_s = time.monotonic()
    run_viewer(FakeSource(11, frames_per_second=20.0), FakeTracker(seconds=0.0), box_xywh=BOX, close_at_end=True)
    assert time.monotonic() - start_s >= 0.4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_closes_the_window_and_is_told(qtbot: QtBot, number: signal.Signals) -> None:
    sink, before = FakeSink(), signal.getsignal(number)
    when_tracking(lambda _window: os.kill(os.getpid(), number))
    summary = run_viewer(FakeSource(100_000), FakeTracker(), box_xywh=BOX, sinks=[sink])
    assert summary.interrupted
    assert summary.frames_tracked == len(sink.frames) >= 3
    assert sink.closes == 1
    assert signal.getsignal(number) is before


def test_an_error_is_in_the_summary_and_nobody_has_to_close_a_dialog(qtbot: QtBot) -> None:
    summary = run_viewer(
        FakeSource(), FakeTracker(), box_xywh=BOX, sinks=FakeSink(error=SinkError("the disk is full"), error_at=4), close_at_end=True
    )
    assert isinstance(summary.error, SinkError)
    assert summary.frames_tracked == 3


def test_an_exception_in_a_slot_is_a_dialog_and_a_line_in_the_log(qtbot: QtBot, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def break_a_slot(window: ViewerWindow) -> None:
        QTimer.singleShot(0, look_and_close)
        app.sys.excepthook(ValueError, ValueError("a slot broke"), None)

    def look_and_close() -> None:
        window = the_window()
        seen.extend(box.text() for box in window.findChildren(QMessageBox) if box.isVisible())
        window.close()

    when_tracking(break_a_slot)
    before = sys.excepthook
    with caplog.at_level(logging.CRITICAL, logger="sftrack.gui.app"):
        run_viewer(FakeSource(100_000), FakeTracker(), box_xywh=BOX)
    assert seen == ["the viewer failed: a slot broke (ValueError); --debug shows more"]
    assert sys.excepthook is before


def test_an_exception_in_another_thread_is_shown_in_the_main_one(qtbot: QtBot, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def break_a_thread(window: ViewerWindow) -> None:
        thread = threading.Thread(target=lambda: app.sys.excepthook(ValueError, ValueError("a thread broke"), None))
        thread.start()
        thread.join()
        QTimer.singleShot(20, look_and_close)

    def look_and_close() -> None:
        window = the_window()
        seen.extend(box.text() for box in window.findChildren(QMessageBox) if box.isVisible())
        window.close()

    when_tracking(break_a_thread)
    with caplog.at_level(logging.CRITICAL, logger="sftrack.gui.app"):
        run_viewer(FakeSource(100_000), FakeTracker(), box_xywh=BOX)
    assert len(seen) == 1
    assert "a thread broke" in seen[0]


PROGRAM = """
import numpy as np
from sftrack.gui import run_viewer
from tests.gui.fakes import FakeSource, FakeTracker
summary = run_viewer(FakeSource(5), FakeTracker(), box_xywh=np.array([10.0, 20, 40, 30]), close_at_end=True)
assert summary.frames_tracked == 5, summary
"""


def run_program(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "QT_QPA_PLATFORM": "offscreen", **environment}
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)


def test_it_starts_where_a_full_opencv_has_set_qts_plugin_path(tmp_path: Path) -> None:
    broken = tmp_path / "cv2" / "qt" / "plugins"
    (broken / "platforms").mkdir(parents=True)
    (broken / "platforms" / "libqoffscreen.so").write_bytes(b"not a library")
    done = run_program(PROGRAM, QT_QPA_PLATFORM_PLUGIN_PATH=str(broken), QT_QPA_FONTDIR=str(tmp_path / "cv2" / "qt" / "fonts"))
    assert done.returncode == 0, done.stderr


def test_a_slot_that_raises_does_not_abort_the_process() -> None:
    done = run_program(PROGRAM.replace("summary =", "from sftrack.gui import paint\npaint.draw_state_box = lambda *_: 1 / 0\nsummary ="))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the viewer failed: division by zero") == 1
    assert "Traceback" not in done.stderr


def test_importing_the_package_needs_no_qt() -> None:
    done = run_program("import sys, sftrack.gui; sys.exit(any(name.startswith('PyQt') for name in sys.modules))")
    assert done.returncode == 0, done.stderr
