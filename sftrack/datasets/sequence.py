"""One annotated video of a data set, read lazily."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB
from sftrack.errors import SourceError
from sftrack.pictures import read_picture, read_rgb


@dataclass(frozen=True, eq=False)
class Sequence:
    """Frames with one target's true boxes.

    Attributes:
        name: name inside its data set, e.g. `dog`, `Jogging-1`.
        dataset: a name that `sftrack.datasets.read_sequence` takes, e.g. `OTB100`.
        frame_paths: one image file per frame, in order.
        boxes_xywh: `(N, 4) float64`, 0-based edges; a row of NaN where the target is absent, or where only a server knows it.
        mask_paths: one label image per frame (value > 0 = target), where the data set has them.
        first_pixel: what the data set's own files call the first pixel, 0 or 1; to be added to x, y of a result that others shall read.
        attributes: short names of what makes it hard, where the data set says so.
        notes: what a user should know about its files, each a line; mostly none.
    """

    name: str
    dataset: str
    frame_paths: tuple[Path, ...]
    boxes_xywh: NDArray[np.float64]
    mask_paths: tuple[Path, ...] | None = None
    first_pixel: int = 0
    attributes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.frame_paths)
        if self.boxes_xywh.shape != (count, 4):
            raise SourceError(f"expected {count} true boxes for {self.dataset}/{self.name}, got an array of shape {self.boxes_xywh.shape}")
        if self.mask_paths is not None and len(self.mask_paths) != count:
            raise SourceError(f"expected {count} masks for {self.dataset}/{self.name}, got {len(self.mask_paths)}")

    def __len__(self) -> int:
        return len(self.frame_paths)

    @property
    def is_judged(self) -> bool:
        """Whether the truth of more than the first frame is known."""
        return bool(np.isfinite(self.boxes_xywh[1:]).all(axis=1).any())

    def frame(self, index: int) -> ImageRGB:
        """`(H, W, 3) uint8` in RGB order.

        Raises:
            SourceError: the file is missing or is not an image.
        """
        return read_rgb(self.frame_paths[index])

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRGB]:
        """Frames `start` to `stop - 1`, read one at a time."""
        for index in range(*slice(start, stop).indices(len(self))):
            yield self.frame(index)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """`(H, W) bool`, True on the target.

        Raises:
            SourceError: the sequence has no masks, or the file cannot be read.
        """
        if self.mask_paths is None:
            raise SourceError(f"expected masks for {self.dataset}/{self.name}, but this sequence has boxes only")
        return read_mask(self.mask_paths[index])


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A label image as `(H, W) bool`, True where the label is above 0, in whichever colour; transparency does not count.

    Raises:
        SourceError: not a readable image.
    """
    labels = read_picture(path, cv2.IMREAD_UNCHANGED, "a mask image")
    return np.asarray(labels > 0 if labels.ndim == 2 else (labels[..., :3] > 0).any(axis=2), dtype=np.bool_)


def read_boxes(path: Path) -> NDArray[np.float64]:
    """A text file of boxes, separated by commas, tabs or blanks, as `(N, 4) float64` x, y, w, h; `NaN` is allowed.

    A line holds four numbers x, y, w, h, or the corners x1, y1, x2, y2, ... of a polygon, whose upright bounding box is taken.

    Raises:
        SourceError: missing, no line at all, or a line that holds anything else.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            values = np.array(line.replace(",", " ").split(), dtype=np.float64)
        except ValueError:
            values = np.zeros(0)
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise SourceError(f"expected four numbers x,y,w,h in line {number} of {path}, got '{line.strip()}'")
        rows.append(values if len(values) == 4 else _around(values.reshape(-1, 2)))
    if not rows:
        raise SourceError(f"expected true boxes in {path}, it is empty")
    return np.array(rows, dtype=np.float64)


def _around(corners_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upright bounding box of a polygon `(K, 2)`."""
    top_left = corners_xy.min(axis=0)
    return np.concatenate([top_left, corners_xy.max(axis=0) - top_left])


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        SourceError: missing, or not text.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"expected a text file of boxes at {path}: {error}") from error


def pair(frames: tuple[Path, ...], count: int, what: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """One image per true box: the first `count` images, and a note where more were there.

    Raises:
        SourceError: fewer images than boxes.
    """
    if len(frames) < count:
        folder = f" in {frames[0].parent}" if frames else ""
        raise SourceError(f"expected {count} images of {what}, one per true box, found {len(frames)}{folder}")
    spare = len(frames) - count
    return frames[:count], (f"{what}: {spare} more images than true boxes; the last ones are left out",) if spare else ()


def find_base(root: Path, folders: tuple[str, ...], marks: tuple[str, ...], what: str) -> Path:
    """The folder of a data set: `root` itself or one of `folders` in it, whichever has what matches a mark.

    Args:
        folders: names that people give it; capitals, `_` and `-` do not matter.
        marks: glob patterns, e.g. `*/img`.
        what: name of the data set, for the message.

    Raises:
        SourceError: none of them does.
    """
    known = [_plain(name) for name in folders]
    inside = [path for path in sorted(root.glob("*")) if _plain(path.name) in known]
    for folder in (root, *sorted(inside, key=lambda path: known.index(_plain(path.name)))):
        if folder.is_dir() and any(next(folder.glob(mark), None) is not None for mark in marks):
            return folder
    shown = " or ".join(str(root / mark) for mark in marks)
    raise SourceError(f"expected {what} at {root} (or in {'/, '.join(folders)}/ under it): no {shown}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in the order of their numbers.

    Raises:
        SourceError: no such folder, one that cannot be read, or no images in it.
    """
    try:
        # ._0001.jpg, which macOS leaves beside every file on a disk of another system, is no image
        files = [path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"} and not path.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"expected a folder of images at {folder}, it cannot be read: {error.strerror}; check the path") from error
    if not files:
        raise SourceError(f"expected images in {folder}, found none")
    return tuple(sorted(files, key=lambda path: (number_of(path), path.stem)))


def number_of(path: Path) -> int:
    """The number that an image's name is, -1 where it is something else."""
    return int(path.stem) if path.stem.isdecimal() else -1


def one_based(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes `(N, 4)` of files that call the first pixel 1, as edges counted from 0. The only place where this is done."""
    return np.asarray(boxes_xywh - np.array([1.0, 1.0, 0.0, 0.0]), dtype=np.float64)
