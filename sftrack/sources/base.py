"""What all sources share: counting what could not be read, closing, and one size for all frames."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from typing import Self

import cv2
import numpy as np

from sftrack.contracts import Frame, FrameSource, ImageRGB

logger = logging.getLogger(__name__)

MAX_WARNINGS = 5
"""Damaged frames that are reported one by one; a long damaged stretch must not flood the terminal."""


class BaseSource(FrameSource):
    """Fills the contract's attributes; a source adds `__iter__` and, where it holds something, `close`."""

    def __init__(
        self,
        name: str,
        frame_size_wh: tuple[int, int],
        *,
        frames_per_second: float | None = None,
        frame_count: int | None = None,
        is_live: bool = False,
    ) -> None:
        self.name = name
        self.frame_size_wh = frame_size_wh
        self.frames_per_second = frames_per_second
        self.frame_count = frame_count
        self.is_live = is_live
        self.decode_failures = 0
        self._closed = False
        self._warnings = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """End the iteration and free what the source holds; safe to call twice and from any thread."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _count_failure(self, message: str, *, frames: int = 1) -> None:
        """Count frames that are left out, and say so a limited number of times."""
        self.decode_failures += frames
        self._warn(message)

    def _warn(self, message: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            logger.warning("%s: %s", self.name, message)
        if self._warnings == MAX_WARNINGS:
            logger.warning("%s: further messages about damaged frames are not shown", self.name)


def limited_count(total: int | None, start_frame: int, max_frames: int | None) -> int | None:
    """How many frames will be delivered, of `total` in the source (None: not known)."""
    left = None if total is None else max(total - start_frame, 0)
    if max_frames is None:
        return left
    return max_frames if left is None else min(left, max_frames)


def fit_to_size(image_rgb: ImageRGB, size_wh: tuple[int, int]) -> ImageRGB:
    """The image itself, or rescaled (proportions may change) where its size differs."""
    if image_rgb.shape[1::-1] == size_wh:
        return image_rgb
    shrinks = image_rgb.shape[1] > size_wh[0]
    resized = cv2.resize(image_rgb, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
