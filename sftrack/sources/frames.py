"""Frames from a folder of pictures, or from those that match a pattern."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sftrack.contracts import Frame, ImageRGB
from sftrack.errors import SourceError
from sftrack.pictures import read_rgb
from sftrack.sources.base import BaseSource, limited_count

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


class FrameFolderSource(BaseSource):
    """Pictures in natural order (`2.png` before `10.png`); `time_s` is 0 because they carry no time.

    The first readable picture gives the size. An unreadable picture, or one of another size, is left out, counted in
    `decode_failures` and named in the log; where already the first two differ, nobody can tell which one is wrong, and that is an error.
    """

    def __init__(self, pattern_or_dir: str | Path, *, start_frame: int = 0, max_frames: int | None = None) -> None:
        """Find the pictures and read the first.

        Args:
            pattern_or_dir: a folder, a glob such as `shots/*.jpg`, or a numbered name such as `shots/%05d.jpg`.
            start_frame: 0-based position to begin with.
            max_frames: deliver at most so many.

        Raises:
            SourceError: no folder, no pictures, none readable, too large a `start_frame`, or the first two differ in size.
        """
        self._paths = _find_images(pattern_or_dir)
        if start_frame >= len(self._paths):
            raise SourceError(
                f"expected more than {start_frame} images in '{pattern_or_dir}', found {len(self._paths)}; choose a smaller start frame"
            )
        self._start_frame, self._max_frames = start_frame, max_frames
        super().__init__(
            name=_short_name(pattern_or_dir),
            frame_size_wh=_first_size_wh(self._paths[start_frame:], pattern_or_dir),
            frame_count=limited_count(len(self._paths), start_frame, max_frames),
        )

    def __iter__(self) -> Iterator[Frame]:
        delivered = 0
        for index in range(self._start_frame, len(self._paths)):
            if delivered == self._max_frames or self._closed:
                return
            image = self._read(self._paths[index])
            if image is not None:
                delivered += 1
                yield Frame(image, index, 0.0)

    def _read(self, path: Path) -> ImageRGB | None:
        image = _read_image(path)
        if image is None:
            self._count_failure(f"cannot read image '{path.name}'; left out")
            return None
        if image.shape[1::-1] != self.frame_size_wh:
            self._count_failure(
                f"expected images of {_shown(self.frame_size_wh)} pixels like the first one, '{path.name}' has "
                f"{_shown(image.shape[1::-1])}; left out"
            )
            return None
        return image


def _find_images(pattern_or_dir: str | Path) -> list[Path]:
    path = Path(pattern_or_dir)
    if os.path.isdir(path):  # Path.is_dir raises where a name is too long
        found = list(path.iterdir())
    elif os.path.isfile(path):
        found = [path]
    else:
        numbered_as_glob = re.sub(r"%0?\d*d", "[0-9]*", str(pattern_or_dir))
        found = [Path(name) for name in glob.glob(numbered_as_glob)]
        if not found:
            raise SourceError(f"expected a folder of images or a pattern, nothing is at '{pattern_or_dir}'; check the path")
    images = sorted((item for item in found if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file()), key=natural_key)
    if not images:
        kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise SourceError(f"expected images ({kinds}) in '{pattern_or_dir}', found none; check the path, or use --video for a video file")
    return images


def _short_name(pattern_or_dir: str | Path) -> str:
    """The folder's name, also where a pattern of files in it is given."""
    path = Path(pattern_or_dir)
    return (path if path.exists() else path.parent).resolve().name or "frames"


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Runs of digits compare as numbers, everything else as text."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


def _first_size_wh(paths: list[Path], given: str | Path) -> tuple[int, int]:
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        image = _read_image(path)
        if image is None:
            continue
        size_wh = (image.shape[1], image.shape[0])
        if first is None:
            first = (path, size_wh)
            continue
        if size_wh != first[1]:
            raise SourceError(
                f"expected images of one size in '{given}', '{first[0].name}' has {_shown(first[1])} and '{path.name}' "
                f"{_shown(size_wh)} pixels; remove the one that does not belong or start after it"
            )
        break
    if first is None:
        raise SourceError(f"expected images in '{given}', none of its {len(paths)} files can be read; check that they are complete")
    return first[1]


def _read_image(path: Path) -> ImageRGB | None:
    """See `read_rgb`; None where it cannot be read."""
    try:
        return read_rgb(path)
    except SourceError:
        return None


def _shown(size_wh: tuple[int, ...]) -> str:
    return f"{size_wh[0]}x{size_wh[1]}"
