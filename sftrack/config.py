"""Every setting of the tracker with its unit and default, in one place; a TOML file may override any of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ChannelConfig:
    """One channel: the name shown to the user, the registered tracker, and the tracker's parameters."""

    name: str
    tracker: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of the stages after the channels."""

    window: int = 5
    """Frames in the spectral window, the current one included."""


@dataclass(frozen=True)
class Config:
    """What `--config FILE.toml` may hold. `channels` replaces the preset's channels when it is not empty."""

    preset: str = "auto"
    device: str = "auto"
    channels: tuple[ChannelConfig, ...] = ()
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
