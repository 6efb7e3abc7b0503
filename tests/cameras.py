"""A camera that a test can unplug."""

import time
from collections.abc import Callable
from typing import Any

from sftrack.sources import CameraSource
from tests.clips import COUNT, SIZE_WH, picture


class FakeCapture:
    """A camera that gives `picture(start)`, ... and then does as `ending` says."""

    def __init__(
        self,
        count: int = COUNT,
        *,
        start: int = 0,
        size_wh: tuple[int, int] = SIZE_WH,
        ending: Callable[[], tuple[bool, Any]] = lambda: (False, None),
        is_open: bool = True,
        pause_s: float = 0.01,
    ) -> None:
        self._next, self._end, self._size_wh, self._pause_s = start, start + count, size_wh, pause_s
        self._ending, self._is_open = ending, is_open
        self.is_released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._is_open

    def get(self, prop_id: int, /) -> float:
        return 25.0

    def read(self) -> tuple[bool, Any]:
        time.sleep(self._pause_s)
        if self._next >= self._end:
            return self._ending()
        self._next += 1
        return True, picture(self._next - 1, self._size_wh)[..., ::-1].copy()

    def release(self) -> None:
        self.is_released = True


def camera(*captures: FakeCapture, **options: object) -> tuple[CameraSource, list[float]]:
    """A source over these captures, one per connection, then over dead ones; and the list of waits it asked for."""
    waits: list[float] = []
    remaining = list(captures)
    source = CameraSource(
        0, open_capture=lambda _address: remaining.pop(0) if remaining else FakeCapture(is_open=False), wait=waits.append, **options
    )
    return source, waits
