"""Generated clips of one textured object with known truth, and trackers that do exactly what a test tells them."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from sftrack.boxes import box_around
from sftrack.contracts import BoxXYWH, Estimate, ImageRGB

SIZE_WH = (240, 160)


def texture(size_wh: tuple[int, int], seed: int, low: int, high: int, grain_px: int = 6) -> ImageRGB:
    """Smooth coloured blobs of `grain_px`: something to hold on to for gradients, flow and colours."""
    rng = np.random.default_rng(seed)
    small = rng.integers(low, high, (max(size_wh[1] // grain_px, 2), max(size_wh[0] // grain_px, 2), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, size_wh, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@dataclass(frozen=True)
class Scene:
    """A warm textured ellipse over a cool, dim ground."""

    object_wh: tuple[int, int] = (44, 36)
    size_wh: tuple[int, int] = SIZE_WH

    def render(self, center_xy: tuple[float, float] | None) -> tuple[ImageRGB, np.ndarray]:
        """The picture with the object at a place (None: without it), and the object's mask `(H, W) bool`."""
        image = texture(self.size_wh, 1, 20, 110, grain_px=10)
        image[..., 0] //= 2
        mask = np.zeros(image.shape[:2], dtype=bool)
        if center_xy is None:
            return image, mask
        x, y, w, h = self.box(center_xy)
        ys, xs = np.mgrid[: self.size_wh[1], : self.size_wh[0]] + 0.5
        mask = ((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 <= 1.0
        skin = texture(self.object_wh, 2, 120, 255)
        skin[..., 2] //= 4
        padded = np.zeros((self.size_wh[1] + 2 * h, self.size_wh[0] + 2 * w, 3), dtype=np.uint8)
        padded[y + h : y + 2 * h, x + w : x + 2 * w] = skin
        image[mask] = padded[h:-h, w:-w][mask]
        return image, mask

    def box(self, center_xy: tuple[float, float]) -> tuple[int, int, int, int]:
        x, y, w, h = box_around(np.array(center_xy), np.array(self.object_wh, dtype=np.float64))
        return round(x), round(y), int(w), int(h)


def straight_clip(frames: int, step_xy: tuple[float, float] = (3.0, 1.5), start_xy: tuple[float, float] = (60.0, 50.0)) -> "Clip":
    """The object moves evenly."""
    return clip_along([(start_xy[0] + step_xy[0] * t, start_xy[1] + step_xy[1] * t) for t in range(frames)])


@dataclass(frozen=True)
class Clip:
    """Pictures, and the object's box in each, `(T, 4)`; NaN where it is not there."""

    images_rgb: list[ImageRGB]
    boxes_xywh: np.ndarray


def clip_along(path: Iterable[tuple[float, float] | None], scene: Scene | None = None) -> Clip:
    """The object along a path of centres; None where it is away."""
    scene = scene or Scene()
    images, boxes = [], []
    for center in path:
        images.append(scene.render(center)[0])
        boxes.append(scene.box(center) if center else (np.nan,) * 4)
    return Clip(images, np.array(boxes, dtype=np.float64))


class Scripted:
    """A tracker that answers from a list, one entry per frame after the first `init`; an exception in the list is raised.

    It remembers on which boxes it was started, which arrays it was given and in which threads it ran.
    """

    def __init__(self, answers: Iterable[object], *, failing_inits: int = 0, on_update: Callable[[], None] | None = None) -> None:
        self.answers = list(answers)
        self.failing_inits = failing_inits
        self.on_update = on_update
        self.started_on: list[BoxXYWH] = []
        self.updates = 0
        self.threads: set[str] = set()
        self.seen: list[tuple[str, int]] = []

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self.threads.add(threading.current_thread().name)
        self.seen.append(("init", id(image_rgb)))
        if self.failing_inits:
            self.failing_inits -= 1
            raise RuntimeError("no start today\nsecond line")
        self.started_on.append(box_xywh.copy())

    def update(self, image_rgb: ImageRGB) -> Estimate:
        self.threads.add(threading.current_thread().name)
        self.seen.append(("update", id(image_rgb)))
        answer = self.answers[min(self.updates, len(self.answers) - 1)]
        self.updates += 1
        if self.on_update:
            self.on_update()
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Estimate):
            return answer
        return Estimate(np.asarray(answer, dtype=np.float64), 0.9)
