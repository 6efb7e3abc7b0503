"""Sources, trackers and sinks that do exactly what a test needs."""

import threading
import time
from collections.abc import Iterator
from typing import Self

import numpy as np

from sftrack.contracts import BoxXYWH, ChannelResult, Frame, ImageRGB, State, TrackResult

SIZE_WH = (160, 120)


def image_of(index: int, size_wh: tuple[int, int] = SIZE_WH) -> ImageRGB:
    """A picture that tells its frame number: `image[0, 0, 0] == index % 256`."""
    image = np.full((size_wh[1], size_wh[0], 3), 90, dtype=np.uint8)
    image[..., 0] = index % 256
    return image


class FakeSource:
    """`frame_count` frames, as fast as asked; then `error` is raised, or it blocks until `close` (for ever, if `ignores_close`)."""

    def __init__(
        self,
        frame_count: int = 1000,
        *,
        frames_per_second: float | None = None,
        is_live: bool = False,
        error: Exception | None = None,
        blocks_at_end: bool = False,
        ignores_close: bool = False,
        first_index: int = 0,
    ) -> None:
        self.name = "fake.mp4"
        self.frame_size_wh = SIZE_WH
        self.frames_per_second = frames_per_second
        self.frame_count: int | None = None if is_live else frame_count
        self.is_live = is_live
        self.decode_failures = 0
        self.closed = threading.Event()
        self.let_go = threading.Event()
        self.delivered = 0
        self._total = frame_count
        self._first_index = first_index
        self._error = error
        self._blocks_at_end = blocks_at_end
        self._ignores_close = ignores_close

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._first_index, self._first_index + self._total):
            if self.is_live:
                time.sleep(0.005)
            self.delivered += 1
            yield Frame(image_of(index), index, index / 25)
        if self._blocks_at_end:
            self.let_go.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()
        if not self._ignores_close:
            self.let_go.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class FakeTracker:
    """Moves the start box one pixel to the right per frame, in `seconds` each; raises `error` on the update with number `error_at`."""

    def __init__(self, *, seconds: float = 0.002, error: Exception | None = None, error_at: int = 0, state: State = "tracking") -> None:
        self.boxes_given: list[BoxXYWH] = []
        self.init_frames: list[int] = []
        self.updates = 0
        self.masks_wanted: list[bool] = []
        self.state: State = state
        self._seconds = seconds
        self._error = error
        self._error_at = error_at

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, *, with_mask: bool = False) -> TrackResult:
        self.boxes_given.append(box_xywh)
        self.init_frames.append(int(image_rgb[0, 0, 0]))
        if self._error is not None and self._error_at == 0:
            raise self._error
        self._box = np.array(box_xywh, dtype=np.float64)
        return self._result(image_rgb, with_mask)

    def update(self, image_rgb: ImageRGB, *, with_mask: bool = False) -> TrackResult:
        time.sleep(self._seconds)
        self.updates += 1
        if self._error is not None and self.updates == self._error_at:
            raise self._error
        self._box = self._box + np.array([1.0, 0.0, 0.0, 0.0])
        return self._result(image_rgb, with_mask)

    def _result(self, image_rgb: ImageRGB, with_mask: bool) -> TrackResult:
        self.masks_wanted.append(with_mask)
        mask = np.ones(image_rgb.shape[:2], dtype=np.float32) if with_mask else None
        channels = (
            ChannelResult("kcf", self._box + 2.0, 0.7, 0.5),
            ChannelResult("csrt", None, 0.0, 0.0, failures=3, error="it broke"),
        )
        return TrackResult(self._box, 0.8, self.state, mask, channels, {"total": self._seconds})


class FakeSink:
    """Keeps what it is given; raises `error` at the write with number `error_at`; takes `close_s` seconds to close."""

    def __init__(
        self, *, error: Exception | None = None, error_at: int = 1, close_error: Exception | None = None, close_s: float = 0.0
    ) -> None:
        self.frames: list[int] = []
        self.threads: set[str] = set()
        self.closes = 0
        self._error = error
        self._error_at = error_at
        self._close_error = close_error
        self._close_s = close_s

    def write(self, frame: Frame, result: TrackResult) -> None:
        self.threads.add(str(threading.get_ident()))
        if self._error is not None and len(self.frames) + 1 == self._error_at:
            raise self._error
        self.frames.append(frame.index)

    def close(self) -> None:
        time.sleep(self._close_s)
        self.closes += 1
        if self._close_error is not None:
            raise self._close_error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
