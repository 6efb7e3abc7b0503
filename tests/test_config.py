"""Settings: what a file may hold, and that each mistake is one line that names the key."""

import dataclasses
from pathlib import Path

import pytest
import torch

from sftrack import config
from sftrack.config import ChannelConfig, Config, PipelineConfig, config_from_mapping, load_config, resolve_device
from sftrack.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_an_empty_file_leaves_every_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


def test_a_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("device = 'cpu'", encoding="utf-8-sig")
    assert load_config(path).device == "cpu"


def test_what_is_given_replaces_its_default(tmp_path: Path) -> None:
    text = """
        device = "cpu"
        [pipeline]
        window = 7
        [[channels]]
        name = "fast"
        tracker = "mosse"
        params = { target_px = 50.0 }
        [[channels]]
        name = "careful"
        tracker = "csrt"
    """
    config = load_config(write(tmp_path, text))
    assert config.preset == "auto"
    assert config.device == "cpu"
    assert config.pipeline.window == 7
    assert config.channels == (ChannelConfig("fast", "mosse", {"target_px": 50.0}), ChannelConfig("careful", "csrt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("presett = 'light'", ["presett", "did you mean 'preset'"]),
        ("[pipeline]\nwindw = 5", ["pipeline.windw", "did you mean 'window'"]),
        ("[pipeline]\nwindow = '5'", ["pipeline.window", "expected a valid integer", 'got "5"']),
        ("[pipeline]\nwindow = true", ["pipeline.window", "integer", "got true"]),
        ("preset = 3", ["preset", "expected a valid string", "got 3"]),
        ("pipeline = 3", ["pipeline", "got 3"]),
        ("channels = 'kcf'", ["channels", "array", "kcf"]),
        ("[[channels]]\nname = 'a'", ["channels[0].tracker", "missing"]),
        ("[[channels]]\nname = 'a'\ntracker = 'kcf'\nparam = {}", ["channels[0].param", "did you mean 'params'"]),
        ("window = ", ["TOML", "settings.toml"]),
    ],
)
def test_a_mistake_is_one_line_with_the_key(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


OUT_OF_RANGE = [
    ("crop_size_px", 130, "multiple of 16"),
    ("crop_size_px", 16, "from 32 to 1024"),
    ("context", 0.0, "from 0.5 to 8"),
    ("sharpness", -1.0, "from 0 to 500"),
    ("sharpness", 1000.0, "from 0 to 500"),
    ("sharpness", float("nan"), "from 0 to 500"),
    ("window", 0, "from 1 to 100"),
    ("iterations", -1, "from 0 to 100"),
    ("unary_power", 11.0, "from 0 to 10"),
    ("alpha", 1.5, "from 0 to 1"),
    ("alpha", -0.1, "from 0 to 1"),
    ("uncertain_below", 2.0, "from 0 to 1"),
    ("lost_below", -0.5, "from 0 to 1"),
    ("lost_after", 0, "from 1 to 10000"),
    ("restart_overlap", float("inf"), "from 0 to 1"),
    ("restart_after", 0, "from 1 to 10000"),
]


@pytest.mark.parametrize(("name", "value", "expected"), OUT_OF_RANGE)
def test_a_number_out_of_its_range_is_refused_by_name(tmp_path: Path, name: str, value: float, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {name} .*{expected}"):
        PipelineConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=name) as caught:
        load_config(write(tmp_path, f"[pipeline]\n{name} = {value}"))
    assert "settings.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_number_of_the_pipeline_has_a_range() -> None:
    numbers = {field.name for field in dataclasses.fields(PipelineConfig) if isinstance(field.default, int | float)}
    assert numbers == {name for name, _, _ in OUT_OF_RANGE}


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 1.0}, {"window": 1}, {"crop_size_px": 1024}, {"iterations": 0}])
def test_the_ends_of_a_range_belong_to_it(settings: dict[str, float]) -> None:
    assert config_from_mapping({"pipeline": settings}).pipeline == PipelineConfig(**settings)  # type: ignore[arg-type]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        load_config(path)


def test_every_default_passes_its_own_check() -> None:
    assert config_from_mapping({"pipeline": dataclasses.asdict(PipelineConfig())}) == Config()


def test_device_auto_is_one_that_exists() -> None:
    device = resolve_device("auto")
    assert device in ("cpu", "cuda", "mps")
    torch.zeros(1, device=device)


def test_auto_prefers_cuda_then_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "mps"


@pytest.mark.parametrize(
    ("capability", "built_for", "device"),
    [
        ((7, 0), ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"), "cpu"),
        ((7, 5), ("sm_75", "sm_80"), "cuda"),
        ((8, 9), ("sm_75", "sm_86"), "cuda"),  # a later one of that generation
        ((8, 0), ("sm_75", "sm_86"), "cpu"),
        ((12, 0), ("sm_90",), "cpu"),
        ((12, 0), ("sm_90", "compute_90"), "cuda"),
        ((9, 0), ("sm_90a",), "cuda"),
        ((9, 4), ("gfx90a", "gfx942"), "cuda"),
        ((9, 0), (), "cuda"),
    ],
)
def test_auto_leaves_out_a_gpu_that_torch_was_not_built_for(
    capability: tuple[int, int],
    built_for: tuple[str, ...],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built_for))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config._has_kernels.cache_clear()
    assert [resolve_device("auto"), resolve_device("auto")] == [device, device]
    assert len(caplog.records) == (device == "cpu")
    assert resolve_device("cuda") == "cuda"  # whoever asks for it may know better


def test_one_of_several_gpus_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_device(torch.device("cuda", 1)) == "cuda:1"
    with pytest.raises(ConfigError, match="cuda:2"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:0", "cuda:x", "cuda:", "cuda:01", "cuda:²", "CUDA"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected the device auto, cpu, cuda or mps"):
        resolve_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="use --device auto or cpu"):
        resolve_device("cuda")
