"""Videos and their masks on disk: folders of numbered pictures, one video or a folder of videos (as in DAVIS)."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sftrack.datasets.sequence import image_files, read_mask
from sftrack.errors import SinkError, SourceError
from sftrack.flow import MIN_SIDE_PX
from sftrack.pictures import read_picture, read_rgb
from sftrack.segment.links import MaskedFrame, Plane
from sftrack.sinks.files import sink_error
from sftrack.sources.frames import natural_key


@dataclass(frozen=True)
class Video:
    """Files of one video, one per frame in each tuple.

    Attributes:
        name: its folder's.
        frames: pictures.
        masks: per method, in the order in which they were given.
        truth: true masks, if known.
        out: folder for the results, if there are to be any.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    truth: tuple[Path, ...] | None = None
    out: Path | None = None

    def __len__(self) -> int:
        return len(self.frames)


def find_videos(masks: Sequence[Path], frames: Path, truth: Path | None = None, out: Path | None = None) -> list[Video]:
    """Match the folders with each other.

    A folder with folders in it holds a video in each, of which those with masks in the first of `masks` are taken; any other folder is
    one video. Files belong together by their names without suffix, or in their order where no name agrees.

    Raises:
        SourceError: a missing, unreadable or empty folder, a video or a mask that is missing somewhere, a video too short to be scored.
    """
    folders = {folder: _subfolders(folder) for folder in (frames, *masks, *([truth] if truth else []))}
    if not folders[frames]:
        return [_match(frames.resolve().name, frames, list(masks), truth, out)]
    names = folders[masks[0]]
    if not names:
        raise SourceError(f"expected a folder of masks per video in '{masks[0]}', as '{frames}' has several videos; found none")
    return [_match(name, frames / name, [folder / name for folder in masks], truth and truth / name, out and out / name) for name in names]


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if os.path.isdir(path) and not path.name.startswith("."))
    except OSError as error:
        raise SourceError(f"expected a folder at '{folder}', it cannot be read: {error.strerror}; check the path") from error


def _match(name: str, frames: Path, masks: list[Path], truth: Path | None, out: Path | None) -> Video:
    pictures = _pictures(frames)
    found = tuple(_of_frames(folder, frames, pictures) for folder in masks)
    if truth and len(pictures) < 3:
        raise SourceError(f"expected at least 3 frames to compare '{frames}' with the truth, got {len(pictures)}; leave out --gt")
    return Video(name, pictures, found, _of_frames(truth, frames, pictures) if truth else None, out)


def _pictures(folder: Path) -> tuple[Path, ...]:
    files = sorted(image_files(folder), key=natural_key)
    first_of: dict[str, Path] = {}
    for path in files:
        if first_of.setdefault(path.stem, path) is not path:
            raise SourceError(f"expected one picture per name in '{folder}', got {first_of[path.stem].name} and {path.name}; remove one")
    return tuple(files)


