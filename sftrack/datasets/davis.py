"""DAVIS-2016, 480p (Perazzi et al., CVPR 2016): one object mask per frame, from which the true boxes are made."""

from pathlib import Path

import numpy as np

from sftrack.boxes import box_of_mask
from sftrack.datasets.sequence import Sequence, find_base, image_files, read_mask
from sftrack.errors import SourceError


def davis_names(root: Path) -> tuple[str, ...]:
    """Sequences that lie under `root` (the folder with `JPEGImages`).

    Raises:
        SourceError: `root` is not a DAVIS folder.
    """
    return tuple(sorted(path.name for path in (_base(root) / "JPEGImages" / "480p").iterdir() if path.is_dir()))


def read_davis(root: Path, name: str) -> Sequence:
    """One sequence; boxes are the half-open extremes of the masks, NaN where the object is absent.

    Raises:
        SourceError: a missing folder, or counts of frames and masks that differ.
    """
    base = _base(root)
    masks = image_files(base / "Annotations" / "480p" / name)
    frames = image_files(base / "JPEGImages" / "480p" / name)
    if [path.stem for path in frames] != [path.stem for path in masks]:
        raise SourceError(f"expected one mask per frame for DAVIS/{name}, got {len(frames)} frames and {len(masks)} masks")
    boxes = np.array([box_of_mask(read_mask(path)) for path in masks])
    return Sequence(name, "DAVIS", frames, boxes, masks)


def _base(root: Path) -> Path:
    return find_base(root, ("DAVIS", "DAVIS2016", "DAVIS2017"), ("JPEGImages/480p",), "DAVIS")
