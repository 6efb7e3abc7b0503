import subprocess
import sys

import pytest

from sftrack.config import ChannelConfig
from sftrack.contracts import Tracker
from sftrack.errors import ConfigError
from sftrack.presets import channels_of, create_channels, preset_names, resolve_preset


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


def test_channels_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="every name once"):
        create_channels([ChannelConfig("a", "flow"), ChannelConfig("a", "kcf")])
    with pytest.raises(ConfigError, match="at least one"):
        create_channels([])


def test_core_does_not_load_trackers_before_they_are_wanted() -> None:
    code = "import sys, sftrack.presets; assert not any(name.startswith('sftrack.trackers') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
