"""What results were made with: `run.json` beside them. Results of other settings are never mixed into one folder."""

import functools
import json
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from sftrack.benchmark.entrants import Entrant, weights_entries
from sftrack.benchmark.results import RunFolder, make_folder, write_whole
from sftrack.errors import ConfigError
from sftrack.weights import registry

FORMAT = 1
PACKAGES = ("torch", "numpy", "opencv-contrib-python-headless", "onnxruntime", "scipy")

_CHECKOUT = Path(__file__).resolve().parents[2]
"""The clone that we run from; something else where we are installed."""


@dataclass(frozen=True)
class Record:
    """The content of `run.json`.

    Attributes:
        settings: what decides the results; see `settings_of`.
        environments: on what they were made: one entry per machine and version that took part, the newest last.
        root: where the data set was.
    """

    settings: Mapping[str, Any]
    environments: tuple[Mapping[str, Any], ...]
    root: str


def settings_of(entrant: Entrant, dataset: str, *, device: str, seed: int) -> dict[str, Any]:
    """What decides the results of an entrant, as JSON has it. The number of processes and which of several GPUs do not."""
    return {
        "format": FORMAT,
        "dataset": dataset,
        "entrant": entrant.name,
        "channels": [{"name": channel.name, "tracker": channel.tracker, "params": _plain(channel.params)} for channel in entrant.channels],
        "pipeline": None if entrant.pipeline is None else asdict(entrant.pipeline),
        "sources": dict(entrant.sources),
        "device": device.partition(":")[0],
        "seed": seed,
        "weights": weights_of(entrant),
    }


def weights_of(entrant: Entrant) -> dict[str, str]:
    """SHA-256 of every weights file that an entrant reads, by name."""
    found: dict[str, str] = {}
    if entrant.pipeline is not None:
        folder = Path(registry.__file__).parent
        found |= {name: registry.sha256_of(folder / f"{name}.safetensors") for name in ("feat2seg", "combine", "seg2box")}
    for channel in () if entrant.sources else entrant.channels:
        if (own := channel.params.get("weights")) is not None:
            found[channel.name] = registry.sha256_of(Path(own))
            continue
        for entry in weights_entries(channel):
            path = registry.path_of(entry)
            if path is not None:
                found[entry.name] = registry.verify(entry, path)
    return found


@functools.cache
def environment() -> Mapping[str, Any]:
    """Versions, machine and git commit of this process."""
    import torch

    gpus = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
    return {
        "python": platform.python_version(),
        "sftrack": _version("sftrack") or _checkout_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "gpus": gpus,
        "commit": _commit(),
    }


def open_record(folder: RunFolder, settings: Mapping[str, Any], root: Path) -> str | None:
    """Make sure that a folder holds results of these settings only, and note who goes on with it now.

    Returns:
        A line for the user where results of another version or machine are in the folder already; else None.

    Raises:
        ConfigError: the folder has results of other settings, or of settings that nobody has noted.
        SinkError: it cannot be written.
    """
    now = {**environment(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    former = read_record(folder)
    environments: list[Mapping[str, Any]] = []
    note = None
    has_results = bool(folder.sequences())
    if former is None and has_results:
        raise ConfigError(
            f"expected {folder.settings_path} beside the results there, to know their settings; "
            "give another --out, or --force to remove them and start anew"
        )
    if former is not None and has_results:
        if changed := changed_settings(folder, settings):
            raise ConfigError(
                f"expected results of these settings in {folder.path}, it has those of another {', '.join(changed)}; "
                "give another --out, or --force to remove them and start anew"
            )
        environments = list(former.environments)
        others = _differences({**environments[-1], "since": ""}, {**now, "since": ""}) if environments else []
        if not others:
            now = dict(environments.pop())
        else:
            note = f"{folder.path} goes on with another {', '.join(others)} than before"
    make_folder(folder.path)
    content = {"settings": settings, "root": str(root.resolve()), "environments": [*environments, now]}
    write_whole(folder.settings_path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return note


def read_record(folder: RunFolder) -> Record | None:
    """The folder's `run.json`, None where there is none.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        content = json.loads(folder.settings_path.read_text(encoding="utf-8"))
        return Record(content["settings"], tuple(content["environments"]), content["root"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(
            f"expected the settings of a run in {folder.settings_path}, cannot read them ({error}); --force starts anew"
        ) from error


def changed_settings(folder: RunFolder, settings: Mapping[str, Any]) -> list[str]:
    """Which of some settings are not those of a folder's results; none where it has no record.

    Raises:
        ConfigError: see `read_record`.
    """
    former = read_record(folder)
    return [] if former is None else _differences(former.settings, json.loads(json.dumps(settings)))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def _plain(params: Mapping[str, Any]) -> Any:  # noqa: ANN401  (whatever JSON makes of it)
    return json.loads(json.dumps(dict(params), default=str))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _checkout_version() -> str | None:
    """Our version where we run from a plain clone, which no package manager knows."""
    try:
        return str(tomllib.loads((_CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The checkout's commit, with `+` where its files differ from it; None outside a checkout."""
    if not (_CHECKOUT / ".git").exists():  # git itself would also find the repository of others in which we are installed
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(_CHECKOUT), *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
