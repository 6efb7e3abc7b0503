"""Which channels run together under one name."""

import contextlib
from collections.abc import Iterator, Sequence

from sftrack.config import ChannelConfig, resolve_device
from sftrack.contracts import Closable, Tracker
from sftrack.errors import ConfigError, MissingWeightsError, nearest_hint
from sftrack.weights import registry

LIGHT: tuple[ChannelConfig, ...] = (
    ChannelConfig("online", "online"),
    ChannelConfig("online-careful", "online", {"caution": 1.0}),
    ChannelConfig("flow", "flow", {"keeps_aspect": False}),
    ChannelConfig("template", "template"),
    ChannelConfig("dcf", "dcf", {"window_px": 160.0, "padding": 2.0, "scales": 1, "constraint": 2, "rate": 0.02}),
)
"""Five channels that need no download; docs/channels.md has the measurements behind the choice."""

_CALM = {"temperature": 8.0}
"""NanoTrack's score is nearly always close to 1; softened, it says how sure the tracker is."""

NANO: tuple[ChannelConfig, ...] = (
    ChannelConfig("nanotrack-v2", "nanotrack-v2", _CALM),
    ChannelConfig("nanotrack-v3", "nanotrack-v3", _CALM),
    ChannelConfig("flow", "flow", {"keeps_aspect": False}),
)
"""Both NanoTracks, and of the light channels the one that errs in the most different way; docs/benchmarks.md has the measurements."""

FULL: tuple[ChannelConfig, ...] = tuple(ChannelConfig(name, name) for name in ("prdimp18", "atom18", "d3s", "siamrpn++", "siamban"))
"""The five trackers of the paper, as they were published."""

_PRESETS = {"light": LIGHT, "nano": NANO, "full": FULL}  # worst first; which weights a preset needs is in weights/weights.toml

_FOR_GPUS = frozenset({"full"})
"""What `auto` leaves alone on a CPU, where it would be far from real time."""


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
        raise ConfigError(f"expected a preset out of {', '.join(known)}, got '{preset}'{nearest_hint(preset, known)}")
    return _PRESETS[preset]


def resolve_preset(preset: str = "auto", device: str = "auto") -> tuple[str, str]:
    """The preset that will run, and why, in one line for the user.

    `auto` is the best that suits the device and whose weights are all on this machine, and the line has the command that fetches those of
    the next better one. Nothing is ever downloaded here.

    Raises:
        ConfigError: unknown preset or device.
        MissingWeightsError: a preset was asked for by name, and not all of its weights are here.
    """
    if preset != "auto":
        channels_of(preset)
        if absent := missing_weights(preset):
            raise MissingWeightsError(
                f"expected the weights of {', '.join(absent)} for preset {preset}, they are not on this machine: "
                f"run `sftrack weights fetch --preset {preset}`, or see `sftrack weights list` for the way by hand"
            )
        return preset, f"preset {preset}: as asked"
    on_cpu = resolve_device(device) == "cpu"
    names = [name for name in preset_names() if not (on_cpu and name in _FOR_GPUS)]
    best = max(index for index, name in enumerate(names) if not missing_weights(name))  # the first needs none
    reason = "its weights are here" if registry.of_preset(names[best]) else "its channels need no download"
    better = "".join(f"; `sftrack weights fetch --preset {name}` gets better ones" for name in names[best + 1 : best + 2])
    return names[best], f"preset {names[best]}: {reason}{better}"


def missing_weights(preset: str) -> tuple[str, ...]:
    """Names of the weights that a preset needs and that are not on this machine (see `sftrack.weights.registry`)."""
    return tuple(entry.name for entry in registry.of_preset(preset) if not registry.available(entry.name))


def create_channels(configs: Sequence[ChannelConfig], device: str = "cpu") -> dict[str, Tracker]:
    """One new tracker per channel, by channel name, in order; on a `device` of its own where its parameters name one.

    Large networks among them share the cores, because all channels run at the same time.

    Raises:
        ConfigError: no channels, two of the same name, an unknown tracker or parameter.
    """
    # The core works without any tracker installed; they are looked up only when somebody wants to run them.
    from sftrack.trackers import create
    from sftrack.workers import shared_threads

    names = [config.name for config in configs]
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"expected at least one channel and every name once, got {', '.join(names) or 'none'}")
    with shared_threads(len(configs)):
        return {config.name: create(config.tracker, **{"device": device, **config.params}) for config in configs}


@contextlib.contextmanager
def lone_channel(config: ChannelConfig, device: str = "cpu") -> Iterator[Tracker]:
    """A new tracker for the length of a block, as `create_channels` makes it; what it holds besides memory is freed at the end.

    Raises:
        ConfigError: an unknown tracker or parameter.
    """
    tracker = create_channels((config,), device)[config.name]
    try:
        yield tracker
    finally:
        if isinstance(tracker, Closable):
            tracker.close()
