"""Qt set up and taken down around one viewing: environment, application, errors in slots, Ctrl+C."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

from PyQt5.QtCore import QEventLoop, QMessageLogContext, QObject, Qt, QTimer, QtMsgType, pyqtSignal, qInstallMessageHandler
from PyQt5.QtWidgets import QApplication

from sftrack.contracts import BoxXYWH, FrameSource, ResultSink
from sftrack.signals import handled

from .display import forget_opencv_qt
from .roles import TrackerLike, ViewerSummary
from .window import ViewerWindow, show_problem
from .words import error_text
from .worker import PipelineWorker

logger = logging.getLogger(__name__)

_QT_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.DEBUG,
    QtMsgType.QtWarningMsg: logging.INFO,  # About Qt's surroundings (XDG_RUNTIME_DIR, themes): nothing that a user of ours can act on.
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}

_kept: list[QObject] = []
"""Never freed: the application, and threads that did not end (freeing a running QThread aborts the process)."""


def make_application() -> QApplication:
    """The process's one QApplication, made if there is none yet."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    forget_opencv_qt()
    qInstallMessageHandler(_log_qt_message)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
    app = QApplication(["sftrack"])
    app.setApplicationName("sftrack")
    app.setStyle("Fusion")
    _kept.append(app)
    return app


def show(
    source: FrameSource,
    tracker: TrackerLike,
    *,
    box_xywh: BoxXYWH | None,
    sinks: Sequence[ResultSink],
    with_mask: bool,
    close_at_end: bool,
) -> ViewerSummary:
    """See `run_viewer`."""
    app = make_application()
    worker = PipelineWorker(source, tracker, box_xywh=box_xywh, sinks=sinks, with_mask=with_mask)
    window = ViewerWindow(worker, close_at_end=close_at_end)
    loop = QEventLoop()
    window.closed.connect(loop.quit)
    with errors_in_dialogs(window), close_on_interrupt(window) as interrupted:
        try:
            worker.start()
            window.show()
            loop.exec_()
            app.processEvents()  # The window disappears before the wait below.
        finally:
            # Still with our handler of Ctrl+C, so that an impatient second one does not break off the writing of the files.
            if not worker.finish():
                logger.error("the tracker does not return; its thread is left behind, the results are complete up to the last frame")
                _kept.append(worker)
            window.deleteLater()
    return ViewerSummary(worker.frames_tracked, tuple(worker.seconds_per_frame), interrupted.is_set(), worker.reached_end, worker.error)


class _Reporter(QObject):
    """Carries words from any thread to a dialog in the main one."""

    problem = pyqtSignal(str)


@contextmanager
def errors_in_dialogs(window: ViewerWindow) -> Iterator[None]:
    """An exception in a slot becomes a dialog and a line in the log; without this hook PyQt5 aborts the process."""
    reporter = _Reporter()
    reporter.problem.connect(lambda text: show_problem(text, window))
    told: set[str] = set()

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        words = error_text(error, "the viewer")
        logger.debug("the viewer's error", exc_info=(kind, error, trace))
        if words not in told:  # What fails in every repaint must not open a dialog for each.
            told.add(words)
            logger.error("%s", words)
            reporter.problem.emit(words)

    before, sys.excepthook = sys.excepthook, report
    try:
        yield
    finally:
        sys.excepthook = before


@contextmanager
def close_on_interrupt(window: ViewerWindow) -> Iterator[threading.Event]:
    """Ctrl+C and SIGTERM close the window; the event tells afterwards that they did.

    Python gets to run the handler by the window's timer.
    """
    interrupted = threading.Event()

    def close(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()
        QTimer.singleShot(0, window.quit)

    with handled(close, signal.SIGINT, signal.SIGTERM):
        yield interrupted


def _log_qt_message(kind: QtMsgType, _context: QMessageLogContext, text: str | None) -> None:
    logging.getLogger("sftrack.gui.qt").log(_QT_LEVELS.get(kind, logging.WARNING), "Qt: %s", text or "")
