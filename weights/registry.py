"""Which weights there are (`weights.toml`), and where they lie on this machine.

Files are kept in one folder under their registered names: `SFTRACK_WEIGHTS`, or the user's cache. `sha256.json` in it remembers the hash
of each file when it was first used, and its size and time, so that a large file is not hashed again at every start.
Nothing here needs PyTorch or the network.
"""

import contextlib
import functools
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from sftrack.errors import ConfigError, MissingWeightsError, WeightsError, nearest_hint

if TYPE_CHECKING:
    from torch import Tensor

FOLDER_VARIABLE = "SFTRACK_WEIGHTS"
RECORD_FILE = "sha256.json"


@dataclass(frozen=True)
class WeightsFile:
    """One entry of `weights.toml`; the comments there say what the fields mean. None is unknown."""

    name: str
    file: str
    licence: str
    repository: str
    aliases: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    url: str | None = None
    drive_id: str | None = None
    size: int | None = None
    sha256: str | None = None
    structure: str | None = None

    @property
    def page(self) -> str:
        """Where a person finds the file."""
        if self.drive_id is not None:
            return f"https://drive.google.com/file/d/{self.drive_id}/view"
        return self.url or self.repository

    @property
    def converted(self) -> str:
        """The file's name after `sftrack weights convert`."""
        return converted_name(self.file)


def converted_name(file: str) -> str:
    """`net.pth.tar` as `net.safetensors`."""
    return file.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt") + ".safetensors"


@functools.cache
def entries() -> Mapping[str, WeightsFile]:
    """All registered files by name, in the order of `weights.toml`."""
    text = Path(__file__).with_name("weights.toml").read_text(encoding="utf-8")
    return {name: _entry(name, values) for name, values in tomllib.loads(text).items()}


def _entry(name: str, values: dict[str, Any]) -> WeightsFile:
    aliases, presets = tuple(values.pop("aliases", ())), tuple(values.pop("presets", ()))
    return WeightsFile(name=name, aliases=aliases, presets=presets, **values)


def find(name: str) -> WeightsFile:
    """The entry of a name or alias.

    Raises:
        ConfigError: there is none (the message has the nearest).
    """
    named = {alias: entry for entry in entries().values() for alias in (entry.name, *entry.aliases)}
    if name not in named:
        raise ConfigError(f"expected weights out of {', '.join(entries())}, got '{name}'{nearest_hint(name, named)}")
    return named[name]


def of_preset(preset: str) -> tuple[WeightsFile, ...]:
    """What a preset needs; nothing for one that is not registered to need any."""
    return tuple(entry for entry in entries().values() if preset in entry.presets)


def recognise(tensors: "Mapping[str, Tensor]") -> tuple[str, ...]:
    """Names of the registered weights that have exactly these tensor names and shapes; several where networks are equal, or none."""
    from .checkpoints import structure_of

    structure = structure_of(tensors)
    return tuple(entry.name for entry in entries().values() if entry.structure == structure)


def folder() -> Path:
    """Where weights are kept: `SFTRACK_WEIGHTS`, or the user's cache. It may not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("sftrack") / "weights"


def path_of(entry: WeightsFile) -> Path | None:
    """The file as published or converted, None where it is not in the folder."""
    return next((path for path in (folder() / entry.file, folder() / entry.converted) if path.is_file()), None)


def available(name: str) -> bool:
    """Whether `locate` would find a file; its content is not looked at.

    Raises:
        ConfigError: unknown name.
    """
    return path_of(find(name)) is not None


def locate(name: str) -> Path:
    """The file of registered weights, with the hash that it must have.

    Raises:
        ConfigError: unknown name.
        MissingWeightsError: not fetched yet; the message says how.
        WeightsError: the file is not the published one, or has changed since it was first used.
    """
    entry = find(name)
    path = path_of(entry)
    if path is None:
        raise MissingWeightsError(f"expected the weights of {entry.name}, they are not on this machine: {how_to_get(entry)}")
    verify(entry, path)
    return path


def how_to_get(entry: WeightsFile) -> str:
    """The command that fetches a file, and the way by hand."""
    return f"run `sftrack weights fetch {entry.name}`, or {by_hand(entry)}"


def by_hand(entry: WeightsFile) -> str:
    """How to get a file without this program's help."""
    return f"download {entry.page} in a browser and run `sftrack weights add FILE --name {entry.name}` (it will lie in {folder()})"


def verify(entry: WeightsFile, path: Path, *, again: bool = False) -> str:
    """Compare a file's hash with the published one, or with what it was on first use; return it.

    Args:
        again: compute the hash even if size and time are those of the last check.

    Raises:
        WeightsError: it is another one, or the file cannot be read.
    """
    records = read_records(path.parent)
    known = records.get(path.name, {})
    published = entry.sha256 if path.name == entry.file else None  # a converted file has a hash of its own
    try:
        status = path.stat()
        stamp = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        unchanged = {key: known.get(key) for key in stamp} == stamp and known.get("sha256") == (published or known.get("sha256"))
        digest = str(known["sha256"]) if unchanged and not again else sha256_of(path)
    except OSError as error:
        raise WeightsError(f"cannot read the weights '{path}' ({error.strerror})") from error
    if published is not None and digest != published:
        raise WeightsError(
            f"expected the published {entry.file} with sha256 {published}, '{path}' has {digest}; "
            f"remove it and run `sftrack weights fetch {entry.name}`"
        )
    if published is None and known.get("sha256", digest) != digest:
        raise WeightsError(
            f"expected '{path}' as it was on first use, with sha256 {known['sha256']}, it has {digest} now; if that is meant, "
            f"`sftrack weights add {path} --name {entry.name}` accepts it, else remove it and fetch it again"
        )
    if known != {"sha256": digest, **stamp}:
        with contextlib.suppress(OSError):  # a shared folder may be read-only; then the hash is computed every time
            write_records(path.parent, {**records, path.name: {"sha256": digest, **stamp}})
    return digest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def accept(path: Path) -> None:
    """Forget what a file was on first use, so that the next `verify` takes it as it is."""
    records = read_records(path.parent)
    if records.pop(path.name, None) is not None:
        write_records(path.parent, records)


def read_records(where: Path) -> dict[str, dict[str, Any]]:
    """What is remembered of the files of a folder, by file name.

    Raises:
        WeightsError: `sha256.json` is damaged, so that nothing can be checked against it.
    """
    try:
        records = json.loads((where / RECORD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"expected the hashes of first use in '{where / RECORD_FILE}', cannot read them ({error}); remove it") from error
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise WeightsError(f"expected the hashes of first use in '{where / RECORD_FILE}', it holds something else; remove it")
    return records


def write_records(where: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace `sha256.json` at once, so that a crash leaves the old or the new one."""
    partial = where / f"{RECORD_FILE}.{os.getpid()}"
    partial.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(where / RECORD_FILE)


__all__ = [
    "FOLDER_VARIABLE",
    "RECORD_FILE",
    "WeightsFile",
    "accept",
    "available",
    "by_hand",
    "converted_name",
    "entries",
    "find",
    "folder",
    "how_to_get",
    "locate",
    "of_preset",
    "path_of",
    "recognise",
    "sha256_of",
    "verify",
]
