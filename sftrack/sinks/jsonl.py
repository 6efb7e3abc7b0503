"""`track.jsonl`: everything known about each frame except the mask, one JSON object per line."""

import json
import math
from collections.abc import Iterable

from sftrack.contracts import ChannelResult, Frame, TrackResult
from sftrack.sinks.base import LineSink


class JsonLinesSink(LineSink):
    """Standard JSON: a number that is not finite becomes null."""

    def line(self, frame: Frame, result: TrackResult) -> str:
        entry = {
            "frame": frame.index,
            "time_s": _number(frame.time_s, 6),
            "box_xywh": _numbers(result.box_xywh),
            "score": _number(result.score, 4),
            "state": result.state,
            "channels": [_channel(channel) for channel in result.channels],
            "timings_s": {stage: _number(seconds, 6) for stage, seconds in result.timings_s.items()},
        }
        return json.dumps(entry, allow_nan=False)


def _channel(channel: ChannelResult) -> dict[str, object]:
    return {
        "name": channel.name,
        "box_xywh": None if channel.box_xywh is None else _numbers(channel.box_xywh),
        "score": _number(channel.score, 4),
        "weight": _number(channel.weight, 4),
        "failures": channel.failures,
        "restarts": channel.restarts,
        "error": channel.error,
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value, 3) for value in values]


def _number(value: float, decimals: int) -> float | None:
    return round(float(value), decimals) if math.isfinite(value) else None
