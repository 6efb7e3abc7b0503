"""GOT-10k (Huang, Zhao, Huang, TPAMI 2019), validation and test. 1-based files become 0-based here.

`val/<sequence>/*.jpg` with `groundtruth.txt` (in the test set its first line only: the rest is on the server) and `cover.label` (0:
absent); `val/list.txt` has the names.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.datasets.sequence import Sequence, find_base, image_files, one_based, pair, read_boxes, read_lines
from sftrack.errors import SourceError


def got10k_names(root: Path, subset: str = "val") -> tuple[str, ...]:
    """Sequences of `val` or `test` that lie under `root`, in the order of `list.txt` where there is one.

    Raises:
        SourceError: none.
    """
    folder = _folder(root, subset)
    names = read_lines(folder / "list.txt") if (folder / "list.txt").is_file() else sorted(path.name for path in folder.iterdir())
    found = tuple(name.strip() for name in names if (folder / name.strip() / "groundtruth.txt").is_file())
    if not found:
        raise SourceError(f"expected GOT-10k sequences (folders with groundtruth.txt) in {folder}, found none")
    return found


def read_got10k(root: Path, name: str, subset: str = "val") -> Sequence:
    """One sequence; NaN where the target is absent and, in the test set, where only the server knows it.

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    folder = _folder(root, subset) / name
    frames, boxes = image_files(folder), one_based(read_boxes(folder / "groundtruth.txt"))
    notes: tuple[str, ...] = ()
    if len(boxes) == 1:
        boxes = only_first(boxes, len(frames))
    else:
        frames, notes = pair(frames, len(boxes), f"GOT-10k_{subset}/{name}")
        boxes[~_is_visible(folder, len(boxes))] = np.nan
    return Sequence(name, f"GOT-10k_{subset}", frames, boxes, first_pixel=1, notes=notes)


def only_first(boxes_xywh: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The one box that is known, `(1, 4)`, and NaN for the other frames: `(count, 4)`."""
    return np.concatenate([boxes_xywh, np.full((count - 1, 4), np.nan)])


def _is_visible(folder: Path, count: int) -> NDArray[np.bool_]:
    if not (folder / "cover.label").is_file():
        return np.ones(count, dtype=np.bool_)
    cover = np.array([float(line) for line in read_lines(folder / "cover.label")])
    if len(cover) != count:
        raise SourceError(f"expected {count} lines in {folder / 'cover.label'}, one per true box, found {len(cover)}")
    is_visible = cover > 0
    is_visible[0] = True
    return is_visible


def _folder(root: Path, subset: str) -> Path:
    return find_base(root, ("GOT-10k",), (f"{subset}/*/groundtruth.txt",), f"GOT-10k {subset}") / subset
