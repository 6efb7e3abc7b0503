"""The few videos that training may use: folders with `images/` and either `masks/` or `boxes.txt` (0-based, already scaled)."""

from pathlib import Path

import numpy as np

from sftrack.boxes import box_of_mask
from sftrack.datasets.sequence import Sequence, image_files, read_boxes, read_mask
from sftrack.errors import SourceError


def train_video_names(root: Path) -> tuple[str, ...]:
    """Videos under `root`.

    Raises:
        SourceError: none.
    """
    names = tuple(sorted(path.parent.name for path in root.glob("*/images"))) if root.is_dir() else ()
    if not names:
        raise SourceError(f"expected folders with images/ under {root}, found none")
    return names


def read_train_video(root: Path, name: str) -> Sequence:
    """One video, with masks where it has them.

    Raises:
        SourceError: missing files, or counts that differ.
    """
    frames = image_files(root / name / "images")
    if not (root / name / "masks").is_dir():
        return Sequence(name, "train_videos", frames, read_boxes(root / name / "boxes.txt"))
    masks = image_files(root / name / "masks")
    boxes = np.array([box_of_mask(read_mask(path)) for path in masks])
    return Sequence(name, "train_videos", frames, boxes, masks)
