"""Results as the tools and servers of others take them: folders, names of sequences, delimiters and decimals are theirs."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.benchmark.boards import run_name
from sftrack.benchmark.results import RunFolder, SequenceResult, make_folder
from sftrack.benchmark.suites import Suite
from sftrack.datasets.tables import find_row
from sftrack.errors import ConfigError, SinkError, SourceError
from sftrack.sinks.boxes import box_line
from sftrack.sinks.files import sink_error

TRACKER = "sftrack"
"""What our program is called where a format has a level for it above that of its settings."""

Files = Mapping[Path, str]
"""Texts by their paths from the exported folder."""


@dataclass(frozen=True)
class Exported:
    """What was made, and lines for the user."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """How somebody wants results.

    Attributes:
        suites: the benchmarks it has, by `Suite.key`.
        files_of: the files of an entrant's sequence: takes the suite, the entrant's name, the sequence, its result and the run from 0.
        folder_of: the folder of an entrant that a server takes as a zip file, None where nothing is sent.
        repeating: the benchmarks of which several runs are repetitions by one entrant; elsewhere each run is an entrant.
        notes_of: what a user should know about some of the sequences.
    """

    suites: tuple[str, ...]
    files_of: Callable[[Suite, str, str, SequenceResult, int], Files]
    folder_of: Callable[[Suite, str], Path | None]
    repeating: tuple[str, ...] = ()
    notes_of: Callable[[Suite, Sequence[str]], list[str]] = lambda suite, names: []


def export(format_name: str, suite: Suite, out: Path, to: Path, only: Iterable[str] = ()) -> Exported:
    """Write the results of a benchmark in a format of others.

    Args:
        format_name: a key of `FORMATS`.
        out: folder of our results.
        to: folder to make; it may be there and empty.
        only: names of entrants; none: all.

    Raises:
        ConfigError: an unknown format, one that does not have the benchmark, or a folder that is not empty.
        SourceError: no results.
        SinkError: a file cannot be written.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"expected a format out of {', '.join(FORMATS)}, got '{format_name}'")
    form = FORMATS[format_name]
    if suite.key not in form.suites:
        raise ConfigError(f"expected a benchmark that {format_name} has ({', '.join(form.suites)}), got {suite.key}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"expected an empty folder, or none, at {to}; give another --to")
    folders = _folders(suite, out, set(only))
    counts: dict[str, int] = {}
    archives: dict[Path, None] = {}
    notes = []
    for folder in folders:
        names = [name for name in folder.sequences() if suite.name_of(name) is not None]
        name = run_name(folder.path.name) if suite.key in form.repeating else folder.path.name
        run = counts[name] = counts.get(name, -1) + 1
        packed = form.folder_of(suite, name)
        if len(names) < suite.size:
            what = "the server would refuse it" if packed is not None else "the others are missing"
            notes.append(f"{folder.path}: {len(names)} of {suite.size} sequences of {suite.title}; {what}")
        notes += [f"{folder.path}: {text}" for text in form.notes_of(suite, names)]
        for sequence in names:
            _write(to, form.files_of(suite, name, sequence, folder.read(sequence), run))
        if packed is not None:
            archives[packed] = None
    paths = [to, *(_zip(to / packed) for packed in archives)]
    return Exported(tuple(paths), tuple(notes))


def _folders(suite: Suite, out: Path, wanted: set[str]) -> list[RunFolder]:
    folders = [RunFolder(path) for path in sorted((out / suite.dataset).glob("*/"))]
    found = [one for one in folders if one.sequences() and (not wanted or wanted & {one.path.name, run_name(one.path.name)})]
    absent = wanted - {name for one in found for name in (one.path.name, run_name(one.path.name))}
    if absent or not found:
        raise SourceError(f"expected results{' of ' + ', '.join(sorted(absent)) if absent else ''} in {out / suite.dataset}, found none")
    return found


def _write(to: Path, files: Files) -> None:
    for path, text in files.items():
        make_folder((to / path).parent)
        try:
            (to / path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise sink_error(to / path, error) from error


def _zip(folder: Path) -> Path:
    """A zip file beside a folder, with the folder's content at its top."""
    try:
        return Path(shutil.make_archive(str(folder), "zip", folder))
    except OSError as error:
        raise SinkError(f"cannot write {folder}.zip: {error.strerror}") from error


def _pytracking(suite: Suite, name: str, sequence: str, result: SequenceResult, run: int) -> Files:
    """TAB, without a level for the data set, whose sequences are marked instead. The entrant's name has its run already (`dimp_000`)."""
    home, stem = Path(TRACKER, name), pytracking_name(suite, sequence)
    return {
        home / f"{stem}.txt": _lines(box_line(box).replace(",", "\t") for box in result.boxes_xywh),
        home / f"{stem}_time.txt": _lines(f"{seconds:f}" for seconds in result.seconds),
        home / f"{stem}_object_presence_scores.txt": _lines(f"{score:.2f}" for score in result.scores),
    }


def pytracking_name(suite: Suite, sequence: str) -> str:
    """A sequence as pytracking spells it: `Jogging_1`, `uav_bike1`, `nfs_Gymnastics`."""
    if suite.toolkit == "otb":
        return sequence.replace("-", "_")
    return {"uav123": "uav_", "nfs": "nfs_"}.get(suite.toolkit, "") + sequence


def _got10k(suite: Suite, name: str, sequence: str, result: SequenceResult, run: int) -> Files:
    """Comma, 3 decimals; for GOT-10k a folder per sequence with a numbered file per repetition, and the times of the first."""
    boxes = _lines(map(box_line, result.boxes_xywh))
    times = _lines(f"{seconds:.8f}" for seconds in result.seconds)
    home = _got10k_folder(suite, name)
    if suite.toolkit == "got10k":
        return {
            home / sequence / f"{sequence}_{run + 1:03d}.txt": boxes,
            **({home / sequence / f"{sequence}_time.txt": times} if run == 0 else {}),
        }
    stem = got10k_name(suite, sequence)
    return {home / f"{stem}.txt": boxes, home / "times" / f"{stem}_time.txt": times}


def got10k_name(suite: Suite, sequence: str) -> str:
    """A sequence as the GOT-10k toolkit spells it: `Jogging.1`, and `Human4` for the only target of its folder that is run."""
    row = find_row(suite.table, sequence) if suite.table is not None and suite.toolkit == "otb" else None
    if row is None or not row.target:
        return sequence
    return row.folder if row.aliases else f"{row.folder}.{row.target}"


_GOT10K_LEVELS = {"otb": "OTB2015", "otb2013": "OTB2013", "otb50": "OTBtb50", "uav123": "UAV123", "nfs": "NfS/30", "nfs240": "NfS/240"}


def _got10k_folder(suite: Suite, name: str) -> Path:
    level = "GOT-10k" if suite.toolkit == "got10k" else _GOT10K_LEVELS.get(suite.key, "")
    return Path("results", level, name)


def _got10k_notes(suite: Suite, names: Sequence[str]) -> list[str]:
    found = [row for row in (find_row(suite.table, name) for name in names) if row is not None] if suite.table is not None else []
    return [
        f"{row.name} has no boxes for the first {row.skipped_rows} images, which the GOT-10k toolkit wants; its own `run` makes them"
        for row in found
        if row.skipped_rows
    ]


def _trackingnet(suite: Suite, name: str, sequence: str, result: SequenceResult, run: int) -> Files:
    """Comma, 2 decimals, all sequences flat."""
    return {Path(name) / f"{sequence}.txt": _lines(_rounded(box) for box in result.boxes_xywh)}


def _rounded(box_xywh: NDArray[np.float64]) -> str:
    return ",".join(f"{value:.2f}" for value in np.round(box_xywh, 2) + 0.0)


def _lasot(suite: Suite, name: str, sequence: str, result: SequenceResult, run: int) -> Files:
    return {Path("tracking_results", f"{name}_tracking_result", f"{sequence}.txt"): _lines(map(box_line, result.boxes_xywh))}


def _lines(lines: Iterable[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


FORMATS: Mapping[str, Format] = {
    "pytracking": Format(
        ("otb", "otb2013", "otb50", "uav123", "nfs", "got10k", "got10k-test", "trackingnet", "lasot"), _pytracking, lambda suite, name: None
    ),
    "got10k": Format(
        (*_GOT10K_LEVELS, "got10k", "got10k-test", "trackingnet", "lasot"),
        _got10k,
        lambda suite, name: _got10k_folder(suite, name) if suite.key == "got10k-test" else None,
        repeating=("got10k", "got10k-test"),
        notes_of=_got10k_notes,
    ),
    "trackingnet": Format(("trackingnet",), _trackingnet, lambda suite, name: Path(name)),
    "lasot": Format(("lasot",), _lasot, lambda suite, name: None),
}
