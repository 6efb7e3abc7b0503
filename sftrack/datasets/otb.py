"""OTB-100 (Wu, Lim, Yang, TPAMI 2015). Its files are 1-based; everything that leaves this module is 0-based."""

from pathlib import Path
from typing import NamedTuple

from sftrack.datasets.sequence import Sequence, image_files, read_boxes
from sftrack.errors import SourceError


class _Range(NamedTuple):
    first: int  # number of the first image file that counts
    last: int
    skipped_rows: int = 0  # rows of the truth before `first`


# The ranges of the benchmark's paper; all other sequences use every image.
_RANGES = {
    "BlurCar1": _Range(247, 988),
    "BlurCar3": _Range(3, 359),
    "BlurCar4": _Range(18, 397),
    "David": _Range(300, 770),
    "Diving": _Range(1, 215),
    "Football1": _Range(1, 74),
    "Freeman3": _Range(1, 460),
    "Freeman4": _Range(1, 283),
    "Tiger1": _Range(6, 354, 5),
}


def otb_names(root: Path) -> tuple[str, ...]:
    """Targets that lie under `root`; a folder with several truth files gives one name per target (`Jogging.1`, `Jogging.2`).

    Raises:
        SourceError: no OTB sequence under `root`.
    """
    names: list[str] = []
    folders = sorted(path for path in root.iterdir() if (path / "img").is_dir()) if root.is_dir() else []
    for folder in folders:
        truths = sorted(folder.glob("groundtruth_rect*.txt"))
        if len(truths) == 1:
            names.append(folder.name)
        else:
            names.extend(f"{folder.name}{path.stem.removeprefix('groundtruth_rect')}" for path in truths)
    if not names:
        raise SourceError(f"expected OTB sequences (folders with img/ and groundtruth_rect.txt) under {root}, found none")
    return tuple(names)


def read_otb(root: Path, name: str) -> Sequence:
    """One target, by the name that `otb_names` gives.

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    folder_name, _, target = name.partition(".")
    folder = root / folder_name
    truths = sorted(folder.glob(f"groundtruth_rect.{target}.txt" if target else "groundtruth_rect*.txt"))
    if len(truths) != 1:
        raise SourceError(f"expected one truth file for OTB100/{name} in {folder}, found {len(truths)}")
    boxes = read_boxes(truths[0])
    frames = image_files(folder / "img")
    limits = _RANGES.get(folder_name)
    if limits is not None:
        frames = tuple(path for path in frames if limits.first <= int(path.stem) <= limits.last)
        boxes = boxes[limits.skipped_rows :]
    count = min(len(frames), len(boxes))
    if len(frames) < len(boxes):
        raise SourceError(f"expected {len(boxes)} images in {folder / 'img'}, one per true box, found {len(frames)}")
    boxes = boxes[:count]
    boxes[:, :2] -= 1.0  # the only place where OTB's 1-based pixels become edges counted from 0
    return Sequence(name, "OTB100", frames[:count], boxes)
