"""The files of a run, and nothing else knows where they lie.

    OUT/<data set>/<entrant>/
        <sequence>.txt                          x,y,w,h per frame, the first included, 3 decimals, as the data set counts pixels
        <sequence>_time.txt                     seconds per frame; the first is `init`
        <sequence>_object_presence_scores.txt   the tracker's own score per frame, in [0, 1]
        <sequence>.failed.log                   why a sequence could not be done, and the traceback
        run.json                                what it was made with (settings.py)

The analysis of pytracking, PySOT, the GOT-10k toolkit and LaSOT's reads such box files. While a sequence is under way its files end in
`.part`; they are renamed when complete, the boxes last. So what has its final name is whole, whenever the program or the machine ends.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH
from sftrack.datasets.sequence import read_boxes, read_lines
from sftrack.errors import SinkError, SourceError
from sftrack.sinks.boxes import box_line
from sftrack.sinks.files import LineFile, sink_error

BOXES, TIMES, SCORES = ".txt", "_time.txt", "_object_presence_scores.txt"
PART, FAILED = ".part", ".failed.log"


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """What is in the files of one sequence: `boxes_xywh (N, 4)` as the data set counts pixels, `seconds (N,)`, `scores (N,)`."""

    boxes_xywh: NDArray[np.float64]
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class RunFolder:
    """The results of one entrant on one data set."""

    path: Path

    @classmethod
    def of(cls, out: Path, dataset: str, entrant: str) -> Self:
        return cls(out / dataset / entrant)

    @property
    def settings_path(self) -> Path:
        return self.path / "run.json"

    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences that are complete, sorted."""
        names = (path.name.removesuffix(BOXES) for path in self.path.glob(f"*{BOXES}"))
        return tuple(sorted(name for name in names if self.is_complete(name)))

    def is_complete(self, sequence: str, frames: int | None = None) -> bool:
        """Whether the files of a sequence are there, whole and of one length: that of `frames`, where it is known."""
        paths = [self._file(sequence, kind) for kind in (BOXES, TIMES, SCORES)]
        if not all(path.is_file() for path in paths):
            return False
        counts = {_count_lines(path) for path in paths}
        return len(counts) == 1 and counts != {0} and (frames is None or counts == {frames})

    def paths(self, sequence: str) -> tuple[Path, ...]:
        """Every file that a sequence may have here."""
        return tuple(self._file(sequence, kind) for kind in (TIMES, SCORES, BOXES, FAILED))

    def read(self, sequence: str) -> SequenceResult:
        """The result of a sequence.

        Raises:
            SourceError: no such file, or one that cannot be read.
        """
        return SequenceResult(
            read_boxes(self._file(sequence, BOXES)),
            _read_numbers(self._file(sequence, TIMES)),
            _read_numbers(self._file(sequence, SCORES)),
        )

    def failures(self) -> dict[str, str]:
        """Why sequences could not be done, in one line each, by name."""
        logs = sorted(self.path.glob(f"*{FAILED}"))
        return {path.name.removesuffix(FAILED): path.read_text(encoding="utf-8").partition("\n")[0] for path in logs}

    def write_failure(self, sequence: str, reason: str, details: str) -> None:
        """Note why a sequence could not be done.

        Raises:
            SinkError: it cannot be written.
        """
        write_whole(self._file(sequence, FAILED), f"{' '.join(reason.split())}\n\n{details.rstrip()}\n")

    def clear_failure(self, sequence: str) -> None:
        self._file(sequence, FAILED).unlink(missing_ok=True)

    def remove_parts(self) -> None:
        """Remove what an earlier run, ended in the middle, has left. Only for who holds the folder's lock."""
        for path in self.path.glob(f"*{PART}"):
            path.unlink(missing_ok=True)

    def remove_results(self) -> None:
        """Remove everything that a run has written here.

        Raises:
            SinkError: no permission.
        """
        try:
            for pattern in (f"*{BOXES}", f"*{FAILED}", f"*{PART}", self.settings_path.name):
                for path in self.path.glob(pattern):
                    path.unlink()
        except OSError as error:
            raise SinkError(f"cannot replace {error.filename}: {error.strerror}; give another --out") from error

    @contextlib.contextmanager
    def writing(self, sequence: str, first_pixel: int) -> Iterator["ResultWriter"]:
        """Write a sequence; without an error its files get their final names, else they are removed.

        Raises:
            SinkError: they cannot be written.
        """
        make_folder(self.path)
        finals = [self._file(sequence, kind) for kind in (BOXES, TIMES, SCORES)]
        parts = [path.with_name(path.name + PART) for path in finals]
        try:
            with contextlib.ExitStack() as stack:
                boxes, times, scores = (stack.enter_context(contextlib.closing(LineFile(path))) for path in parts)
                yield ResultWriter(boxes, times, scores, first_pixel)
            for part, final in zip(reversed(parts), reversed(finals), strict=True):
                _complete(part, final)
        finally:
            for path in parts:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _file(self, sequence: str, ending: str) -> Path:
        return self.path / f"{sequence}{ending}"


class ResultWriter:
    """Takes one frame after the other; each is in the files when `write` returns."""

    def __init__(self, boxes: LineFile, times: LineFile, scores: LineFile, first_pixel: int) -> None:
        self._boxes, self._times, self._scores = boxes, times, scores
        self._offset = np.array([first_pixel, first_pixel, 0.0, 0.0])

    def write(self, box_xywh: BoxXYWH, seconds: float, score: float) -> None:
        """Append a frame: a finite box, 0-based.

        Raises:
            SinkError: it cannot be written.
            ValueError: a box that is not four finite numbers, which no reader of these files could take.
        """
        if np.shape(box_xywh) != (4,) or not np.isfinite(box_xywh).all():
            raise ValueError(f"expected a box of four finite numbers from the tracker, got {np.asarray(box_xywh).tolist()}")
        self._boxes.write_line(box_line(box_xywh + self._offset))
        self._times.write_line(f"{seconds:.6f}")
        self._scores.write_line(f"{score:.4f}")


def fit_length(boxes_xywh: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Boxes `(N, 4)` as `(count, 4)`: the last ones cut off, or NaN, which is a miss, where there are none."""
    missing = np.full((max(count - len(boxes_xywh), 0), 4), np.nan)
    return np.concatenate([boxes_xywh[:count], missing])


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sink_error(path, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that nobody ever sees half of it.

    Raises:
        SinkError: it cannot be written; what was there before is kept.
    """
    part = path.with_name(path.name + PART)
    try:
        part.write_text(text, encoding="utf-8")
    except OSError as error:
        part.unlink(missing_ok=True)
        raise sink_error(path, error) from error
    _complete(part, path)


def _complete(part: Path, final: Path) -> None:
    """Give a file its name when its content is on the disk: one that is renamed before may be empty after a power cut."""
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(final)
    except OSError as error:
        raise sink_error(final, error) from error


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _read_numbers(path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(line) for line in read_lines(path)], dtype=np.float64)
    except ValueError as error:
        raise SourceError(f"expected one number per line in {path}: {error}") from error
