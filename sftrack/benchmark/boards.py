"""All results of a benchmark side by side: our own, and those that other toolkits have written."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sftrack.benchmark.plan import Course, read_course
from sftrack.benchmark.results import RunFolder, SequenceResult
from sftrack.benchmark.scores import Speed, Standing, judge, results_in
from sftrack.benchmark.settings import Record, read_record
from sftrack.benchmark.suites import SUITES, Suite, Survey
from sftrack.datasets import Sequence as Video
from sftrack.datasets import read_boxes
from sftrack.datasets.tables import find_row
from sftrack.errors import ConfigError, SourceError
from sftrack.metrics import Conventions, mean_scores

ResultOf = Callable[[str], SequenceResult | None]

FIRST_PIXEL = {"otb": 1, "uav123": 1, "lasot": 1, "got10k": 1}
"""What the truth files of a data set call the first pixel, by `Suite.toolkit`; 0 where it is not listed."""

_RUN = re.compile(r"(?P<name>.+)_\d{3}")


@dataclass(frozen=True)
class Contender:
    """Who has results on a benchmark.

    Attributes:
        name: in tables.
        origin: folder of the results.
        runs: the result of a sequence by its name, for every run or repetition; scores are their mean.
        failures: why sequences could not be done, by name.
        record: what the results were made with, None where nobody has noted it.
        notes: what a reader should know, each a line.
    """

    name: str
    origin: Path
    runs: tuple[ResultOf, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    record: Record | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """A contender and how it did."""

    contender: Contender
    standing: Standing

    @property
    def name(self) -> str:
        runs = len(self.contender.runs)
        return self.contender.name if runs == 1 else f"{self.contender.name} ({runs} runs)"


@dataclass(frozen=True)
class Board:
    """One benchmark: `rows` are sorted, the best first; `count` sequences were judged of those that it has on disk."""

    suite: Suite
    survey: Survey
    conventions: Conventions
    videos: tuple[Video, ...]
    rows: tuple[Ranked, ...]
    notes: tuple[str, ...] = ()


def own_contenders(out: Path, suite: Suite, only: Iterable[str] = ()) -> list[Contender]:
    """Those with results of `sftrack bench run` in a folder; several runs of one entrant (`--runs`) are one contender.

    Args:
        only: names of entrants; none: all.

    Raises:
        ConfigError: a `run.json` that cannot be read, or none of those that are wanted.
    """
    wanted = set(only)
    groups: dict[str, list[RunFolder]] = {}
    for path in sorted((out / suite.dataset).glob("*/")):
        folder = RunFolder(path)
        name = run_name(path.name)
        if (not wanted or wanted & {name, path.name}) and (folder.sequences() or folder.failures()):
            groups.setdefault(name, []).append(folder)
    if wanted and not groups:
        there = sorted({run_name(path.name) for path in (out / suite.dataset).glob("*/")})
        raise ConfigError(
            f"expected results of {', '.join(sorted(wanted))} on {suite.title} in {out}, found those of {', '.join(there) or 'nobody'}"
        )
    return [
        Contender(
            name,
            out / suite.dataset / folders[0].path.name,
            tuple(results_in(folder) for folder in folders),
            {
                sequence: reason
                for folder in folders
                for sequence, reason in folder.failures().items()
                if suite.listed is None or sequence in suite.listed  # OTB-2013 shares the folder of OTB-100
            },
            read_record(folders[0]),
        )
        for name, folders in groups.items()
    ]


def run_name(folder: str) -> str:
    """Name of a folder without the number of its run: `dimp50_003` is a run of `dimp50`."""
    matched = _RUN.fullmatch(folder)
    return matched["name"] if matched else folder


def suites_in(out: Path) -> list[Suite]:
    """The benchmarks of which a folder has results; of those that share their results the largest.

    Raises:
        SourceError: none.
    """
    found: dict[str, Suite] = {}
    for suite in SUITES.values():
        if (out / suite.dataset).is_dir() and (suite.dataset not in found or suite.size > found[suite.dataset].size):
            found[suite.dataset] = suite
    if not found:
        raise SourceError(
            f"expected results of `sftrack bench run` in {out}, found none; give --out, or --benchmark with results of others"
        )
    return list(found.values())


def recorded_root(out: Path, suite: Suite) -> Path:
    """Where the data set was when results were made.

    Raises:
        SourceError: the results do not say, or it is not there any more.
    """
    contenders = own_contenders(out, suite)
    if not contenders:
        raise SourceError(f"expected results of {suite.title} in {out}, found none; for those of others alone give --root or --truth")
    for contender in contenders:
        if contender.record is not None and Path(contender.record.root).is_dir():
            return Path(contender.record.root)
    raise SourceError(f"expected the data set of {suite.title} where its results in {out} were made; give --root")


def read_truth(suite: Suite, folder: Path) -> Course:
    """A benchmark of which only the true boxes are here: a folder with `<sequence>.txt`, as the data set writes them.

    Raises:
        SourceError: no file of a sequence, or one that cannot be read.
        ConfigError: a benchmark that cannot be judged without images, because its toolkit cuts boxes to the frame.
    """
    if suite.conventions.clipped:
        raise ConfigError(f"expected --root with the images of {suite.title}, whose toolkit cuts boxes to the frame; got --truth")
    pixel = FIRST_PIXEL.get(suite.toolkit, 0)
    videos: dict[str, Video] = {}
    for path in sorted(folder.glob("*.txt")):
        name = suite.name_of(path.stem)
        if name is None:
            continue
        boxes = without_early_rows(suite, name, read_boxes(path) - np.array([pixel, pixel, 0.0, 0.0]))
        frames = tuple(path.with_suffix("") / f"{number:08d}.jpg" for number in range(1, len(boxes) + 1))
        videos[name] = Video(name, suite.dataset, frames, boxes, first_pixel=pixel)
    if not videos:
        raise SourceError(f"expected true boxes of {suite.title} (<sequence>.txt) in {folder}, found none")
    names = suite.listed or tuple(videos)
    here = tuple(name for name in names if name in videos)
    survey = Survey(suite, here, tuple(name for name in names if name not in videos), ())
    return Course(suite, folder, survey, tuple(videos[name] for name in here), {})


def without_early_rows(suite: Suite, name: str, boxes: np.ndarray, count: int | None = None) -> np.ndarray:
    """Boxes `(N, 4)` without those of images before the first that counts (Tiger1: 354 rows, of which the benchmark takes the last 349).

    Args:
        count: how many rows there should be; None: as the table of sequences says.
    """
    row = find_row(suite.table, name) if suite.table is not None else None
    if row is None or row.first is None or row.last is None or not row.skipped_rows:
        return boxes
    expected = count if count is not None else row.last - row.first + 1
    return boxes[row.skipped_rows :] if len(boxes) == expected + row.skipped_rows else boxes


def read_board(course: Course, contenders: Sequence[Contender], conventions: Conventions | None = None, *, common: bool = False) -> Board:
    """Judge everybody.

    Args:
        conventions: default: those of the benchmark's own toolkit.
        common: judge only sequences of which all have a result.

    Raises:
        ConfigError: no contender, or no common sequence.
        SourceError: a result that cannot be read.
    """
    suite, rules = course.suite, conventions or course.suite.conventions
    if not contenders:
        raise ConfigError(f"expected results of {suite.title}, found none")
    videos = course.videos
    if common:
        videos = tuple(video for video in videos if all(any(run(video.name) for run in one.runs) for one in contenders))
        if not videos:
            raise ConfigError(f"expected a sequence of {suite.title} of which all have a result, there is none; leave out --common")
    rows = [Ranked(one, _judge_runs(videos, one.runs, rules)) for one in contenders]
    best_first = sorted(rows, key=lambda row: -_headline(row.standing, rules))
    notes = [*course.notes, *(f"{name}: {reason}" for name, reason in course.damaged.items())]
    if common and len(videos) < len(course.videos):
        notes.append(f"only the {len(videos)} sequences of which all have a result")
    elif len({row.standing.missing for row in rows}) > 1:
        notes.append("rows with different sequences do not compare; --common judges only those of which all have a result")
    if secret := max((len(row.standing.unjudged) for row in rows), default=0):
        notes.append(f"the truth of {secret} of {len(videos)} sequences is not public; a server judges them (`sftrack bench export`)")
    for row in best_first:
        notes += [f"{row.contender.name}: {text}" for text in (*row.contender.notes, *row.standing.notes)]
    return Board(suite, course.survey, rules, videos, tuple(best_first), tuple(notes))


def open_course(suite: Suite, out: Path, root: Path | None, truth: Path | None) -> Course:
    """The truth of a benchmark: from its folder, from files of boxes, or where our own results say that it was.

    Raises:
        SourceError: it is not there.
        ConfigError: see `read_truth`.
    """
    return read_truth(suite, truth) if truth is not None else read_course(suite, root or recorded_root(out, suite))


def _headline(standing: Standing, conventions: Conventions) -> float:
    if standing.overall is None:
        return -1.0
    return standing.overall.average_overlap if conventions.averaged == "frames" else standing.overall.success_auc


def _judge_runs(videos: Sequence[Video], runs: Sequence[ResultOf], conventions: Conventions) -> Standing:
    """The mean over runs, sequence by sequence; a sequence counts by those runs that have it."""
    standings = [judge(videos, run, conventions) for run in runs]
    if len(standings) == 1:
        return standings[0]
    scores = {}
    for video in videos:
        several = [standing.sequences[video.name] for standing in standings if video.name in standing.sequences]
        if several:
            scores[video.name] = mean_scores(several)
    members: dict[str, list[str]] = {}
    for video in videos:
        for attribute in video.attributes if video.name in scores else ():
            members.setdefault(attribute, []).append(video.name)
    return dataclasses.replace(
        standings[0],
        sequences=scores,
        attributes={key: mean_scores([scores[name] for name in names], conventions.averaged) for key, names in sorted(members.items())},
        overall=mean_scores(list(scores.values()), conventions.averaged) if scores else None,
        speed=_mean_speed([standing.speed for standing in standings if standing.speed is not None]),
        speeds={
            name: speed
            for name in scores
            if (speed := _mean_speed([standing.speeds[name] for standing in standings if name in standing.speeds])) is not None
        },
        missing=tuple(sorted(set.intersection(*(set(standing.missing) for standing in standings)))),
        notes=tuple(note for standing in standings for note in standing.notes),
    )


def _mean_speed(speeds: Sequence[Speed]) -> Speed | None:
    """Frames of all runs by their seconds; the percentile is the mean of the runs', each frame counting the same."""
    if not speeds:
        return None
    frames = sum(speed.frames for speed in speeds)
    seconds = sum(speed.frames / speed.frames_per_second for speed in speeds)
    return Speed(frames / seconds, sum(speed.p95_s * speed.frames for speed in speeds) / frames, frames)
