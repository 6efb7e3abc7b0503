"""One annotated video of a data set, read lazily."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB
from sftrack.errors import SourceError


@dataclass(frozen=True, eq=False)
class Sequence:
    """Frames with one target's true boxes.

    Attributes:
        name: name inside its data set, e.g. `dog`, `Jogging.1`.
        dataset: `DAVIS`, `OTB100`, `UAV123` or `train_videos`.
        frame_paths: one image file per frame, in order.
        boxes_xywh: `(N, 4) float64`, 0-based edges; a row of NaN where the target is absent.
        mask_paths: one label image per frame (value > 0 = target), where the data set has them.
    """

    name: str
    dataset: str
    frame_paths: tuple[Path, ...]
    boxes_xywh: NDArray[np.float64]
    mask_paths: tuple[Path, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.frame_paths)
        if self.boxes_xywh.shape != (count, 4):
            raise SourceError(f"expected {count} true boxes for {self.dataset}/{self.name}, got an array of shape {self.boxes_xywh.shape}")
        if self.mask_paths is not None and len(self.mask_paths) != count:
            raise SourceError(f"expected {count} masks for {self.dataset}/{self.name}, got {len(self.mask_paths)}")

    def __len__(self) -> int:
        return len(self.frame_paths)

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
    """A label image as `(H, W) bool`, True where the label is above 0.

    Raises:
        SourceError: not a readable image.
    """
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise SourceError(f"expected a mask image at {path}, found none that can be read")
    return np.asarray(labels > 0 if labels.ndim == 2 else (labels > 0).any(axis=2), dtype=np.bool_)


def read_rgb(path: Path) -> ImageRGB:
    """A picture as `(H, W, 3) uint8` in RGB order.

    Raises:
        SourceError: the file is missing or is not an image.
    """
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise SourceError(f"expected an image at {path}, found none that can be read")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def box_of_mask(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The half-open extremes of the True pixels of `(H, W)` as `(4,)` x, y, w, h; NaN where there is none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        return np.full(4, np.nan)
    return np.array([columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]], dtype=np.float64)


def read_boxes(path: Path) -> NDArray[np.float64]:
    """A text file of one `x y w h` per line, separated by commas, tabs or blanks, as `(N, 4) float64`; `NaN` is allowed.

    Raises:
        SourceError: missing, or a line that does not hold four numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"expected a text file of boxes at {path}: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        parts = line.replace(",", " ").split()
        if not parts:
            continue
        try:
            values = [float(part) for part in parts]
        except ValueError:
            values = []
        if len(values) != 4:
            raise SourceError(f"expected four numbers x,y,w,h in line {number} of {path}, got '{line.strip()}'")
        rows.append(values)
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in the order of their numbers.

    Raises:
        SourceError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise SourceError(f"expected a folder of images at {folder}, there is none; is the data set's root right?")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not files:
        raise SourceError(f"expected images in {folder}, found none")
    return tuple(sorted(files, key=lambda path: (int(path.stem) if path.stem.isdigit() else -1, path.stem)))
