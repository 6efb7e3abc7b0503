"""Need for Speed (Kiani Galoogahi et al., ICCV 2017) at 30 and at 240 frames/s. Boxes are 0-based.

Two layouts: the official `Seq/30/Seq/*.jpg` with `Seq/30/Seq.txt` (also 240), and pytracking's `sequences/Seq/*.jpg` with
`anno/nfs_Seq.txt` (30 only). The official truth is left, top, right, bottom in columns 2 to 5; where the file of the 30 frames/s version
has rows for all of the 240, every eighth counts.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.datasets.sequence import Sequence, find_base, image_files, pair, read_boxes, read_lines
from sftrack.errors import SourceError

RATE_RATIO = 8


def nfs_names(root: Path, rate: int = 30) -> tuple[str, ...]:
    """Sequences under `root` that have both images and truth at `rate` frames/s.

    Raises:
        SourceError: none.
    """
    base = _base(root, rate)
    if _is_official(base, rate):
        names = [path.stem for path in base.glob(f"*/{rate}/*.txt") if path.with_suffix("").is_dir()]
    else:
        names = [path.name for path in (base / "sequences").iterdir() if _plain_truth(base, path.name).is_file()]
    if not names:
        raise SourceError(f"expected NFS sequences at {rate} frames/s with images and truth under {base}, found none")
    return tuple(sorted(names))


def read_nfs(root: Path, name: str, rate: int = 30) -> Sequence:
    """One sequence at 30 or 240 frames/s.

    Raises:
        SourceError: missing files, lines that are not as described above, or fewer images than true boxes.
    """
    base, name = _base(root, rate), name.removeprefix("nfs_")
    if _is_official(base, rate):
        frames = image_files(base / name / str(rate) / name)
        boxes = _corners(base / name / str(rate) / f"{name}.txt")
        if abs(len(boxes) / len(frames) - RATE_RATIO) < 1.0:
            boxes = boxes[::RATE_RATIO]
    else:
        frames = image_files(base / "sequences" / name)
        boxes = read_boxes(_plain_truth(base, name))
    if len(boxes) == len(frames) + 1:  # known of this data set: the last row of some files is one too many
        boxes = boxes[:-1]
    frames, notes = pair(frames, len(boxes), f"NFS{rate}/{name}")
    return Sequence(name, f"NFS{rate}", frames, boxes, notes=notes)


def _base(root: Path, rate: int) -> Path:
    marks = (f"*/{rate}/*.txt", "sequences") if rate == 30 else (f"*/{rate}/*.txt",)
    return find_base(root, ("NFS",), marks, f"NFS at {rate} frames/s")


def _is_official(base: Path, rate: int) -> bool:
    return next(base.glob(f"*/{rate}/*.txt"), None) is not None


def _plain_truth(base: Path, name: str) -> Path:
    return base / "anno" / f"nfs_{name}.txt"


def _corners(path: Path) -> NDArray[np.float64]:
    """Columns 2 to 5 of the official file as `(N, 4)` x, y, w, h."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            left, top, right, bottom = (float(text) for text in line.split()[1:5])
        except ValueError as error:
            raise SourceError(f"expected left, top, right, bottom in columns 2 to 5 of line {number} of {path}, got '{line}'") from error
        rows.append([left, top, right - left, bottom - top])
    if not rows:
        raise SourceError(f"expected true boxes in {path}, it is empty")
    return np.array(rows, dtype=np.float64)
