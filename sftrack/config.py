"""Every setting of the tracker with its unit and default, in one place; a TOML file may override any of them."""

import dataclasses
import functools
import json
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sftrack.errors import ConfigError, nearest_hint

if TYPE_CHECKING:
    import torch
    from pydantic import TypeAdapter

log = logging.getLogger(__name__)

_STRICT = {"extra": "forbid", "strict": True}
"""pydantic's settings: an unknown key and a number given as text are errors."""

_RANGES = {
    "crop_size_px": (32, 1024),
    "context": (0.5, 8.0),
    "sharpness": (0.0, 500.0),  # exp(-500) is still a number: no weight may be 0, since all others may be left out
    "window": (1, 100),
    "iterations": (0, 100),
    "unary_power": (0.0, 10.0),
    "alpha": (0.0, 1.0),
    "uncertain_below": (0.0, 1.0),
    "lost_below": (0.0, 1.0),
    "lost_after": (1, 10_000),
    "restart_overlap": (0.0, 1.0),
    "restart_after": (1, 10_000),
}
"""Lowest and highest value of each number in `PipelineConfig`."""

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class ChannelConfig:
    """One channel: the name shown to the user, the registered tracker, and the tracker's parameters."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    tracker: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of the stages after the channels."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    view: Literal["crop", "frame"] = "crop"
    """What the networks see: a crop around the target (real time on a CPU) or the whole frame at 480 pixels, as in the paper."""
    crop_size_px: int = 112
    """Side of the crop at working resolution; a multiple of 16."""
    context: float = 1.2
    """Side of the crop in the frame: 1 is twice the target's size (see `Window.around`)."""
    sharpness: float = 12.0
    """How strongly a better expected overlap counts: the channels' weights are a softmax of `sharpness * overlap`, and so are those of
    their mean box and of the one that is read from the segmentation."""
    unary: Literal["weighted", "median", "best"] = "weighted"
    """What enters the spectral step: the weighted mean of the channels' segmentations, their median, or that of the best channel alone."""
    window: int = 5
    """Frames in the spectral window, the current one included."""
    iterations: int = 1
    """Spectral iterations per frame; 0 leaves the segmentation as the channels' combination."""
    unary_power: float = 0.1
    """`p` of Eq. 2: influence of the segmentation itself."""
    alpha: float = 0.5
    """`alpha` of Eq. 2: how much neighbours that differ are kept apart."""
    box_from: Literal["network", "mask"] = "network"
    """The box is what NN_seg2box reads from the refined segmentation, joined with the channels' boxes; or the extremes of that alone."""
    uncertain_below: float = 0.5
    """Score under which a frame counts as uncertain."""
    lost_below: float = 0.3
    """Score under which a frame counts against the target."""
    lost_after: int = 6
    """Frames in a row under `lost_below` after which the target is lost."""
    restart_overlap: float = 0.2
    """A channel whose overlap with the fused box is below this is off it ..."""
    restart_after: int = 8
    """... and is initialised again after this many sure frames in a row."""

    def __post_init__(self) -> None:
        if self.crop_size_px % 16:
            raise ConfigError(f"expected crop_size_px to be a multiple of 16, got {self.crop_size_px}; for example 128")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"expected {name} from {low:g} to {high:g}, got {value:g}")


@dataclass(frozen=True)
class Config:
    """What `--config FILE.toml` may hold. `channels` replaces the preset's channels when it is not empty."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    preset: str = "auto"
    device: str = "auto"
    channels: tuple[ChannelConfig, ...] = ()
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)


def load_config(path: Path | str) -> Config:
    """Read a TOML file that holds any part of `Config`; what it leaves out keeps its default.

    Raises:
        ConfigError: the file cannot be read, is not TOML, has an unknown key (the nearest known one is named) or a value of another type.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a byte order mark
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror or error}; give an existing TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in {path}, got something else: {error}") from error
    return config_from_mapping(table, where=str(path))


def config_from_mapping(table: Mapping[str, Any], *, where: str = "config") -> Config:
    """`Config` from nested mappings as TOML gives them; `where` begins the message of an error.

    Raises:
        ConfigError: an unknown key or a value of another type.
    """
    from pydantic import ValidationError

    try:
        # By way of JSON because only there strict types still let a list be a tuple and a table be a dataclass.
        return _adapter().validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError(f"{where}: {_explain(details[0])}") from None


@functools.cache
def _adapter() -> "TypeAdapter[Config]":
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def _explain(detail: Mapping[str, Any]) -> str:
    """One line for one of pydantic's findings: the key, what was expected, what was given."""
    location: tuple[str | int, ...] = detail["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    if detail["type"] == "unexpected_keyword_argument":
        known = _known_keys(location[:-1])
        return f"unknown setting '{key}', known here: {', '.join(known)}{nearest_hint(str(location[-1]), known)}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"the setting '{key}' is missing; it has no default"
    if detail["type"] == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    expected = str(detail["msg"]).removeprefix("Input should be ")
    return f"{key}: expected {expected}, got {json.dumps(detail['input'], default=str)}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys allowed at a place in the file, found by walking the dataclasses."""
    owner: Any = Config
    for part in location:
        if part == "channels":
            owner = ChannelConfig
        elif not isinstance(part, int):
            owner = next(f.type for f in dataclasses.fields(owner) if f.name == part)
    return [f.name for f in dataclasses.fields(owner)]


def resolve_device(name: "str | torch.device") -> str:
    """The device to compute on: `auto` takes cuda, else mps, else cpu, by what torch reports and was built for; `cuda:1` is one of several.

    Raises:
        ConfigError: an unknown device, or one that this machine or this build of torch does not have.
    """
    name = str(name)
    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not re.fullmatch("0|[1-9][0-9]*", number))):
        raise ConfigError(f"expected the device {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, got '{name}'")
    if kind == "cpu":
        return "cpu"
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        usable["cuda"] = usable["cuda"] and _has_kernels(torch.cuda.get_device_capability(), tuple(torch.cuda.get_arch_list()))
        return next(device for device, present in usable.items() if present)
    if not usable[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise ConfigError(f"the device '{name}' was asked for, but torch {torch.__version__} finds none here; use --device auto or cpu")
    return name


@functools.cache
def _has_kernels(capability: tuple[int, int], built_for: tuple[str, ...]) -> bool:
    """Whether a build of torch runs on GPUs of a compute capability; where it does not, the log says so once.

    `built_for` is as `torch.cuda.get_arch_list` gives it: machine code (`sm_86`) runs on the same generation from that number on, what is
    compiled for the GPU at hand (`compute_90`) on all newer ones. Names of other makers say nothing here.
    """
    found = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(built_for))
    numbers = [(form, int(major), int(minor)) for form, major, minor in found]
    if not numbers or any((major, minor) <= capability and (form == "compute" or major == capability[0]) for form, major, minor in numbers):
        return True
    which = ".".join(map(str, capability))
    log.warning(
        "no GPU is used: it has compute capability %s, this build of torch runs on %s; install one for it", which, ", ".join(built_for)
    )
    return False
