"""Draws a result on its frame: the mask, the channels' thin boxes, the fused box, and a status line."""

from collections.abc import Sequence

import cv2
import numpy as np

from sftrack.contracts import BoxXYWH, ChannelResult, ImageRGB, SoftMask, State, TrackResult

RGB = tuple[int, int, int]

STATE_RGB: dict[State, RGB] = {"tracking": (61, 220, 132), "uncertain": (255, 193, 7), "lost": (255, 90, 80)}
CHANNEL_RGB: tuple[RGB, ...] = (
    (79, 195, 247),
    (244, 143, 177),
    (179, 136, 255),
    (232, 232, 232),
    (215, 167, 127),
    (128, 203, 196),
    (255, 128, 255),
    (140, 158, 255),
)
"""One per channel in the preset's order, from the start again where there are more. None is green, amber or red: those tell the state."""
MASK_RGB: RGB = (61, 160, 255)
"""Not the state's colour, because a green tint is not seen on grass."""

WHITE: RGB = (255, 255, 255)
GREY: RGB = (150, 150, 150)
BLACK: RGB = (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX
MASK_THRESHOLD = 0.5
MASK_OPACITY = 0.4
PANEL_DIMMING = 0.4
MAX_PANEL_SHARE = 0.2
"""Share of the frame above which the status line or the legend is left out: of a small frame, text would hide what it tells of."""
REFERENCE_HEIGHT_PX = 480
"""The height at which lines are 2 and letters 11 pixels high; everything grows with the frame."""


def draw_result(
    image_rgb: ImageRGB,
    result: TrackResult,
    *,
    frame_index: int | None = None,
    frames_per_second: float | None = None,
    show_box: bool = True,
    show_mask: bool = True,
    show_channels: bool = True,
    show_status: bool = True,
) -> ImageRGB:
    """A copy of the frame with the result drawn on it.

    Args:
        image_rgb: `(H, W, 3) uint8`, not changed.
        result: what to draw; its boxes are in pixels of `image_rgb`.
        frame_index: shown in the status line where given.
        frames_per_second: the speed of tracking, shown in the status line where given.
        show_box: draw the fused box, in the colour of the state, dashed while the target is lost.
        show_mask: tint the segmentation where the result has one, with its outline.
        show_channels: draw each channel's box and the legend of their names.
        show_status: draw the line with frame, state, score and speed.
    """
    canvas = image_rgb.copy()
    scale = max(0.6, min(canvas.shape[:2]) / REFERENCE_HEIGHT_PX)
    colour = STATE_RGB[result.state]
    if show_mask and result.mask is not None:
        _draw_mask(canvas, result.mask, scale)
    if show_channels:
        thin = max(1, round(scale * 1.2))
        for number, channel in enumerate(result.channels):
            if channel.box_xywh is not None:
                _draw_box(canvas, channel.box_xywh, _channel_rgb(number), thin)
    if show_box:
        _draw_box(canvas, result.box_xywh, BLACK, round(2 * scale) + 2)
        _draw_box(canvas, result.box_xywh, colour, max(2, round(2 * scale)), dash_px=round(9 * scale) if result.state == "lost" else 0)
    if show_channels and result.channels:
        _draw_legend(canvas, result.channels, scale)
    if show_status:
        _draw_status(canvas, result, frame_index, frames_per_second, scale)
    return canvas


def _draw_mask(canvas: ImageRGB, mask: SoftMask, scale: float) -> None:
    inside = (mask > MASK_THRESHOLD).view(np.uint8)
    left, top, width, height = cv2.boundingRect(inside)
    if not width:
        return
    part = canvas[top : top + height, left : left + width]
    inside = inside[top : top + height, left : left + width]
    tinted = cv2.addWeighted(part, 1 - MASK_OPACITY, np.full_like(part, MASK_RGB), MASK_OPACITY, 0.0)
    cv2.copyTo(tinted, inside, part)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(part, contours, -1, MASK_RGB, max(1, round(scale)), cv2.LINE_AA)


def _draw_box(canvas: ImageRGB, box_xywh: BoxXYWH, colour: RGB, thickness: int, *, dash_px: int = 0) -> None:
    height, width = canvas.shape[:2]
    # lines run through pixel centres, and a box reaches from the edge of its first pixel to the edge of its last
    x0, y0, x1, y1 = (*box_xywh[:2], *(box_xywh[:2] + box_xywh[2:] - 1))
    # far outside, numbers would not fit into OpenCV's integers
    left, right = (round(float(np.clip(value, -width, 2 * width))) for value in (x0, x1))
    top, bottom = (round(float(np.clip(value, -height, 2 * height))) for value in (y0, y1))
    if not dash_px:
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness)
        return
    for x in range(left, right, 2 * dash_px):
        for y in (top, bottom):
            cv2.line(canvas, (x, y), (min(x + dash_px, right), y), colour, thickness)
    for y in range(top, bottom, 2 * dash_px):
        for x in (left, right):
            cv2.line(canvas, (x, y), (x, min(y + dash_px, bottom)), colour, thickness)


