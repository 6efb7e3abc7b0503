"""Which channels run together under one name."""

import difflib
from collections.abc import Sequence

from sftrack.config import ChannelConfig
from sftrack.contracts import Tracker
from sftrack.errors import ConfigError

LIGHT: tuple[ChannelConfig, ...] = (
    ChannelConfig("csrt", "csrt", {"target_px": 40.0, "template_size": 130, "scales": 7, "admm_iterations": 2}),
    ChannelConfig("dcf", "dcf", {"window_px": 160.0, "padding": 2.0, "scales": 7, "scale_step": 1.05, "constraint": 2, "rate": 0.02}),
    ChannelConfig("template", "template", {}),
    ChannelConfig("flow", "flow", {"keeps_aspect": False}),
    ChannelConfig("colour", "colour", {}),
)
"""Five channels that need no download; docs/channels.md has the measurements behind the choice."""

_PRESETS = {"light": LIGHT}


def preset_names() -> tuple[str, ...]:
    """Names that `channels_of` knows, worst first."""
    return tuple(_PRESETS)


def channels_of(preset: str) -> tuple[ChannelConfig, ...]:
    """The channels of a preset, in the order in which they are shown.

    Raises:
        ConfigError: unknown preset (`auto` is not one: see `resolve_preset`).
    """
    if preset not in _PRESETS:
        known = (*_PRESETS, "auto")
        nearest = difflib.get_close_matches(preset, known, n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise ConfigError(f"expected a preset out of {', '.join(known)}, got '{preset}'{hint}")
    return _PRESETS[preset]


def resolve_preset(preset: str = "auto") -> tuple[str, str]:
    """The preset that will run, and why, in one line for the user.

    Raises:
        ConfigError: unknown preset.
    """
    if preset == "auto":
        return "light", "preset light: its five channels need no download"
    channels_of(preset)
    return preset, f"preset {preset}: as asked"


def create_channels(configs: Sequence[ChannelConfig], device: str = "cpu") -> dict[str, Tracker]:
    """One new tracker per channel, by channel name, in order.

    Raises:
        ConfigError: no channels, two of the same name, an unknown tracker or parameter.
    """
    # The core works without any tracker installed; they are looked up only when somebody wants to run them.
    from sftrack.trackers import create

    names = [config.name for config in configs]
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"expected at least one channel and every name once, got {', '.join(names) or 'none'}")
    return {config.name: create(config.tracker, device=device, **config.params) for config in configs}
