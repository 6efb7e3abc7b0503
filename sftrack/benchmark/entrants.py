"""What takes part in a benchmark: a preset or a settings file (fused), one registered tracker alone, or a fusion of recorded boxes."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sftrack.config import ChannelConfig, PipelineConfig, load_config
from sftrack.errors import ConfigError, nearest_hint
from sftrack.presets import channels_of, lone_channel, preset_names, resolve_preset
from sftrack.weights import registry


@dataclass(frozen=True)
class Entrant:
    """One row of the table to come.

    Attributes:
        name: name of its results' folder.
        channels: the trackers that are fused, or the one that runs alone.
        pipeline: settings of the fusion; None: the only channel runs alone.
        sources: the channels' boxes come from earlier results: by channel, the entrant that made them. Empty: the trackers run.
    """

    name: str
    channels: tuple[ChannelConfig, ...]
    pipeline: PipelineConfig | None = None
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_entrant(text: str, device: str) -> Entrant:
    """What the user means by `--tracker`.

    Args:
        text: a preset (`light`, `auto`), a channel of one (`light/flow`), a registered tracker (`nanotrack-v2`), or a settings file
            (`mine.toml`), whose name it then has.
        device: on which it will run (`auto` looks at it).

    Raises:
        ConfigError: none of these; the message has the nearest. A tracker that cannot be made with its settings.
        MissingWeightsError: weights that are not here.
    """
    entrant = _find(text, device)
    for channel in entrant.channels:
        entries = weights_entries(channel)
        if not entries or any(registry.path_of(entry) is None for entry in entries):  # others are large, and will be made
            with lone_channel(channel, device):  # what raises here would raise on every sequence
                pass
    return entrant


def weights_entries(channel: ChannelConfig) -> tuple[registry.WeightsFile, ...]:
    """The files of the registry that a channel may read; none where its settings name a file."""
    if channel.params.get("weights") is not None:
        return ()
    names = {channel.tracker, f"{channel.tracker}-{channel.params.get('variant')}", f"{channel.tracker}-backbone"}
    return tuple(entry for entry in registry.entries().values() if names & {entry.name, *entry.aliases})


def _find(text: str, device: str) -> Entrant:
    if text.endswith(".toml"):
        config = load_config(text)
        channels = config.channels or channels_of(resolve_preset(config.preset, device)[0])
        return Entrant(_folder_name(Path(text).stem), channels, config.pipeline)
    if text == "auto" or text in preset_names():
        name, _ = resolve_preset(text, device)
        return Entrant(name, channels_of(name), PipelineConfig())
    preset, _, channel_name = text.partition("/")
    if channel_name and preset in preset_names():
        channels = channels_of(preset)
        for channel in channels:
            if channel.name == channel_name:
                return alone(preset, channel)
        raise ConfigError(f"expected a channel of {preset} out of {', '.join(channel.name for channel in channels)}, got '{channel_name}'")
    from sftrack.trackers import factory_of, tracker_names

    if ":" not in text and text not in tracker_names():
        known = (*preset_names(), *tracker_names())
        hint = nearest_hint(text, known)
        raise ConfigError(f"expected a preset or tracker out of {', '.join(known)}, or a .toml file, got '{text}'{hint}")
    factory_of(text)
    return Entrant(_folder_name(text), (ChannelConfig(text, text),))


def alone(fusion: str, channel: ChannelConfig) -> Entrant:
    """The entrant that runs one channel alone: `nanotrack-v2`, or `light.flow` where the fusion has settings of its own for it."""
    return Entrant(_folder_name(channel.tracker) if not channel.params else f"{fusion}.{_folder_name(channel.name)}", (channel,))


def replayed(fused: Entrant, label: str = "replay") -> tuple[Entrant, tuple[Entrant, ...]]:
    """A fusion of recorded boxes, `<name>-<label>`, and the entrants that record them."""
    recorders = tuple(alone(fused.name, channel) for channel in fused.channels)
    sources = {channel.name: recorder.name for channel, recorder in zip(fused.channels, recorders, strict=True)}
    return dataclasses.replace(fused, name=f"{fused.name}-{label}", sources=sources), recorders


def _folder_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text)
