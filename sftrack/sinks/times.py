"""`times.txt`: seconds of computing per frame."""

from sftrack.contracts import Frame, TrackResult
from sftrack.sinks.base import LineSink


class TimesSink(LineSink):
    """Lines with `timings_s["total"]` in seconds, 6 decimals; the first is the initialisation."""

    def line(self, frame: Frame, result: TrackResult) -> str:
        return f"{result.timings_s.get('total', 0.0):.6f}"