def _draw_status(canvas: ImageRGB, result: TrackResult, frame_index: int | None, speed: float | None, scale: float) -> None:
    """`frame 12  [score bar] 0.87  tracking  41 fps` in the upper left corner."""
    pad, line = round(7 * scale), round(20 * scale)
    bar_width, bar_height = round(80 * scale), round(9 * scale)
    before = "" if frame_index is None else f"frame {frame_index}"
    after = f"{result.score:.2f}  {result.state}" + ("" if speed is None else f"  {speed:.0f} fps")
    bar_x = pad + (_text_width(before, scale) + pad if before else 0)
    after_x = bar_x + bar_width + pad
    if not _dim(canvas, 0, 0, after_x + _text_width(after, scale) + pad, line + pad):
        return
    baseline = round(pad / 2 + 0.77 * line)
    _text(canvas, before, pad, baseline, WHITE, scale)
    top = round((line + pad - bar_height) / 2)
    share = float(np.clip(result.score, 0.0, 1.0)) if np.isfinite(result.score) else 0.0
    cv2.rectangle(canvas, (bar_x, top), (bar_x + bar_width, top + bar_height), GREY, 1)
    if share:
        cv2.rectangle(canvas, (bar_x, top), (bar_x + round(share * bar_width), top + bar_height), STATE_RGB[result.state], -1)
    _text(canvas, after, after_x, baseline, STATE_RGB[result.state], scale)


def _draw_legend(canvas: ImageRGB, channels: Sequence[ChannelResult], scale: float) -> None:
    """Names in the colours of their boxes in the lower left corner; a channel that failed on this frame is grey and struck out."""
    pad, line = round(7 * scale), round(16 * scale)
    small = scale * 0.85
    swatch = round(12 * scale)
    width = max(_text_width(channel.name, small) for channel in channels) + swatch + 3 * pad
    top = canvas.shape[0] - len(channels) * line - pad
    if not _dim(canvas, 0, top, width, canvas.shape[0]):
        return
    for number, channel in enumerate(channels):
        baseline = top + round(pad / 2 + (number + 0.77) * line)
        middle = baseline - round(4 * scale)
        has_failed = channel.error is not None
        colour = GREY if has_failed else _channel_rgb(number)
        text_x = pad + swatch + pad
        cv2.line(canvas, (pad, middle), (pad + swatch, middle), colour, max(1, round(2 * scale)))
        _text(canvas, channel.name, text_x, baseline, colour, small)
        if has_failed:
            cv2.line(canvas, (text_x, middle), (text_x + _text_width(channel.name, small), middle), colour, max(1, round(scale)))


def _channel_rgb(number: int) -> RGB:
    return CHANNEL_RGB[number % len(CHANNEL_RGB)]


def _dim(canvas: ImageRGB, left: int, top: int, right: int, bottom: int) -> bool:
    """Darken a panel for text; False, and nothing done, where it would take too much of the frame."""
    part = canvas[max(top, 0) : bottom, left:right]
    if part.size > MAX_PANEL_SHARE * canvas.size:
        return False
    cv2.convertScaleAbs(part, dst=part, alpha=PANEL_DIMMING)
    return True


def _text_width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, FONT, 0.5 * scale, max(1, round(scale)))[0][0])


def _text(canvas: ImageRGB, text: str, x: int, baseline: int, colour: RGB, scale: float) -> None:
    cv2.putText(canvas, text, (x, baseline), FONT, 0.5 * scale, colour, max(1, round(scale)), cv2.LINE_AA)
