"""TrackingNet (Mueller et al., ECCV 2018), the test set. Boxes are 0-based.

`TEST/frames/<sequence>/<n>.jpg` and `TEST/anno/<sequence>.txt` with the first box only: the others are on the server.
"""

from pathlib import Path

from sftrack.datasets.got10k import only_first
from sftrack.datasets.sequence import Sequence, find_base, image_files, pair, read_boxes
from sftrack.errors import SourceError


def trackingnet_names(root: Path) -> tuple[str, ...]:
    """Test sequences under `root` that have both images and a first box.

    Raises:
        SourceError: none.
    """
    base = _base(root)
    names = tuple(sorted(path.stem for path in (base / "anno").glob("*.txt") if (base / "frames" / path.stem).is_dir()))
    if not names:
        raise SourceError(f"expected TrackingNet sequences in {base}/frames and {base}/anno, found none")
    return names


def read_trackingnet(root: Path, name: str) -> Sequence:
    """One sequence; NaN on all frames that only the server knows.

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    base = _base(root)
    frames, boxes = image_files(base / "frames" / name), read_boxes(base / "anno" / f"{name}.txt")
    notes: tuple[str, ...] = ()
    if len(boxes) == 1:
        boxes = only_first(boxes, len(frames))
    else:
        frames, notes = pair(frames, len(boxes), f"TrackingNet/{name}")
    return Sequence(name, "TrackingNet", frames, boxes, notes=notes)


def _base(root: Path) -> Path:
    return find_base(root, ("TrackingNet",), ("TEST/frames",), "TrackingNet") / "TEST"
