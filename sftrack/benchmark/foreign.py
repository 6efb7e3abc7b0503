"""Results that pytracking, PySOT, the GOT-10k toolkit and LaSOT's have written, as they lie on disk.

    pytracking      <tracker>/<settings>[_<run>]/<sequence>.txt             TAB or comma
    PySOT           <data set>/<model>/<sequence>.txt                       comma
    GOT-10k toolkit OTB2015/<tracker>/<sequence>.txt, NfS/30/..., ...       comma
    both, GOT-10k   GOT-10k/<tracker>/<sequence>/<sequence>_<repetition>.txt
    LaSOT           <tracker>_tracking_result/<sequence>.txt                any

Whatever level of these a user names, every folder below that holds files of the benchmark's sequences is a tracker. Times are read where
they lie beside the boxes or in `times/`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.benchmark.boards import Contender, ResultOf, run_name, without_early_rows
from sftrack.benchmark.plan import Course
from sftrack.benchmark.results import SequenceResult
from sftrack.benchmark.suites import SUITES, Suite
from sftrack.datasets import Sequence as Video
from sftrack.datasets import read_boxes
from sftrack.datasets.sequence import read_lines
from sftrack.datasets.tables import spelled
from sftrack.errors import SourceError

_NOT_BOXES = ("_time", "_object_presence_scores", "_confidence", "_all_boxes", "_all_scores")
_PREFIXES = {"uav_": "uav123", "nfs_": "nfs"}
"""pytracking, which has no level for data sets, marks the sequences of some; by `Suite.toolkit`."""
_FOLDERS = {
    "otb": ("OTB", "OTB2015", "OTB100"),
    "otb2013": ("OTB2013", "OTBtb50", "CVPR13"),
    "otb50": ("OTB50", "OTBtb50"),
    "uav123": ("UAV123",),
    "uav123-10fps": ("UAV123_10fps", "UAV123-10fps", "UAV10"),
    "nfs": ("NFS", "NFS30", "NfS"),
    "nfs240": ("NFS240", "NfS"),
    "got10k": ("GOT-10k", "GOT10k"),
    "got10k-test": ("GOT-10k", "GOT10k"),
    "trackingnet": ("TrackingNet",),
    "lasot": ("LaSOT",),
    "davis": ("DAVIS",),
}
"""What toolkits call the folder of a benchmark. OTB-2013 and OTB-50 are also read from the results of OTB-100, of which they are parts."""
_RATES = {"nfs": ("30", "240"), "nfs240": ("240", "30")}
"""The GOT-10k toolkit has a level for the frames/s of NFS: that of a benchmark, and the other one."""
_GENERIC = {"results", "tracking-results"}
"""Levels that say nothing about a tracker, as `spelled` has them."""


@dataclass
class _Found:
    """The files of one tracker: by sequence, a box file per run with the folder of its times."""

    files: dict[str, dict[int, Path]] = field(default_factory=dict)
    has_prefixes: bool = False


def find_contenders(course: Course, folder: Path, name: str | None = None) -> list[Contender]:
    """Everybody with results of a benchmark in a folder.

    Args:
        name: in tables; default: what the folders are called.

    Raises:
        SourceError: no such folder, nothing of the benchmark in it, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise SourceError(f"expected a folder of results at {folder}, there is none")
    found: dict[Path, _Found] = {}
    for home, path, sequence, run, is_marked in _box_files(course, folder):
        one = found.setdefault(home, _Found())
        if is_marked and not one.has_prefixes:
            one.files.clear()  # files without the mark are of another data set whose names are alike
            one.has_prefixes = True
        if is_marked == one.has_prefixes:
            one.files.setdefault(sequence, {})[run] = path
    if not found:
        raise SourceError(f"expected results of {course.suite.title} (<sequence>.txt) in {folder} or below it, found none")
    groups: dict[str, list[tuple[Path, _Found]]] = {}
    for home, one in sorted(found.items()):
        groups.setdefault(_name_of(course.suite, folder, home), []).append((home, one))
    contenders = []
    for label, members in groups.items():
        shown = label if name is None else name if len(groups) == 1 else f"{name}/{label}"
        contenders.append(_contender(course, shown, members))
    return contenders


def has_results(course: Course, folder: Path) -> bool:
    """Whether there is a file of a benchmark's results in a folder or below it."""
    return next(_box_files(course, folder), None) is not None


