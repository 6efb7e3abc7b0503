"""How boxes, masks and texts look. Colours keep their contrast on any picture by a dark line or plate below them."""

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen, qRgba
from PyQt5.sip import voidptr

from sftrack.contracts import ChannelResult, ImageRGB, SoftMask, State
from sftrack.overlay import CHANNEL_RGB, MASK_RGB, STATE_RGB

BACKGROUND = QColor(24, 26, 30)
TEXT = QColor(240, 240, 240)
PLATE = QColor(0, 0, 0, 185)
DRAG = QColor(255, 255, 255)
STATE_COLORS: dict[State, QColor] = {state: QColor(*rgb) for state, rgb in STATE_RGB.items()}
CHANNEL_COLORS = tuple(QColor(*rgb) for rgb in CHANNEL_RGB)
MASK_ALPHA = 120
_MASK_COLORS = [qRgba(*MASK_RGB, level * MASK_ALPHA // 255) for level in range(256)]


def to_qimage(image_rgb: ImageRGB) -> QImage:
    """A view of the pixels without a copy; keep the array alive as long as the image."""
    height, width = image_rgb.shape[:2]
    return QImage(voidptr(image_rgb.ctypes.data), width, height, 3 * width, QImage.Format.Format_RGB888)


def mask_to_qimage(mask: SoftMask) -> QImage:
    """The mask `(H, W)` in [0, 1] as a translucent tint."""
    levels = np.clip(mask * 255.0, 0.0, 255.0).astype(np.uint8)
    height, width = levels.shape
    image = QImage(voidptr(levels.ctypes.data), width, height, width, QImage.Format.Format_Indexed8)
    image.setColorTable(_MASK_COLORS)
    return image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)  # a copy, so that the levels can go


def draw_state_box(painter: QPainter, rect: QRectF, state: State) -> None:
    """The fused box: dashed while the target is lost."""
    painter.setPen(QPen(QColor(0, 0, 0, 150), 5.0, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, Qt.PenJoinStyle.MiterJoin))
    painter.drawRect(rect)
    style = Qt.PenStyle.DashLine if state == "lost" else Qt.PenStyle.SolidLine
    painter.setPen(QPen(STATE_COLORS[state], 2.5, style, Qt.PenCapStyle.FlatCap, Qt.PenJoinStyle.MiterJoin))
    painter.drawRect(rect)


def draw_channel_box(painter: QPainter, rect: QRectF, index: int) -> None:
    """A single tracker's box, thin."""
    painter.setPen(QPen(QColor(0, 0, 0, 120), 3.0, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, Qt.PenJoinStyle.MiterJoin))
    painter.drawRect(rect)
    painter.setPen(QPen(channel_color(index), 1.2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, Qt.PenJoinStyle.MiterJoin))
    painter.drawRect(rect)


def channel_color(index: int) -> QColor:
    return CHANNEL_COLORS[index % len(CHANNEL_COLORS)]


def draw_legend(painter: QPainter, channels: tuple[ChannelResult, ...], area: QRectF) -> None:
    """The channels' names in their colours, at the bottom left; a channel that failed on this frame is said to."""
    metrics = QFontMetricsF(painter.font())
    names = [f"{channel.name} failed" if channel.error is not None else channel.name for channel in channels]
    width = max(metrics.horizontalAdvance(name) for name in names) + 20.0
    plate = QRectF(
        area.left() + 8.0, area.bottom() - 8.0 - metrics.height() * len(names) - 10.0, width, metrics.height() * len(names) + 10.0
    )
    _draw_plate(painter, plate)
    for index, name in enumerate(names):
        painter.setPen(channel_color(index))
        painter.drawText(QPointF(plate.left() + 10.0, plate.top() + 5.0 + metrics.height() * index + metrics.ascent()), name)


def draw_drag(painter: QPainter, rect: QRectF, label: str, area: QRectF) -> None:
    """The box being dragged, with its size written beside it, inside the area."""
    painter.setPen(QPen(QColor(0, 0, 0, 170), 4.0))
    painter.drawRect(rect)
    painter.setPen(QPen(DRAG, 1.6))
    painter.drawRect(rect)
    metrics = QFontMetricsF(painter.font())
    plate = QRectF(0.0, 0.0, metrics.horizontalAdvance(label) + 14.0, metrics.height() + 6.0)
    plate.moveTopLeft(QPointF(rect.left(), rect.bottom() + 6.0))
    if plate.bottom() > area.bottom():
        plate.moveBottom(max(rect.top() - 6.0, area.top() + plate.height()))
    plate.moveLeft(min(max(plate.left(), area.left()), max(area.right() - plate.width(), area.left())))
    _draw_plate(painter, plate)
    painter.setPen(TEXT)
    painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, label)


def draw_banner(painter: QPainter, text: str, area: QRectF) -> None:
    """One message at the top of the area, in as many lines as it needs."""
    font = QFont(painter.font())
    font.setPointSizeF(font.pointSizeF() * 1.15)
    painter.save()
    painter.setFont(font)
    flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
    inner = area.adjusted(24.0, 16.0, -24.0, -16.0)
    needed = painter.boundingRect(inner, flags, text)
    plate = QRectF(0.0, area.top() + 10.0, needed.width() + 28.0, needed.height() + 14.0)
    plate.moveLeft(area.center().x() - plate.width() / 2.0)
    _draw_plate(painter, plate)
    painter.setPen(TEXT)
    painter.drawText(plate, flags, text)
    painter.restore()


def _draw_plate(painter: QPainter, rect: QRectF) -> None:
    painter.save()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(PLATE)
    painter.drawRoundedRect(rect, 4.0, 4.0)
    painter.restore()
