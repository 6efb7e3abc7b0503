"""Benchmarks by the names that users give them: which sequences they have, and which of those lie under a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sftrack.datasets import Sequence, read_sequence, sequence_names
from sftrack.datasets.tables import find_row, rows, spelled
from sftrack.errors import ConfigError, nearest
from sftrack.metrics import CONVENTIONS, Conventions


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        key: what `--benchmark` takes.
        title: name for people.
        dataset: name in `sftrack.datasets`, and of the results' folder; OTB-2013 and OTB-50 share the results of OTB-100.
        toolkit: whose conventions judge it (`sftrack.metrics.CONVENTIONS`).
        size: number of its sequences.
        table: where the names of its sequences stand, None: they are listed from disk.
        part: the part of the table that counts.
    """

    key: str
    title: str
    dataset: str
    toolkit: str
    size: int
    table: str | None = None
    part: str | None = None

    @property
    def conventions(self) -> Conventions:
        return CONVENTIONS[self.toolkit]

    @property
    def listed(self) -> tuple[str, ...] | None:
        """Names of its sequences, None where only the disk knows them."""
        if self.table is None:
            return None
        return tuple(row.name for row in rows(self.table).values() if self.part is None or self.part in row.sets)

    def read(self, root: Path, name: str) -> Sequence:
        """One sequence; see `sftrack.datasets.read_sequence`."""
        return read_sequence(self.dataset, root, name)

    def name_of(self, spelling: str) -> str | None:
        """The sequence that a toolkit means by `spelling` (`Jogging_1`, `uav_bike1`, `nfs_dog`), None where this benchmark has no such one.

        Benchmarks without a table take any name.
        """
        plain = spelling.removeprefix("uav_").removeprefix("nfs_")
        if self.table is None:
            return plain
        row = find_row(self.table, plain)
        return row.name if row is not None and (self.part is None or self.part in row.sets) else None


SUITES: Mapping[str, Suite] = {
    suite.key: suite
    for suite in (
        Suite("otb", "OTB-100", "OTB100", "otb", 100, "otb"),
        Suite("otb2013", "OTB-2013", "OTB100", "otb", 51, "otb", "OTB2013"),
        Suite("otb50", "OTB-50", "OTB100", "otb", 50, "otb", "OTB50"),
        Suite("uav123", "UAV123", "UAV123", "uav123", 123, "uav123"),
        Suite("uav123-10fps", "UAV123@10fps", "UAV123_10fps", "uav123", 123, "uav123"),
        Suite("nfs", "NFS, 30 frames/s", "NFS30", "nfs", 100),
        Suite("nfs240", "NFS, 240 frames/s", "NFS240", "nfs", 100),
        Suite("got10k", "GOT-10k, validation", "GOT-10k_val", "got10k", 180),
        Suite("got10k-test", "GOT-10k, test", "GOT-10k_test", "got10k", 180),
        Suite("trackingnet", "TrackingNet, test", "TrackingNet", "trackingnet", 511),
        Suite("lasot", "LaSOT, test", "LaSOT", "lasot", 280, "lasot"),
        Suite("davis", "DAVIS-2016, boxes of its masks", "DAVIS", "davis", 20),
    )
}
_ALIASES = {
    "otb100": "otb",
    "otb2015": "otb",
    "nfs30": "nfs",
    "got10kval": "got10k",
    "got10ktest": "got10k-test",
    "uav12310fps": "uav123-10fps",
}


def find_suite(name: str) -> Suite:
    """The benchmark of a name; capitals, `_` and `-` do not matter (`OTB-100`, `GOT-10k`).

    Raises:
        ConfigError: there is none (the message has all, and the nearest).
    """
    plain = spelled(name).replace("-", "").replace("@", "")
    known = {key.replace("-", ""): key for key in SUITES} | _ALIASES
    if plain not in known:
        meant = nearest(plain, known)
        hint = f"; did you mean '{known[meant]}'?" if meant else ""
        raise ConfigError(f"expected a benchmark out of {', '.join(SUITES)}, got '{name}'{hint}")
    return SUITES[known[plain]]


@dataclass(frozen=True)
class Survey:
    """What of a benchmark lies on disk: `names` to run, `missing` that it has and the disk has not, `unlisted` the other way round."""

    suite: Suite
    names: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]

    @property
    def missing_count(self) -> int:
        """How many sequences are missing; where only the disk knows the names, by the official number."""
        return len(self.missing) if self.suite.listed is not None else max(self.suite.size - len(self.names), 0)

    def line(self) -> str:
        """In one line: how many are there, and what is not."""
        text = f"{self.suite.title}: {len(self.names)} of {self.suite.size} sequences"
        if self.missing:
            text += f", missing: {_some(self.missing)}"
        elif self.missing_count:
            text += f", {self.missing_count} missing"
        return text + (f"; not part of it: {_some(self.unlisted)}" if self.unlisted else "")


def survey(suite: Suite, root: Path) -> Survey:
    """What of a benchmark lies under `root`; no image and no truth is opened.

    Raises:
        SourceError: nothing of it.
    """
    here = sequence_names(suite.dataset, root)
    if suite.listed is None:
        return Survey(suite, here, (), ())
    names = tuple(name for name in suite.listed if name in set(here))
    known = {row.name for row in rows(suite.table).values()} if suite.table else set()
    unlisted = tuple(name for name in here if name not in known)
    return Survey(suite, names, tuple(name for name in suite.listed if name not in set(here)), unlisted)


def _some(names: tuple[str, ...], shown: int = 8) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
