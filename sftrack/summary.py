"""What a run did, counted frame by frame and told in one line."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from sftrack.contracts import Frame, TrackResult


@dataclass
class Summary:
    """Counts what is written to it: a `ResultSink` that keeps only numbers, its size growing by one float per frame.

    Attributes:
        frames: frames with a result, the first included.
        latencies_s: what the tracker took for each frame after the first (which only starts the channels).
        states: how many frames were `tracking`, `uncertain`, `lost`.
        channel_failures: for each channel that failed, on how many frames so far.
        decode_failures: frames that the source could not decode.
        elapsed_s: wall time of the run with reading and writing; None where the user could pause it.
        interrupted: the user ended it with Ctrl+C or SIGTERM.
        failure: what ended it early; the results up to there exist.
    """

    frames: int = 0
    latencies_s: list[float] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    channel_failures: dict[str, int] = field(default_factory=dict)
    decode_failures: int = 0
    elapsed_s: float | None = None
    interrupted: bool = False
    failure: Exception | None = None

    def write(self, frame: Frame, result: TrackResult) -> None:
        if self.frames:
            self.latencies_s.append(result.timings_s.get("total", 0.0))
        self.frames += 1
        self.states[result.state] += 1
        self.channel_failures = {channel.name: channel.failures for channel in result.channels if channel.failures}

    def close(self) -> None:
        """Nothing to free; a sink has one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def p95_latency_s(self) -> float:
        return float(np.percentile(self.latencies_s, 95)) if self.latencies_s else 0.0

    def line(self, source_name: str, out_dir: Path, codec_name: str | None = None) -> str:
        """The run in one line: frames, speed, what went wrong on the way, and where the files are."""
        parts = [
            f"{self.frames} frame{'' if self.frames == 1 else 's'} of {source_name}",
            self._speed(),
            f"p95 latency {self.p95_latency_s * 1e3:.1f} ms" if self.latencies_s else "p95 latency -",
            f"uncertain in {self.states['uncertain']}, lost in {self.states['lost']}",
            f"{self.decode_failures} not decoded",
            "channel failures: " + (", ".join(f"{name} {count}" for name, count in self.channel_failures.items()) or "none"),
        ]
        if codec_name:
            parts.append(f"video codec {codec_name}")
        return "; ".join([*parts, f"files in {out_dir}/" if self.frames else "no files"])

    def _speed(self) -> str:
        tracking_s = sum(self.latencies_s)
        tracking = f"{len(self.latencies_s) / tracking_s:.1f}" if tracking_s > 0 else "-"
        if not self.elapsed_s:
            return f"mean {tracking} frames/s (tracking alone)"
        return f"mean {self.frames / self.elapsed_s:.1f} frames/s with reading and writing, {tracking} tracking alone"
