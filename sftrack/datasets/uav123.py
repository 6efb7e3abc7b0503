"""UAV123 (Mueller, Smith, Ghanem, ECCV 2016): sequences whose folder carries their own name. 1-based files become 0-based here."""

from pathlib import Path

from sftrack.datasets.sequence import Sequence, image_files, read_boxes
from sftrack.errors import SourceError


def uav123_names(root: Path) -> tuple[str, ...]:
    """Sequences under `root` that have both images and truth.

    Raises:
        SourceError: no such sequence.
    """
    images, truth = root / "data_seq" / "UAV123", root / "anno" / "UAV123"
    names = tuple(sorted(path.stem for path in truth.glob("*.txt") if (images / path.stem).is_dir()))
    if not names:
        raise SourceError(f"expected UAV123 with data_seq/UAV123 and anno/UAV123 under {root}, found no sequence there")
    return names


def read_uav123(root: Path, name: str) -> Sequence:
    """One sequence; a row of NaN where the target is absent.

    Raises:
        SourceError: missing files, or counts of images and boxes that differ.
    """
    boxes = read_boxes(root / "anno" / "UAV123" / f"{name}.txt")
    boxes[:, :2] -= 1.0
    return Sequence(name, "UAV123", image_files(root / "data_seq" / "UAV123" / name), boxes)
