"""Playback pace and measured rate. All times are seconds of one monotonic clock, given by the caller."""

from collections import deque

MAX_CATCH_UP_S = 0.1
"""A frame that is later than this shifts the schedule; smaller delays are caught up."""


class Pace:
    """Keeps a file from being played faster than its frame rate. Without a rate, nothing is ever held back."""

    def __init__(self, frames_per_second: float | None) -> None:
        self._period_s = 1.0 / frames_per_second if frames_per_second is not None and frames_per_second > 0 else 0.0
        self._due_s = 0.0

    def restart(self, now_s: float) -> None:
        """A frame is shown now; the next one is due one period later."""
        self._due_s = now_s + self._period_s

    def remaining_s(self, now_s: float) -> float:
        """Seconds until the next frame is due; 0 or less when it is."""
        return self._due_s - now_s if self._period_s else 0.0

    def advance(self, now_s: float) -> None:
        """The due frame is taken now."""
        self._due_s = max(self._due_s, now_s - MAX_CATCH_UP_S) + self._period_s


class RateMeter:
    """Events per second over the last 30 events."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=30)

    def restart(self) -> None:
        self._times_s.clear()

    def count(self, now_s: float) -> None:
        self._times_s.append(now_s)

    @property
    def per_second(self) -> float | None:
        """None until there are two events."""
        if len(self._times_s) < 2 or self._times_s[-1] <= self._times_s[0]:
            return None
        return (len(self._times_s) - 1) / (self._times_s[-1] - self._times_s[0])
