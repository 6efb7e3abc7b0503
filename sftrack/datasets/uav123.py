"""UAV123 (Mueller, Smith, Ghanem, ECCV 2016) at 30 and at 10 frames/s. 1-based files become 0-based here.

`data_seq/UAV123/<folder>/%06d.jpg` and `anno/UAV123/<sequence>.txt`; several sequences are parts of one folder. The version at 10 frames/s
has every third image, in `UAV123_10fps`.
"""

from pathlib import Path

from sftrack.datasets.sequence import Sequence, find_base, image_files, number_of, one_based, pair, read_boxes
from sftrack.datasets.tables import Row, find_row
from sftrack.errors import SourceError

ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")
"""In the order of the columns of `anno/UAV123/att/*.txt`: scale, aspect ratio, low resolution, fast motion, full and partial occlusion,
out of view, background clutter, illumination, viewpoint, camera motion, similar object."""

EVERY = {"UAV123": 1, "UAV123_10fps": 3}
"""Versions of the data set, and which of the original images they have."""


def uav123_names(root: Path, version: str = "UAV123") -> tuple[str, ...]:
    """Sequences of a version under `root` that have both images and truth.

    Raises:
        SourceError: no such sequence.
    """
    base = _base(root, version)
    images, truth = base / "data_seq" / version, base / "anno" / version
    names = tuple(sorted(path.stem for path in truth.glob("*.txt") if _folder(images, path.stem).is_dir()))
    if not names:
        raise SourceError(f"expected {version} with data_seq/{version} and anno/{version} under {base}, found no sequence there")
    return names


def read_uav123(root: Path, name: str, version: str = "UAV123") -> Sequence:
    """One sequence; a row of NaN where the target is absent.

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    base = _base(root, version)
    row = _row(name)
    boxes = one_based(read_boxes(base / "anno" / version / f"{row.name}.txt"))
    folder = _folder(base / "data_seq" / version, row.name)
    frames = image_files(folder)
    if folder.name != row.name and row.first is not None and row.last is not None:
        first, last = ((number - 1) // EVERY[version] + 1 for number in (row.first, row.last))
        frames = tuple(path for path in frames if first <= number_of(path) <= last)
    frames, notes = pair(frames, len(boxes), f"{version}/{row.name}")
    return Sequence(row.name, version, frames, boxes, first_pixel=1, attributes=_attributes(base, version, row.name), notes=notes)


def _base(root: Path, version: str) -> Path:
    return find_base(root, ("UAV123", "UAV123_10fps", "Dataset_UAV123", "Dataset_UAV123_10fps"), (f"data_seq/{version}",), version)


def _row(name: str) -> Row:
    return find_row("uav123", name.removeprefix("uav_")) or Row(name, name)


def _folder(images: Path, name: str) -> Path:
    """The folder of a sequence: its own, where somebody has cut it out, or the one that it is a part of."""
    return images / name if (images / name).is_dir() else images / _row(name).folder


def _attributes(base: Path, version: str, name: str) -> tuple[str, ...]:
    path = base / "anno" / version / "att" / f"{name}.txt"
    if not path.is_file():
        return ()
    flags = path.read_text(encoding="utf-8").replace(",", " ").split()
    return tuple(short for short, flag in zip(ATTRIBUTES, flags, strict=False) if float(flag))
