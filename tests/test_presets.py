import subprocess
import sys
from pathlib import Path

import pytest

from sftrack import presets
from sftrack.config import ChannelConfig
from sftrack.contracts import Tracker
from sftrack.errors import ConfigError, MissingWeightsError
from sftrack.presets import channels_of, create_channels, preset_names, resolve_preset
from sftrack.weights import registry


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_can_be_built(preset: str) -> None:
    channels = create_channels(channels_of(preset))
    assert list(channels) == [config.name for config in channels_of(preset)]
    assert all(isinstance(tracker, Tracker) for tracker in channels.values())


def test_light_has_five_different_trackers() -> None:
    assert len({config.tracker for config in channels_of("light")}) == 5


def test_unknown_preset_lists_names_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match="light, auto, got 'ligth'; did you mean 'light'"):
        channels_of("ligth")
    with pytest.raises(ConfigError, match="expected a preset"):
        resolve_preset("none of them")


def test_auto_says_what_it_took_and_why() -> None:
    name, reason = resolve_preset("auto")
    assert name in preset_names()
    assert "light" in reason
    assert "\n" not in reason
    assert resolve_preset("light")[0] == "light"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A preset `tiny`, better than `light`, that needs one file; returns where that file would lie."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path))
    entry = registry.WeightsFile("net", "net.pth", "MIT", "https://example.org", presets=("tiny",))
    monkeypatch.setattr(registry, "entries", lambda: {"net": entry})
    monkeypatch.setattr(presets, "_PRESETS", {"light": presets.LIGHT, "tiny": presets.LIGHT})
    return tmp_path / "net.pth"


def test_auto_takes_the_best_preset_whose_weights_are_here_and_names_the_command_for_better_ones(tiny: Path) -> None:
    assert resolve_preset("auto") == (
        "light",
        "preset light: its channels need no download; `sftrack weights fetch --preset tiny` gets better ones",
    )
    tiny.write_bytes(b"weights")
    assert resolve_preset("auto") == ("tiny", "preset tiny: its weights are here")


def test_a_preset_asked_for_by_name_without_its_weights_says_what_to_fetch(tiny: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"weights of net for preset tiny.*run `sftrack weights fetch --preset tiny`"):
        resolve_preset("tiny")
    tiny.write_bytes(b"weights")
    assert resolve_preset("tiny") == ("tiny", "preset tiny: as asked")


def test_channels_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="every name once"):
        create_channels([ChannelConfig("a", "flow"), ChannelConfig("a", "kcf")])
    with pytest.raises(ConfigError, match="at least one"):
        create_channels([])


def test_core_does_not_load_trackers_before_they_are_wanted() -> None:
    code = "import sys, sftrack.presets; assert not any(name.startswith('sftrack.trackers') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
