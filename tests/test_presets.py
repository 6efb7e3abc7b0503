import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sftrack import SFTracker, engine, presets
from sftrack.boxes import iou
from sftrack.config import ChannelConfig
from sftrack.contracts import Tracker
from sftrack.errors import ConfigError, MissingWeightsError
from sftrack.feat2seg import Segmenter
from sftrack.presets import channels_of, create_channels, preset_names, resolve_preset
from sftrack.seg2box import BoxReader
from sftrack.trackers import nanotrack, online, siamban, siamrpn
from sftrack.weights import registry
from tests.stand_ins import small_atom, small_d3s, small_dimp, small_siamese
from tests.targets import straight_clip

FULL_WEIGHTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], dict[str, Any]], dict[str, str]]] = {
    "prdimp18": (partial(small_dimp, "prdimp18"), {"weights": "prdimp18"}),
    "atom18": (small_atom, {"weights": "atom18"}),
    "d3s": (small_d3s, {"weights": "d3s", "backbone_weights": "d3s-backbone"}),
    "siamrpn++": (partial(small_siamese, siamrpn), {"weights": "siamrpn++-r50"}),
    "siamban": (partial(small_siamese, siamban), {"weights": "siamban"}),
}
"""What stands in for the networks of `full`, and in which files of the registry the trackers look for their weights."""

SIAMESE = {"siamrpn++": siamrpn, "siamban": siamban}


@pytest.fixture
def weights_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with all that `full` needs, for small networks."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)  # exporting takes longer than these few frames
    for shared in (Segmenter, BoxReader):  # what is made without it is not for later tests
        monkeypatch.setattr(shared, "bundled", classmethod(vars(shared)["bundled"].__func__.__wrapped__))
    monkeypatch.setattr(online, "_bundled_engine", online._bundled_engine.__wrapped__)
    for small, files in FULL_WEIGHTS.values():
        weights = small(monkeypatch)
        for argument, name in files.items():
            torch.save({"net": weights[argument]}, tmp_path / registry.find(name).file)
    return tmp_path


@pytest.fixture
def nano_weights(weights_folder: Path) -> Path:
    """The same folder, with random weights for NanoTrack; converted, because of the published files the hash is known."""
    for version in (nanotrack.V2, nanotrack.V3):
        save_file(version.network().state_dict(), weights_folder / registry.find(version.weights).file.replace(".pth", ".safetensors"))
    return weights_folder


@pytest.mark.usefixtures("nano_weights")
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_can_be_built(preset: str) -> None:
    channels = create_channels(channels_of(preset))
    assert list(channels) == [config.name for config in channels_of(preset)]
    assert all(isinstance(tracker, Tracker) for tracker in channels.values())


def test_no_two_channels_of_light_are_alike() -> None:
    configs = channels_of("light")
    assert len({(config.tracker, *sorted(config.params.items())) for config in configs}) == len(configs) == 5


@pytest.mark.usefixtures("weights_folder")
def test_full_fuses_the_five_trackers_of_the_paper() -> None:
    clip = straight_clip(4)
    with SFTracker.from_preset("full", device="cpu") as tracker:
        results = [tracker.init(clip.images_rgb[0], clip.boxes_xywh[0]), *(tracker.update(image) for image in clip.images_rgb[1:])]
        evidence = tracker.last_step.evidence if tracker.last_step else None
    assert tracker.channel_names == ("prdimp18", "atom18", "d3s", "siamrpn++", "siamban")
    assert [(channel.name, channel.error) for result in results for channel in result.channels if channel.error] == []
    assert iou(results[-1].box_xywh, clip.boxes_xywh[-1]) > 0.6
    assert evidence is not None
    assert len(evidence.masks) == 5


def test_full_needs_the_weights_of_its_trackers_and_no_others(weights_folder: Path) -> None:
    files = [name for _, files in FULL_WEIGHTS.values() for name in files.values()]
    assert sorted(entry.name for entry in registry.of_preset("full")) == sorted(files)
    assert list(FULL_WEIGHTS) == [config.tracker for config in channels_of("full")]
    (weights_folder / registry.find("d3s-backbone").file).unlink()
    with pytest.raises(MissingWeightsError, match="weights of d3s-backbone for preset full"):
        resolve_preset("full")


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.parametrize(("device", "expected"), [("cuda", "full"), ("mps", "full"), ("cpu", "light")])
def test_auto_takes_full_only_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, device: str, expected: str) -> None:
    monkeypatch.setattr(presets, "resolve_device", lambda _name: device)
    name, reason = resolve_preset("auto")
    assert name == expected
    assert f"preset {expected}:" in reason
    assert "fetch --preset full" not in reason


@pytest.mark.usefixtures("nano_weights")
def test_auto_takes_nano_on_a_cpu_and_nano_runs() -> None:
    assert resolve_preset("auto", "cpu")[0] == "nano"
    clip = straight_clip(3)
    with SFTracker.from_preset("nano", device="cpu") as tracker:
        tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
        result = tracker.update(clip.images_rgb[1])
    assert tracker.channel_names == ("nanotrack-v2", "nanotrack-v3", "flow")
    assert [channel.error for channel in result.channels] == [None, None, None]


def test_nano_needs_both_nanotracks(weights_folder: Path) -> None:
    with pytest.raises(MissingWeightsError, match="weights of nanotrack-v2, nanotrack-v3 for preset nano"):
        resolve_preset("nano")


def test_unknown_preset_lists_names_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"light, .*full, auto, got 'ligth'; did you mean 'light'"):
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


def test_large_networks_share_the_cores_with_the_other_channels_and_have_all_of_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LARGE", 0)
    configs = [ChannelConfig(name, name, small_siamese(module, monkeypatch)) for name, module in SIAMESE.items()]
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        together = create_channels([*configs, ChannelConfig("flow", "flow")])
        alone = create_channels(configs[:1])
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
    assert [threads_of(together[name]) for name in SIAMESE] == [2, 2]
    assert threads_of(alone["siamrpn++"]) == 8


def threads_of(tracker: Any) -> int:  # noqa: ANN401 (a tracker with an engine of onnxruntime)
    threads: int = tracker._comparison._session.get_session_options().intra_op_num_threads
    return threads


def test_channels_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="every name once"):
        create_channels([ChannelConfig("a", "flow"), ChannelConfig("a", "kcf")])
    with pytest.raises(ConfigError, match="at least one"):
        create_channels([])


def test_core_does_not_load_trackers_before_they_are_wanted() -> None:
    code = "import sys, sftrack.presets; assert not any(name.startswith('sftrack.trackers') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