def _of_frames(folder: Path, frames: Path, pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    files = _pictures(folder)
    by_stem = {path.stem: path for path in files}
    missing = [path.stem for path in pictures if path.stem not in by_stem]
    if not missing:
        return tuple(by_stem[path.stem] for path in pictures)
    if len(missing) == len(pictures) == len(files):
        return files
    raise SourceError(
        f"expected one mask per frame, '{folder}' has {len(files)} masks and '{frames}' {len(pictures)} frames "
        f"(no mask for '{missing[0]}'); give folders of the same frames"
    )


MOST_LABELS = 32
"""Levels of grey, 0 included, that a label map has at most; DAVIS and YouTube-VOS have up to 21. A dim soft mask has more."""


def read_masks(files: Sequence[Path]) -> Iterator[Plane]:
    """The masks of one method on one video, read one at a time as soft masks `(H, W) float32` in [0, 1].

    Coloured pictures are label maps: all that is not black is object. So are those with colours in their palette, as the indexed PNGs
    of DAVIS-2017, whichever of them the picture shows. Grey pictures are soft, from 0 to the largest value of their type (0/255 masks are
    a case of it), unless they hold a few levels only in the whole video (`MOST_LABELS`), none of them above half of that, as in a label
    map saved as grey levels: then all above 0 is object.
    """
    are_labels = _are_labels(files)
    for path in files:
        grey = _grey(path)
        yield (grey > 0).astype(np.float32) if are_labels else grey


def _are_labels(files: Sequence[Path]) -> bool:
    """Reads masks until one says no: mostly the first one with the object in it."""
    levels: set[float] = set()
    for path in files:
        grey = _grey(path)
        levels.update(np.unique(grey).tolist())
        if grey.max() > 0.5 or len(levels) > MOST_LABELS:
            return False
    return True


def _grey(path: Path) -> Plane:
    picture = read_picture(path, cv2.IMREAD_UNCHANGED, "a mask image")
    levels = {"uint8": 255, "uint16": 65535}.get(picture.dtype.name)
    if levels is None:
        raise SourceError(f"expected a mask of 8 or 16 bits, '{path}' has {picture.dtype}; save it as PNG")
    if picture.ndim == 3:
        colours = picture[..., :3]
        if _are_colours(colours) or _are_colours(_palette(path)):
            return np.asarray(colours.any(axis=2), dtype=np.float32)
        picture = colours[..., 0]
    return np.asarray(picture / levels, dtype=np.float32)


def _are_colours(values: NDArray[np.generic]) -> bool:
    """Whether any of `(..., 3)` is not grey."""
    return bool((values != values[..., :1]).any())


def _palette(path: Path) -> NDArray[np.uint8]:
    """The colours `(N, 3)` in a picture's palette, of which OpenCV tells only those that are shown; none where it has no palette."""
    try:
        with Image.open(path) as picture:
            colours = picture.getpalette("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # OpenCV reads more kinds, and has no limits to size
        colours = None
    return np.array(colours or [], np.uint8).reshape(-1, 3)


def read_video(video: Video) -> Iterator[MaskedFrame]:
    """The frames with their masks, in order, read one at a time.

    Raises:
        SourceError: a file that cannot be read, sizes that differ or are too small for optical flow.
    """
    readers = [read_masks(files) for files in video.masks]
    size_hw: tuple[int, ...] | None = None
    for index, path in enumerate(video.frames):
        image = read_rgb(path)
        size_hw = size_hw or image.shape[:2]
        if min(size_hw) < MIN_SIDE_PX:
            raise SourceError(f"expected pictures of at least {MIN_SIDE_PX}x{MIN_SIDE_PX}, '{path}' has {size_hw[1]}x{size_hw[0]}")
        _check_size(path, image.shape[:2], size_hw, video.frames[0])
        masks = [next(reader) for reader in readers]
        for files, mask in zip(video.masks, masks, strict=True):
            _check_size(files[index], mask.shape, size_hw, path)
        truth = None
        if video.truth is not None:
            truth = read_mask(video.truth[index])
            _check_size(video.truth[index], truth.shape, size_hw, path)
        yield MaskedFrame(image, np.stack(masks, axis=2), truth)


def _check_size(path: Path, size_hw: tuple[int, ...], wanted_hw: tuple[int, ...], like: Path) -> None:
    if size_hw != wanted_hw:
        shown, wanted = (f"{size[1]}x{size[0]}" for size in (size_hw, wanted_hw))
        raise SourceError(f"expected '{path}' to have the size of '{like}', {wanted}, it has {shown}; resize it to that")


def check_out(video: Video, *, overwrite: bool) -> None:
    """Refuse a folder for the results that is one of the inputs, or holds masks already and is not to be overwritten.

    Raises:
        SinkError: it is refused.
    """
    if video.out is None:
        return
    inputs = {files[0].resolve().parent for files in (video.frames, *video.masks, *([video.truth] if video.truth else []))}
    if video.out.resolve() in inputs:
        raise SinkError(f"expected another folder than the inputs for the results, got '{video.out}'; give another --out")
    former = _former(video.out)
    if former and not overwrite:
        raise SinkError(f"'{video.out}' already holds masks ({former[0].name}); give another --out, or --overwrite to replace them")


def make_out(folder: Path) -> None:
    """Make the folder for a video's results, without the masks of a former run.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in _former(folder):
            path.unlink()
    except OSError as error:
        raise sink_error(folder, error) from error


def _former(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png")) if os.path.isdir(folder) else []  # Path.is_dir raises where a name is too long
