"""The picture: letterboxed, with boxes and mask over it, and the mouse that chooses the target."""

from dataclasses import dataclass

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt5.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent
from PyQt5.QtWidgets import QSizePolicy, QWidget

from sftrack.contracts import BoxXYWH, ImageRGB, TrackResult

from . import paint
from .geometry import Letterbox, why_too_small


@dataclass
class Layers:
    """What is drawn over the picture."""

    boxes: bool = True
    channels: bool = True
    mask: bool = True


class Canvas(QWidget):
    """Shows one frame and its result.

    Signals:
        box_chosen (BoxXYWH): a box was dragged, in pixels of the frame, inside it.
        box_refused (str): a box was dragged that is too small; why, in words.
    """

    box_chosen = pyqtSignal(object)
    box_refused = pyqtSignal(str)

    def __init__(self, frame_size_wh: tuple[int, int], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layers = Layers()
        self.result: TrackResult | None = None
        self._frame_size_wh = frame_size_wh
        self._image_rgb: ImageRGB | None = None
        self._qimage: QImage | None = None
        self._mask: QImage | None = None
        self.banner = ""
        self._is_choosing = False
        self._drag_from: tuple[float, float] | None = None
        self._drag_to = (0.0, 0.0)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)

    @property
    def letterbox(self) -> Letterbox:
        return Letterbox(self._frame_size_wh, (self.width(), self.height()))

    @property
    def is_dragging(self) -> bool:
        return self._drag_from is not None

    @property
    def has_picture(self) -> bool:
        return self._qimage is not None

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        width, height = self._frame_size_wh
        scale = max(1.0, 640.0 / width)
        return QSize(round(width * scale), round(height * scale))

    def show_frame(self, image_rgb: ImageRGB, result: TrackResult | None) -> None:
        """Replace the picture; the array is kept, not copied."""
        self._image_rgb = np.ascontiguousarray(image_rgb)
        self._frame_size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        self._qimage = paint.to_qimage(self._image_rgb)
        self.result = result
        self._mask = paint.mask_to_qimage(result.mask) if result is not None and result.mask is not None and self.layers.mask else None
        self.update()

    def set_layers(self, layers: Layers) -> None:
        self.layers = layers
        if self._image_rgb is not None:
            self.show_frame(self._image_rgb, self.result)

    def set_banner(self, text: str) -> None:
        """The message over the picture; empty for none."""
        if text != self.banner:
            self.banner = text
            self.update()

    def set_choosing(self, is_choosing: bool) -> None:
        """Whether the mouse drags boxes."""
        self._is_choosing = is_choosing
        if is_choosing:
            self.setCursor(Qt.CursorShape.CrossCursor)
        else:
            self.unsetCursor()
            self.cancel_drag()

    def cancel_drag(self) -> bool:
        """Forget the box being dragged; False if there is none."""
        was_dragging, self._drag_from = self.is_dragging, None
        self.update()
        return was_dragging

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        if event is None or event.button() != Qt.MouseButton.LeftButton or not self._is_choosing or not self.has_picture:
            return
        self._drag_from = self._drag_to = _point(event)
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        if event is not None and self.is_dragging:
            self._drag_to = _point(event)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        if event is None or event.button() != Qt.MouseButton.LeftButton or self._drag_from is None:
            return
        box = self.letterbox.drag_to_box(self._drag_from, _point(event))
        self._drag_from = None
        self.update()
        reason = why_too_small(box)
        if reason is None:
            self.box_chosen.emit(box)
        else:
            self.box_refused.emit(reason)

    def dragged_box(self) -> BoxXYWH | None:
        """The box being dragged, in pixels of the frame, clipped to it."""
        return None if self._drag_from is None else self.letterbox.drag_to_box(self._drag_from, self._drag_to)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        painter = QPainter(self)
        try:
            self._paint(painter, QRectF(self.rect()))
        finally:
            painter.end()  # Qt crashes on a painter that an exception has left open.

    def _paint(self, painter: QPainter, area: QRectF) -> None:
        painter.fillRect(area, paint.BACKGROUND)
        if self._qimage is not None:
            self._paint_picture(painter, self._qimage)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.result is not None and not self.is_dragging:
            self._paint_result(painter, self.result)
        box = self.dragged_box()
        if box is not None:
            paint.draw_drag(painter, self._rect(box), f"{box[2]:.0f} x {box[3]:.0f} px", area)
        elif self.banner:
            paint.draw_banner(painter, self.banner, area)

    def _paint_picture(self, painter: QPainter, picture: QImage) -> None:
        width, height = self._frame_size_wh
        target = self._rect(np.array([0.0, 0.0, width, height]))
        # Smoothing is for pictures made smaller; enlarged ones keep sharp pixels only where these are big enough to be seen as such.
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, self.letterbox.scale < 4.0)
        painter.drawImage(target, picture)
        if self._mask is not None and self.layers.mask:
            painter.drawImage(target, self._mask)

    def _paint_result(self, painter: QPainter, result: TrackResult) -> None:
        if self.layers.channels:
            for index, channel in enumerate(result.channels):
                if channel.box_xywh is not None and np.isfinite(channel.box_xywh).all():
                    paint.draw_channel_box(painter, self._rect(channel.box_xywh), index)
            if result.channels:
                paint.draw_legend(painter, result.channels, QRectF(self.rect()))
        if self.layers.boxes:
            paint.draw_state_box(painter, self._rect(result.box_xywh), result.state)

    def _rect(self, box_xywh: BoxXYWH) -> QRectF:
        return QRectF(*self.letterbox.box_to_widget(box_xywh))


def _point(event: QMouseEvent) -> tuple[float, float]:
    point: QPointF = event.localPos()
    return point.x(), point.y()
