"""A user's hand: raw mouse and key events to the real window, in points of the frame."""

from PyQt5.QtCore import QEvent, QPointF, Qt
from PyQt5.QtGui import QMouseEvent
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from sftrack.gui.canvas import Canvas
from sftrack.gui.window import ViewerWindow

Point = tuple[float, float]


def drag(canvas: Canvas, start: Point, end: Point) -> None:
    """Press, move in three steps, release; points are in pixels of the frame."""
    press(canvas, start)
    move(canvas, start, end)
    release(canvas, end)


def press(canvas: Canvas, point: Point) -> None:
    _send(canvas, QEvent.Type.MouseButtonPress, point, Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton)


def move(canvas: Canvas, start: Point, end: Point) -> None:
    for share in (0.3, 0.7, 1.0):
        point = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
        _send(canvas, QEvent.Type.MouseMove, point, Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton)


def release(canvas: Canvas, point: Point) -> None:
    _send(canvas, QEvent.Type.MouseButtonRelease, point, Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton)


def key(
    window: ViewerWindow, key_code: int, modifiers: Qt.KeyboardModifiers | Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    """To the widget that has the focus, as the window system does, so that the window's shortcuts are looked up."""
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window, 2000)
    QTest.keyClick(window.windowHandle(), key_code, modifiers)


def _send(canvas: Canvas, kind: QEvent.Type, point: Point, button: Qt.MouseButton, buttons: Qt.MouseButton) -> None:
    place = QPointF(*canvas.letterbox.to_widget(*point))
    event = QMouseEvent(kind, place, QPointF(canvas.mapToGlobal(place.toPoint())), button, buttons, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)
