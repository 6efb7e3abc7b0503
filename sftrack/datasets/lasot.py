"""LaSOT (Fan et al., CVPR 2019), the 280 test sequences. 1-based files become 0-based here.

`<class>/<sequence>/img/*.jpg` or, as some have it, `<sequence>/img/*.jpg`; beside `img/` are `groundtruth.txt` and the flags
`full_occlusion.txt` and `out_of_view.txt`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.datasets.sequence import Sequence, find_base, image_files, one_based, pair, read_boxes, read_lines
from sftrack.datasets.tables import rows
from sftrack.errors import SourceError


def lasot_names(root: Path) -> tuple[str, ...]:
    """Test sequences under `root` that have both images and truth.

    Raises:
        SourceError: none.
    """
    base = _base(root)
    folders = {name: _folder(base, name) for name in rows("lasot")}
    names = tuple(name for name, folder in folders.items() if (folder / "groundtruth.txt").is_file() and (folder / "img").is_dir())
    if not names:
        raise SourceError(f"expected test sequences of LaSOT, e.g. {base / 'airplane' / 'airplane-1'}, found none")
    return names


def read_lasot(root: Path, name: str) -> Sequence:
    """One sequence; NaN where the target is fully hidden or out of view.

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    folder = _folder(_base(root), name)
    boxes = one_based(read_boxes(folder / "groundtruth.txt"))
    frames, notes = pair(image_files(folder / "img"), len(boxes), f"LaSOT/{name}")
    is_absent = _flags(folder / "full_occlusion.txt", len(boxes)) | _flags(folder / "out_of_view.txt", len(boxes))
    boxes[is_absent] = np.nan
    return Sequence(name, "LaSOT", frames, boxes, first_pixel=1, notes=notes)


def _base(root: Path) -> Path:
    return find_base(root, ("LaSOT", "LaSOTBenchmark", "LaSOTTesting"), ("*/*/groundtruth.txt", "*-[0-9]*/groundtruth.txt"), "LaSOT")


def _folder(base: Path, name: str) -> Path:
    nested = base / name.rpartition("-")[0] / name
    return nested if nested.is_dir() else base / name


def _flags(path: Path, count: int) -> NDArray[np.bool_]:
    """A file of `count` zeros and ones, in one line or several; all False where there is none."""
    if not path.is_file():
        return np.zeros(count, dtype=np.bool_)
    flags = " ".join(read_lines(path)).replace(",", " ").split()
    if len(flags) != count:
        raise SourceError(f"expected {count} flags in {path}, one per true box, found {len(flags)}")
    return np.array([float(flag) > 0 for flag in flags])
