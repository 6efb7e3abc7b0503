"""The viewer without a screen: fixtures that start the real window on made-up sources and trackers, and look for what stays behind."""

import os
from collections.abc import Callable, Iterator

# Before anything imports Qt: a test must not open windows on a developer's desktop.
os.environ["QT_QPA_PLATFORM"] = "offscreen"

import pytest
from PyQt5.QtCore import QThread
from PyQt5.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from sftrack.contracts import FrameSource
from sftrack.gui.roles import TrackerLike
from sftrack.gui.window import ViewerWindow
from sftrack.gui.worker import PipelineWorker

CLOSE_LIMIT_S = 2.0


@pytest.fixture(autouse=True)
def started_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[QThread]]:
    """Every QThread that was started has ended when the test is over."""
    started: list[QThread] = []
    start = PipelineWorker.start

    def start_noted(self: PipelineWorker) -> None:
        started.append(self)
        start(self)

    monkeypatch.setattr(PipelineWorker, "start", start_noted)
    yield started
    running = [thread for thread in started if thread.isRunning()]
    for thread in running:
        thread.wait(3000)
    assert not running, f"{len(running)} threads were still running after the test"


OpenWindow = Callable[..., ViewerWindow]


@pytest.fixture
def open_window(qtbot: QtBot) -> Iterator[OpenWindow]:
    """`open_window(source, tracker, **worker_arguments)` shows the real window; it is closed after the test, within 2 s."""
    windows: list[ViewerWindow] = []

    def open_one(source: FrameSource, tracker: TrackerLike, *, close_at_end: bool = False, **arguments: object) -> ViewerWindow:
        window = ViewerWindow(PipelineWorker(source, tracker, **arguments), close_at_end=close_at_end)
        qtbot.addWidget(window)
        windows.append(window)
        window.worker.start()
        window.show()
        qtbot.waitExposed(window)
        return window

    yield open_one
    for window in windows:
        window.close()
        assert window.worker.finish(CLOSE_LIMIT_S)


@pytest.fixture
def dialogs() -> Callable[[ViewerWindow], list[str]]:
    """The texts of the message boxes that a window shows."""

    def texts(window: ViewerWindow) -> list[str]:
        return [box.text() for box in window.findChildren(QMessageBox) if box.isVisible()]

    return texts
