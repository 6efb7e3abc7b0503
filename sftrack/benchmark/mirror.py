"""Results in a place that is no folder of this machine: any address that fsspec knows (`s3://bucket/results`, `gs://...`, `memory://...`).

A run works in a folder of the user's cache. What the address holds already comes there first; each sequence is sent as soon as it is done.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import fsspec
import platformdirs
from fsspec import AbstractFileSystem

from sftrack.benchmark.results import RunFolder
from sftrack.errors import SinkError


class Mirror:
    """A folder of this machine and its copy elsewhere."""

    def __init__(self, local: Path, remote: AbstractFileSystem, path: str) -> None:
        self.local, self._remote, self._path = local, remote, path.rstrip("/")

    @classmethod
    def of(cls, url: str) -> Self:
        """The mirror of an address; the same address has the same folder.

        Raises:
            SinkError: an address that fsspec does not know, or for which it lacks a package.
        """
        try:
            remote, path = fsspec.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise SinkError(f"expected --out to be a folder or an address that fsspec knows, got {url}: {error}") from error
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        return cls(platformdirs.user_cache_path("sftrack") / "bench" / name, remote, path)

    def fetch(self, datasets: Iterable[str]) -> None:
        """Bring the results of some data sets that are there and not here.

        Raises:
            SinkError: they cannot be read.
        """
        for dataset in datasets:
            try:
                names = self._remote.find(f"{self._path}/{dataset}")
                for name in names:
                    here = self.local / dataset / name.rpartition(f"/{dataset}/")[2]
                    if not here.exists():
                        here.parent.mkdir(parents=True, exist_ok=True)
                        self._remote.get_file(name, str(here))
            except OSError as error:
                raise SinkError(f"cannot read {self._path}/{dataset}: {error}") from error

    def send(self, folder: RunFolder, sequence: str) -> None:
        """Make the files of a sequence, and the settings, there what they are here.

        Raises:
            SinkError: they cannot be written; they are complete here, and the next run sends them.
        """
        for path in (folder.settings_path, *folder.paths(sequence)):
            there = f"{self._path}/{path.relative_to(self.local).as_posix()}"
            try:
                if path.is_file():
                    self._remote.makedirs(there.rpartition("/")[0], exist_ok=True)
                    self._remote.put_file(str(path), there)
                elif self._remote.exists(there):
                    self._remote.rm_file(there)
            except OSError as error:
                raise SinkError(
                    f"cannot write {there}: {error}; the results are complete in {folder.path}, run again to send them"
                ) from error

    def send_missing(self, folder: RunFolder) -> None:
        """Send the sequences that are complete here and not there.

        Raises:
            SinkError: what is there cannot be read, or the others not written.
        """
        there = f"{self._path}/{folder.path.relative_to(self.local).as_posix()}"
        try:
            known = {name.rpartition("/")[2] for name in self._remote.find(there)}
        except OSError as error:
            raise SinkError(f"cannot read {there}: {error}") from error
        for sequence in folder.sequences():
            if not {path.name for path in folder.paths(sequence) if path.is_file()} <= known:
                self.send(folder, sequence)
