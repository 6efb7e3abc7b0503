"""What is still to be done: for every entrant and data set the sequences without a complete result."""

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from sftrack.benchmark.entrants import Entrant
from sftrack.benchmark.results import RunFolder, make_folder
from sftrack.benchmark.runner import Job
from sftrack.benchmark.settings import changed_settings, open_record, settings_of
from sftrack.benchmark.suites import Suite, Survey, survey
from sftrack.datasets import Sequence as Video
from sftrack.errors import ConfigError, SFTrackError, SinkError


@dataclass(frozen=True)
class Course:
    """A benchmark as it lies on disk: the sequences that can be run, why others cannot, and which of those asked for it has not."""

    suite: Suite
    root: Path
    survey: Survey
    videos: tuple[Video, ...]
    damaged: dict[str, str]
    absent: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data, each a line."""
        return tuple(note for video in self.videos for note in video.notes)


def read_course(suite: Suite, root: Path, only: Iterable[str] = ()) -> Course:
    """Look at a benchmark's files; no image is opened, except masks where the boxes are made from them.

    Args:
        only: sequences, in any toolkit's spelling; none: all.

    Raises:
        SourceError: nothing of it under `root`.
    """
    found = survey(suite, root)
    wanted = {suite.name_of(name) or name: name for name in only}
    absent = tuple(spelling for name, spelling in wanted.items() if name not in found.names)
    videos, damaged = [], {}
    for name in found.names:
        if wanted and name not in wanted:
            continue
        try:
            videos.append(suite.read(root, name))
        except SFTrackError as error:
            damaged[name] = str(error)
    return Course(suite, root, found, tuple(videos), damaged, absent)


def those_with(only: Sequence[str], courses: Sequence[Course]) -> list[Course]:
    """The courses that have one of some sequences; all where none is asked for.

    Raises:
        ConfigError: a sequence that no course has.
    """
    unknown = [name for name in only if all(name in course.absent for course in courses)]
    if unknown and courses:
        titles = ", ".join(course.suite.title for course in courses)
        raise ConfigError(f"expected sequences of {titles} that are under {courses[0].root}, got {', '.join(unknown)}")
    return [course for course in courses if not only or course.videos or course.damaged]


@dataclass
class Campaign:
    """A run over several benchmarks into one folder. As a context manager it holds the folders that it writes to.

    Attributes:
        out: folder of all results.
        device: on which trackers run.
        seed: of the random numbers.
        force: remove all results of the entrants, instead of going on with them or refusing those of other settings.
        notes: lines for the user.
    """

    out: Path
    device: str
    seed: int = 0
    force: bool = False
    notes: list[str] = field(default_factory=list)
    _held: dict[Path, FileLock] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for path in self._held:
            RunFolder(path).remove_parts()  # of workers that were ended in the middle
        self._stack.close()
        self._held.clear()

    def folders(self) -> list[RunFolder]:
        """The folders that are held."""
        return [RunFolder(path) for path in self._held]

    def jobs(self, course: Course, entrants: Iterable[Entrant], *, renew: bool = False) -> list[Job]:
        """What each entrant has still to do. Sequences whose files are damaged are noted as failures.

        Args:
            renew: remove results of other channels and say so: for fusions whose channels are chosen by results, of which there may be
                more now.

        Raises:
            ConfigError: a folder has results of other settings, or another run is writing to it.
            SinkError: a folder cannot be written.
        """
        jobs = []
        for entrant in entrants:
            folder = self._open(course, entrant, renew=renew)
            for name, reason in course.damaged.items():
                folder.write_failure(name, reason, "")
            missing = [video for video in course.videos if not folder.is_complete(video.name, len(video))]
            jobs += [Job(entrant, video, folder, self.seed, self.out) for video in missing]
        return jobs

    def _open(self, course: Course, entrant: Entrant, *, renew: bool) -> RunFolder:
        folder = RunFolder.of(self.out, course.suite.dataset, entrant.name)
        if folder.path in self._held:
            return folder
        make_folder(folder.path)
        lock = FileLock(folder.path / ".lock")
        try:
            self._stack.enter_context(lock.acquire(timeout=0))
        except Timeout as error:
            raise ConfigError(f"expected to write to {folder.path} alone, another run does; wait for it, or give another --out") from error
        except OSError as error:
            raise SinkError(f"cannot write to {folder.path}: {error.strerror}; give another --out") from error
        self._held[folder.path] = lock
        folder.remove_parts()
        settings = settings_of(entrant, course.suite.dataset, device=self.device, seed=self.seed)
        has_others = renew and not self.force and {"channels"} <= set(changed_settings(folder, settings)) <= {"channels", "sources"}
        if has_others:
            self.notes.append(f"{folder.path} begins anew, its channels are others than before")
        if self.force or has_others:
            folder.remove_results()
        note = open_record(folder, settings, course.root)
        if note is not None:
            self.notes.append(note)
        return folder


def numbered(entrants: Sequence[Entrant], run: int) -> list[Entrant]:
    """Entrants of one of several runs, named as pytracking does: `<name>_000`, `<name>_001`, ...; replays take their run's recordings."""

    def name(text: str) -> str:
        return f"{text}_{run:03d}"

    return [
        dataclasses.replace(entrant, name=name(entrant.name), sources={key: name(value) for key, value in entrant.sources.items()})
        for entrant in entrants
    ]
