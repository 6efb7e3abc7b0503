"""A tiny OTB folder, and trackers that behave badly in the ways that a benchmark must survive."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from sftrack.contracts import BoxXYWH, Estimate, ImageRGB
from sftrack.trackers import register
from tests.conftest import moving_square

FRAMES = 12
SEQUENCES = ("Deer", "Girl", "Jogging-1", "Jogging-2")


def write_otb(root: Path, frames: int = FRAMES) -> Path:
    """`SEQUENCES` in OTB's layout, each with the same moving square."""
    pictures, boxes = moving_square(frames)
    lines = [",".join(f"{value:g}" for value in (x + 1, y + 1, w, h)) for x, y, w, h in boxes]
    for folder, truths in (("Deer", [""]), ("Girl", [""]), ("Jogging", [".1", ".2"])):
        (root / folder / "img").mkdir(parents=True)
        for number, picture in enumerate(pictures, start=1):
            cv2.imwrite(str(root / folder / "img" / f"{number:04d}.jpg"), picture[..., ::-1])
        for truth in truths:
            (root / folder / f"groundtruth_rect{truth}.txt").write_text("\n".join(lines) + "\n")
    return root


class Still:
    """Says the first box for ever."""

    def __init__(self, *, note: object = None) -> None:
        """`note` is taken and ignored: it brings this module into worker processes."""
        self._updates = 0

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._box = box_xywh.copy()

    def update(self, image_rgb: ImageRGB) -> Estimate:
        self._updates += 1
        return Estimate(self._box.copy(), 0.5)


@register("test-still")
class _Still(Still):
    pass


@register("test-raises")
class Raises(Still):
    """Fails on its fourth frame."""

    def update(self, image_rgb: ImageRGB) -> Estimate:
        estimate = super().update(image_rgb)
        if self._updates == 3:
            raise FileNotFoundError("a tracker's own trouble")
        return estimate


@register("test-nan")
class Nan(Still):
    """Loses its box on its fourth frame."""

    def update(self, image_rgb: ImageRGB) -> Estimate:
        estimate = super().update(image_rgb)
        return Estimate(np.full(4, np.nan), 0.0) if self._updates == 3 else estimate


@register("test-exits")
class Exits(Still):
    """Ends the program on its second frame, as some do that cannot go on."""

    def update(self, image_rgb: ImageRGB) -> Estimate:
        raise SystemExit("no licence")


@register("test-holds")
class Holds(Raises):
    """Holds more than memory, and fails like its parent; `held` has those that are not closed yet."""

    made: ClassVar[int] = 0
    held: ClassVar[list["Holds"]] = []

    def __init__(self, *, note: object = None) -> None:
        super().__init__()
        Holds.made += 1
        Holds.held.append(self)

    def close(self) -> None:
        Holds.held.remove(self)


@register("test-random")
class Random(Still):
    """Asks the global generator where the target is."""

    def update(self, image_rgb: ImageRGB) -> Estimate:
        return Estimate(np.array([*np.random.uniform(0, 50, 2), 30.0, 30.0]), 0.5)


@register("test-dies")
class Dies(Still):
    """Takes its process with it, unless that is `parent`, as a library that crashes would."""

    def __init__(self, *, note: object = None, parent: int = 0) -> None:
        super().__init__()
        self._parent = parent

    def update(self, image_rgb: ImageRGB) -> Estimate:
        if self._updates == 2 and os.getpid() != self._parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(image_rgb)


@register("test-slow")
class Slow(Random):
    """Takes its time, so that a machine can be lost meanwhile."""

    def update(self, image_rgb: ImageRGB) -> Estimate:
        time.sleep(0.02)
        return super().update(image_rgb)


class Note:
    """Unpickled in a worker process, it imports this module, which registers the trackers there."""
