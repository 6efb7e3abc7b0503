"""Follow one object through a video, live: several trackers fused through segmentation and a spectral space-time filter.

    from sftrack import SFTracker, open_source

    with open_source(video="clip.mp4") as source, SFTracker.from_preset("light") as tracker:
        for frame in source:
            result = tracker.update(frame.image_rgb) if tracker.started else tracker.init(frame.image_rgb, box_xywh)
            print(frame.index, result.box_xywh, result.score, result.state)

Boxes are `x, y, w, h` in pixels, 0-based; images are `(H, W, 3) uint8` in RGB order. See `sftrack.contracts`.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

# In a source checkout gui/, trackers/ and weights/ lie beside this folder; in a wheel they lie inside it.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "gui" / "__init__.py").is_file():
    __path__.append(str(_checkout))

if TYPE_CHECKING:
    from sftrack.config import ChannelConfig, Config, PipelineConfig, load_config
    from sftrack.contracts import ChannelResult, Estimate, Frame, FrameSource, RegionMask, ResultSink, Tracker, TrackResult
    from sftrack.errors import SFTrackError
    from sftrack.overlay import draw_result
    from sftrack.pipeline import SFTracker
    from sftrack.sinks import open_sinks
    from sftrack.sources import open_source

_HOMES = {
    "ChannelConfig": "config",
    "ChannelResult": "contracts",
    "Config": "config",
    "Estimate": "contracts",
    "Frame": "contracts",
    "FrameSource": "contracts",
    "PipelineConfig": "config",
    "RegionMask": "contracts",
    "ResultSink": "contracts",
    "SFTrackError": "errors",
    "SFTracker": "pipeline",
    "TrackResult": "contracts",
    "Tracker": "contracts",
    "draw_result": "overlay",
    "load_config": "config",
    "open_sinks": "sinks",
    "open_source": "sources",
}

__all__ = [
    "ChannelConfig",
    "ChannelResult",
    "Config",
    "Estimate",
    "Frame",
    "FrameSource",
    "PipelineConfig",
    "RegionMask",
    "ResultSink",
    "SFTrackError",
    "SFTracker",
    "TrackResult",
    "Tracker",
    "draw_result",
    "load_config",
    "open_sinks",
    "open_source",
]


def __getattr__(name: str) -> object:
    """Import public names when they are first used: `sftrack --help` must not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sftrack' has no attribute '{name}'")
    return getattr(importlib.import_module(f"sftrack.{_HOMES[name]}"), name)
