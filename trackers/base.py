"""What all trackers of this package do alike: check what comes in, guard the order of calls, keep the box finite and in the frame."""

import math
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import ClassVar

import numpy as np

from sftrack.boxes import checked_box, checked_image, keep_in_frame, keep_visible
from sftrack.contracts import BoxXYWH, Estimate, ImageRGB, RegionMask, is_number
from sftrack.errors import ConfigError, NotInitialisedError, nearest_hint


def check_numbers(**settings: tuple[float, float, float]) -> None:
    """Accept settings, by name: the value given, the lowest and the highest that is allowed; none may be infinite.

    Raises:
        ConfigError: no number, or one out of its range.
    """
    for name, (value, low, high) in settings.items():
        if not (is_number(value) and low <= value <= high and math.isfinite(value)):
            limit = f" to {high:g}" if math.isfinite(high) else ""
            raise ConfigError(f"expected {name} as a number from {low:g}{limit}, got {value!r}")


def check_counts(**settings: tuple[int, int]) -> None:
    """Accept settings, by name: the value given and the lowest that is allowed.

    Raises:
        ConfigError: no whole number, or a lower one.
    """
    for name, (value, low) in settings.items():
        if not (isinstance(value, Integral) and is_number(value) and value >= low):
            raise ConfigError(f"expected {name} as a whole number from {low}, got {value!r}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Accept one of the known names.

    Raises:
        ConfigError: anything else; the message has the nearest.
    """
    known = tuple(known)
    if value not in known:
        raise ConfigError(f"expected {name} out of {', '.join(known)}, got {value!r}{nearest_hint(str(value), known)}")


def check_paths(**settings: str | Path | None) -> None:
    """Accept settings, by name, that are paths or None.

    Raises:
        ConfigError: neither.
    """
    for name, value in settings.items():
        if not isinstance(value, str | Path | None):
            raise ConfigError(f"expected {name} as a path, got {value!r}")


class BoxTracker:
    """Base of the built-in trackers. Subclasses write `_start` and `_step`; `self._box` is the last box that was handed out.

    One that segments leaves in `self._mask` what it saw on the frame, or None.
    """

    _size_wh: tuple[int, int] | None = None
    _box: BoxXYWH
    _mask: RegionMask | None = None
    _as_published: ClassVar[bool] = False
    """Whether boxes may reach beyond the frame, as in the published procedures, which bound what they search for by rules of their own.
    Without, what is given is cut to the frame, and no box that is handed out is larger than it. With, a start box is only cut along an axis
    on which it is larger than the frame."""

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Start on a frame, or start again: nothing of an earlier target is kept.

        Raises:
            FrameError: not an `(H, W, 3) uint8` image.
            BoxError: a box that cannot be tracked (see `sftrack.boxes.checked_box`).
        """
        checked_image(image_rgb)
        size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        clipped = checked_box(box_xywh, size_wh)
        given = np.array(box_xywh, dtype=np.float64)
        # Wider or higher than the frame, it says no more there than the part in the frame does, and its crop would be as large.
        self._box = np.where(np.tile(given[2:] > size_wh, 2), clipped, given) if self._as_published else clipped
        self._size_wh = size_wh
        self._start(image_rgb, self._box.copy())

    def update(self, image_rgb: ImageRGB) -> Estimate:
        """The target on the next frame; where it is lost, the last box with score 0.

        Raises:
            NotInitialisedError: `init` was not called.
            FrameError: an image of another size than the first one.
        """
        if self._size_wh is None:
            raise NotInitialisedError("call init(image_rgb, box_xywh) before update(image_rgb)")
        checked_image(image_rgb, self._size_wh)
        box, score = self._step(image_rgb)
        if box is None or not np.isfinite(box).all() or not np.isfinite(score):
            return Estimate(self._box.copy(), 0.0)
        bounded = keep_visible if self._as_published else keep_in_frame
        self._box = bounded(np.asarray(box, dtype=np.float64), self._size_wh)
        return Estimate(self._box.copy(), float(np.clip(score, 0.0, 1.0)), self._mask)

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        raise NotImplementedError

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        """The new box (None where the target was not found) and its score."""
        raise NotImplementedError
