"""The main window: joins canvas, status bar and keys to the worker. It decides nothing about tracking."""

import time
from dataclasses import replace

from PyQt5.QtCore import QSize, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QCloseEvent, QColor, QKeySequence, QPalette, QResizeEvent
from PyQt5.QtWidgets import QAction, QHBoxLayout, QLabel, QMainWindow, QMessageBox, QStatusBar, QVBoxLayout, QWidget

from sftrack.contracts import BoxXYWH

from . import paint, words
from .canvas import Canvas
from .roles import Phase, Snapshot
from .shortcuts import SHORTCUTS, help_html
from .worker import PipelineWorker

POLL_MS = 15
"""How often the window asks the worker for something new: more often than a screen can show it."""

INFO_PERIOD_S = 0.2
"""How often the figures change: more often cannot be read."""

WAITING_AFTER_S = 1.5
"""Without a new frame for so long, the window says that it waits."""


class ViewerWindow(QMainWindow):
    """Everything here runs in the main thread and none of it waits for the worker.

    Signals:
        closed: the window was closed, by whatever means.
    """

    closed = pyqtSignal()

    def __init__(self, worker: PipelineWorker, *, close_at_end: bool = False) -> None:
        super().__init__()
        self.worker = worker
        self.canvas = Canvas(worker.source.frame_size_wh)
        self.status = StatusLines()
        self.help_box: QMessageBox | None = None
        self._close_at_end = close_at_end
        self._snapshot: Snapshot | None = None
        self._info_due_s = 0.0
        self._news_s = time.monotonic()
        self._failure = ""
        self._build()
        self._connect()
        self._on_phase(worker.phase)

    @property
    def message(self) -> str:
        """What the status bar says at the moment, in full."""
        return self.status.message.full_text

    def _build(self) -> None:
        self.setWindowTitle(f"{self.worker.source.name} - sftrack")
        self.setPalette(_dark_palette())
        self.setCentralWidget(self.canvas)
        bar = QStatusBar()
        bar.setSizeGripEnabled(False)
        bar.addWidget(self.status, 1)
        self.setStatusBar(bar)
        self.resize(self._start_size())
        self.canvas.setFocus()

    def _start_size(self) -> QSize:
        screen = self.screen()
        return self.sizeHint().boundedTo(screen.availableGeometry().size() * 0.85) if screen is not None else self.sizeHint()

    def _connect(self) -> None:
        for shortcut in SHORTCUTS:
            action = QAction(shortcut.help, self)
            action.setShortcuts([QKeySequence(keys) for keys in shortcut.keys])
            action.triggered.connect(lambda _checked, name=shortcut.action: getattr(self, name)())
            self.addAction(action)
        self.canvas.box_chosen.connect(self._on_box_chosen)
        self.canvas.box_refused.connect(self._say)
        self.worker.phase_changed.connect(self._on_phase)
        self.worker.failed.connect(self._on_failed)
        # Asking by timer also lets Python handle Ctrl+C, which it cannot while Qt's loop sleeps.
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        self._timer.start(POLL_MS)

    # The user's actions; the names are in the table of shortcuts.

    def toggle_pause(self) -> None:
        phase = self.worker.phase
        if phase is Phase.RUNNING:
            self.worker.pause()
        elif phase is Phase.CHOOSING and not self.worker.has_target:
            self._say(f"no target yet: {words.CHOOSE_TEXT}")
        else:
            self.canvas.cancel_drag()
            self.worker.resume()

    def reselect(self) -> None:
        self.canvas.cancel_drag()
        self.worker.choose()

    def cancel(self) -> None:
        if self.canvas.cancel_drag():
            self._on_phase(self.worker.phase)
        else:
            self.worker.cancel_choosing()

    def quit(self) -> None:
        self.close()

    def toggle_boxes(self) -> None:
        self.canvas.layers.boxes = not self.canvas.layers.boxes
        self.canvas.set_layers(self.canvas.layers)

    def toggle_channels(self) -> None:
        self.canvas.layers.channels = not self.canvas.layers.channels
        self.canvas.set_layers(self.canvas.layers)

    def toggle_mask(self) -> None:
        self.canvas.layers.mask = not self.canvas.layers.mask
        self.worker.show_mask(self.canvas.layers.mask)
        self.canvas.set_layers(self.canvas.layers)

    def toggle_help(self) -> None:
        if self.help_box is None:
            self.help_box = QMessageBox(QMessageBox.Icon.NoIcon, "Keys", help_html(), QMessageBox.StandardButton.Close, self)
            self.help_box.setPalette(self.palette())
            self.help_box.setModal(False)
            for keys in ("H", "F1"):
                action = QAction(self.help_box)
                action.setShortcut(QKeySequence(keys))
                action.triggered.connect(self.help_box.hide)
                self.help_box.addAction(action)
        self.help_box.setVisible(not self.help_box.isVisible())

    # News from canvas and worker.

    def _poll(self) -> None:
        now_s = time.monotonic()
        # While a box is dragged the picture stands still, so that the box means the frame that the user sees.
        snapshot = None if self.canvas.is_dragging else self.worker.take()
        if snapshot is not None:
            if now_s - self._news_s > WAITING_AFTER_S:
                self._on_phase(self.worker.phase)
            self._news_s = now_s
            self._snapshot = snapshot
            self.canvas.show_frame(snapshot.frame.image_rgb, snapshot.result)
        elif self.worker.phase is Phase.RUNNING and now_s - self._news_s > WAITING_AFTER_S:
            self._say(f"waiting for the next frame of {self.worker.source.name} ...")
        if snapshot is not None and now_s >= self._info_due_s:
            self._info_due_s = now_s + INFO_PERIOD_S
            self._show_info()

    def _show_info(self) -> None:
        if self._snapshot is not None and self.worker.phase is Phase.ENDED and self.worker.reached_end:
            self._snapshot = replace(self._snapshot, last_index=self._snapshot.frame.index)  # what was expected came from the header
        self.status.show_info(words.info_text(self.worker.source, self._snapshot))
        result = self._snapshot.result if self._snapshot is not None else None
        if result is None:
            self.status.show_state("", paint.TEXT)
        else:
            self.status.show_state(result.state, paint.STATE_COLORS[result.state])

    def _on_box_chosen(self, box_xywh: BoxXYWH) -> None:
        if self._snapshot is not None:
            self._failure = ""
            self.worker.select(self._snapshot.frame, box_xywh)

    def _on_phase(self, phase: Phase) -> None:
        # A signal from the worker's thread may arrive after a later change from this one.
        phase = self.worker.phase
        self._news_s = time.monotonic()
        self.canvas.set_choosing(phase is Phase.CHOOSING)
        text = words.phase_text(phase, self.worker.source, self.worker.has_target)
        if self._failure and phase is Phase.CHOOSING:
            text = f"{self._failure}. To go on, {text}"
        elif self._failure and phase is Phase.ENDED:
            text = self._failure
        self._say(text, with_banner=phase is not Phase.RUNNING)
        self._poll()
        self._show_info()
        if phase is Phase.ENDED and self._close_at_end:
            self.close()

    def _on_failed(self, text: str, can_choose_again: bool) -> None:
        if text == self._failure and not can_choose_again:
            return  # A full disk fails at the write and again at the close.
        self._failure = text
        self._on_phase(self.worker.phase)
        if self._close_at_end:
            self.close()
        elif not can_choose_again:
            show_problem(text, self)

    def _say(self, text: str, with_banner: bool = True) -> None:
        self.status.message.set_full_text(text)
        self.canvas.set_banner(text if with_banner else "")

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 (Qt's name)
        self._timer.stop()
        self.worker.stop()
        if self.help_box is not None:
            self.help_box.close()
        super().closeEvent(event)
        self.closed.emit()


class StatusLines(QWidget):
    """Two lines: the message, and below it the state with the figures."""

    def __init__(self) -> None:
        super().__init__()
        self.message = ElidedLabel()
        self.info = ElidedLabel()
        self.state = QLabel()
        figures = QHBoxLayout()
        figures.setSpacing(8)
        figures.addWidget(self.state)
        figures.addWidget(self.info, 1)
        lines = QVBoxLayout(self)
        lines.setContentsMargins(6, 2, 6, 4)
        lines.setSpacing(2)
        lines.addWidget(self.message)
        lines.addLayout(figures)
        # Always the same, or the picture would change its size with the texts.
        self.setFixedHeight(2 * self.fontMetrics().height() + 12)

    def show_state(self, text: str, color: QColor) -> None:
        self.state.setVisible(bool(text))
        self.state.setText(text)
        self.state.setStyleSheet(f"color: #101010; background: {color.name()}; border-radius: 3px; padding: 0px 6px;")

    def show_info(self, text: str) -> None:
        self.info.set_full_text(text)


class ElidedLabel(QLabel):
    """One line that ends in dots where it does not fit; the whole text is in the tool tip."""

    def __init__(self) -> None:
        super().__init__()
        self.full_text = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setMinimumWidth(1)

    def set_full_text(self, text: str) -> None:
        if text != self.full_text:
            self.full_text = text
            self.setToolTip(text)
            self._elide()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        self.setText(self.fontMetrics().elidedText(self.full_text, Qt.TextElideMode.ElideRight, self.width()))


def show_problem(text: str, parent: QWidget | None) -> None:
    """A dialog that waits for nobody: the window can be closed while it is open."""
    dialog = QMessageBox(QMessageBox.Icon.Warning, "sftrack", text, QMessageBox.StandardButton.Ok, parent)
    if parent is not None:
        dialog.setPalette(parent.palette())
    dialog.setTextFormat(Qt.TextFormat.PlainText)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()


def _dark_palette() -> QPalette:
    """Dark surroundings, whatever the desktop's theme: a bright frame around a video spoils the eye."""
    palette = QPalette(QColor(45, 48, 54), QColor(36, 38, 43))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(role, paint.TEXT)
    palette.setColor(QPalette.ColorRole.Base, paint.BACKGROUND)
    return palette