def _contender(course: Course, name: str, members: list[tuple[Path, _Found]]) -> Contender:
    videos = {video.name: video for video in course.videos}
    runs: list[ResultOf] = []
    offset, notes = _offset(videos, members), []
    if offset:
        notes.append("its first lines show that it counts pixels from 0; 1 was added")
    for _, one in members:
        for run in sorted({run for files in one.files.values() for run in files}):
            results = {
                sequence: _read(course.suite, videos[sequence], files[run], run, offset)
                for sequence, files in one.files.items()
                if run in files
            }
            runs.append(results.get)
    return Contender(name, members[0][0], tuple(runs), notes=tuple(notes))


def _box_files(course: Course, folder: Path) -> Iterator[tuple[Path, Path, str, int, bool]]:
    """Every box file of a benchmark: the tracker's folder, the file, its sequence, its run, whether it has a prefix of pytracking."""
    names = {spelled(video.name): video.name for video in course.videos}
    others = {spelled(text) for texts in _FOLDERS.values() for text in texts} - _levels(course.suite)
    others |= set(_RATES.get(course.suite.key, ())[1:])
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(text for text in folders if spelled(text) not in others)
        home = Path(at)
        for file in sorted(files):
            stem, ending = os.path.splitext(file)
            if ending != ".txt" or stem.endswith(_NOT_BOXES):
                continue
            prefix = next((text for text in _PREFIXES if stem.startswith(text)), "")
            if prefix and _PREFIXES[prefix] != course.suite.toolkit:
                continue
            repeated = re.fullmatch(rf"{re.escape(home.name)}_(\d{{3}})", stem)
            text = home.name if repeated else stem.removeprefix(prefix)
            sequence = names.get(spelled(course.suite.name_of(text) or text))
            if sequence is not None:
                yield home.parent if repeated else home, home / file, sequence, int(repeated[1]) if repeated else 0, bool(prefix)


def _levels(suite: Suite) -> set[str]:
    """Names of folders that say no more than that they hold this benchmark, or the one of which it is a part, as `spelled` has them."""
    whole = max((other for other in SUITES.values() if other.dataset == suite.dataset), key=lambda other: other.size)
    names = (*_FOLDERS[suite.key], *_FOLDERS[whole.key], *_RATES.get(suite.key, ())[:1])
    return {spelled(name) for name in names}


def _name_of(suite: Suite, folder: Path, home: Path) -> str:
    """Name of a tracker: the folders from the one that the user has named, without levels that only say which data set it is."""
    levels = _levels(suite) | _GENERIC
    parts = [part for part in home.relative_to(folder).parts if spelled(part) not in levels] or [home.resolve().name]
    return run_name("/".join(parts)).removesuffix("_tracking_result")


def _offset(videos: Mapping[str, Video], members: list[tuple[Path, _Found]]) -> float:
    """1 where most first lines are the true box counted from 0 though the data set counts from 1, else 0."""
    votes = 0
    for _, one in members:
        for sequence, files in one.files.items():
            video = videos[sequence]
            first = read_boxes(next(iter(files.values())))[0, :2]
            if video.first_pixel and np.isfinite(video.boxes_xywh[0]).all():
                votes += int(np.allclose(first, video.boxes_xywh[0, :2], atol=0.01))
                votes -= int(np.allclose(first, video.boxes_xywh[0, :2] + video.first_pixel, atol=0.01))
    return 1.0 if votes > 0 else 0.0


def _read(suite: Suite, video: Video, path: Path, run: int, offset: float) -> SequenceResult:
    boxes = without_early_rows(suite, video.name, read_boxes(path), len(video)) + np.array([offset, offset, 0.0, 0.0])
    times = _read_times(path, run)
    seconds = times if len(times) == len(boxes) else np.zeros(0)
    return SequenceResult(boxes, seconds, np.ones(len(boxes)))


def _read_times(path: Path, run: int) -> NDArray[np.float64]:
    """Seconds per frame, empty where they are not known: one number a line, or a column per repetition."""
    stem = path.parent.name if run else path.stem
    for candidate in (path.with_name(f"{stem}_time.txt"), path.parent / "times" / f"{stem}_time.txt"):
        if candidate.is_file():
            try:
                table = np.array([line.replace(",", " ").split() for line in read_lines(candidate)], dtype=np.float64)
            except ValueError:
                return np.zeros(0)
            return np.asarray(table[:, min(max(run - 1, 0), table.shape[1] - 1)]) if table.ndim == 2 and table.size else np.zeros(0)
    return np.zeros(0)
