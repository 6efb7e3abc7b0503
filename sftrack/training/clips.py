"""Made-up training videos: an object cut from one photo moves, turns, bends and is hidden for a while in front of another photo.

They stand in for the annotated videos that the paper trains its later phases on, of which only a few are at hand. All randomness
comes from the generator that is passed in.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, box_of_mask, center_xy, clip_box
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.training.photos import Item, PhotoSet

Alpha = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A video with the truth: images `(H, W, 3) uint8` and boxes `(T, 4)`, clipped to the frame."""

    images_rgb: list[ImageRGB]
    boxes_xywh: NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """A smooth random path: centre `(T, 2)` in frame pixels, `scale (T,)`, `angle (T,)`, amplitude of bending in object sizes."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    angle: NDArray[np.float64]
    bend: float


@dataclass(frozen=True)
class CutOut:
    """An object on its own: colours `(h, w, 3) uint8` and coverage `(h, w) float32`."""

    image_rgb: ImageRGB
    alpha: Alpha


def cut_out(photos: PhotoSet, item: Item) -> CutOut:
    """The object of one item with a margin of two pixels."""
    picture = photos.pictures[item.picture]
    mask = picture.labels == item.label
    x, y, w, h = box_of_mask(mask).astype(int)
    rows, columns = slice(max(y - 2, 0), y + h + 2), slice(max(x - 2, 0), x + w + 2)
    alpha = cv2.GaussianBlur(mask[rows, columns].astype(np.float32), (0, 0), 0.8)
    return CutOut(picture.image_rgb[rows, columns], np.asarray(alpha, dtype=np.float32))


def _walk(rng: np.random.Generator, frames: int, step: float, damping: float = 0.85) -> NDArray[np.float64]:
    """A random walk with inertia, starting at 0."""
    velocity, path, position = rng.normal(0.0, step), [0.0], 0.0
    for _ in range(frames - 1):
        velocity = damping * velocity + rng.normal(0.0, step * 0.6)
        position += velocity
        path.append(position)
    return np.array(path)


def _reflect(path: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Fold a path back into an interval."""
    span = max(high - low, 1.0)
    return low + span - np.abs((path - low) % (2.0 * span) - span)


def random_motion(rng: np.random.Generator, frames: int, size_wh: tuple[int, int], object_px: float, cut: CutOut) -> Motion:
    """A path inside the frame; one in four is fast or jerky."""
    speed = object_px * (rng.uniform(0.02, 0.05) if rng.random() < 0.75 else rng.uniform(0.08, 0.18))
    start = rng.uniform(0.2, 0.8, 2) * size_wh
    x = _reflect(start[0] + _walk(rng, frames, speed), object_px * 0.2, size_wh[0] - object_px * 0.2)
    y = _reflect(start[1] + _walk(rng, frames, speed * 0.7), object_px * 0.2, size_wh[1] - object_px * 0.2)
    base = object_px / float(np.sqrt(cut.alpha.shape[0] * cut.alpha.shape[1]))
    scale = base * np.exp(np.clip(_walk(rng, frames, rng.uniform(0.0, 0.03)), -0.7, 0.7))
    return Motion(np.column_stack([x, y]), scale, _walk(rng, frames, rng.uniform(0.0, 0.04)), float(rng.uniform(0.0, 0.05)))


def _paste(behind: ImageRGB, cut: CutOut, motion: Motion, t: int) -> tuple[ImageRGB, Alpha]:
    """Lay the cut-out over a picture `(H, W, 3)` as it lies in frame `t`; the new picture and the coverage `(H, W)`."""
    height, width = cut.alpha.shape
    scale, angle, (x, y) = motion.scale[t], motion.angle[t], motion.center[t]
    reach = scale * float(np.hypot(width, height)) * 0.6 + 2.0
    rows = slice(max(int(y - reach), 0), max(int(y + reach), 0))
    columns = slice(max(int(x - reach), 0), max(int(x + reach), 0))
    coverage = np.zeros(behind.shape[:2], dtype=np.float32)
    part = behind[rows, columns]
    if not part.size:
        return behind, coverage
    xs, ys = np.meshgrid(np.arange(part.shape[1]) + columns.start - x, np.arange(part.shape[0]) + rows.start - y)
    u = (np.cos(angle) * xs + np.sin(angle) * ys) / (scale * width)
    v = (np.cos(angle) * ys - np.sin(angle) * xs) / (scale * height)
    # Limbs swing: each half moves sideways, back and forth.
    bent = u + motion.bend * np.sin(5.0 * v + 0.45 * t)
    map_x, map_y = ((bent + 0.5) * width - 0.5).astype(np.float32), ((v + 0.5) * height - 0.5).astype(np.float32)
    front = cv2.remap(cut.image_rgb, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(cut.alpha, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)
    coverage[rows, columns] = alpha
    image = behind.copy()
    image[rows, columns] = front * alpha[..., None] + part * (1.0 - alpha[..., None])
    return image, coverage


def _backdrop(photos: PhotoSet, rng: np.random.Generator, frames: int, size_wh: tuple[int, int]) -> list[ImageRGB]:
    """A moving camera over a still photo."""
    photo = photos.backgrounds[rng.integers(len(photos.backgrounds))]
    cover = 1.35 * max(size_wh[0] / photo.shape[1], size_wh[1] / photo.shape[0])
    pan = rng.uniform(0.0, 2.5)
    x, y = _walk(rng, frames, pan), _walk(rng, frames, pan * 0.6)
    zoom, angle = cover * np.exp(np.clip(_walk(rng, frames, 0.004), -0.15, 0.3)), _walk(rng, frames, 0.002)
    views = []
    for t in range(frames):
        matrix = cv2.getRotationMatrix2D((photo.shape[1] / 2.0, photo.shape[0] / 2.0), float(np.degrees(angle[t])), float(zoom[t]))
        matrix[:, 2] += np.array([size_wh[0] - photo.shape[1], size_wh[1] - photo.shape[0]]) / 2.0 + [x[t], y[t]]
        views.append(np.asarray(cv2.warpAffine(photo, matrix, size_wh, borderMode=cv2.BORDER_REFLECT_101), dtype=np.uint8))
    return views


def make_clip(photos: PhotoSet, rng: np.random.Generator, *, frames: int = 40, size_wh: tuple[int, int] = (320, 240)) -> Clip:
    """One video with its truth; half have something that hides the object for some frames, half a second object that looks alike or not."""

    def draw() -> CutOut:
        return cut_out(photos, photos.items[rng.choice(len(photos.items), p=photos.probabilities)])

    target = draw()
    object_px = float(np.exp(rng.uniform(np.log(24.0), np.log(110.0))))
    motion = random_motion(rng, frames, size_wh, object_px, target)
    other = target if rng.random() < 0.4 else draw()
    beside = random_motion(rng, frames, size_wh, object_px * rng.uniform(0.7, 1.3), other) if rng.random() < 0.5 else None
    cover, hidden = draw(), int(rng.integers(8, frames)) if rng.random() < 0.5 else None
    gain, blur = 1.0 + _walk(rng, frames, 0.01), rng.random() < 0.3
    images, boxes = [], []
    for t, image in enumerate(_backdrop(photos, rng, frames, size_wh)):
        if beside is not None:
            image, _ = _paste(image, other, beside, t)
        image, alpha = _paste(image, target, motion, t)
        visible = alpha > 0.5
        if not visible.any():
            break
        if hidden is not None and abs(t - hidden) < 6:
            image = _hide(image, cover, motion.center[t], object_px, (t - hidden) / 6.0)
        if blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2), dtype=np.uint8)
        noise = rng.integers(-3, 4, image.shape, dtype=np.int8)
        images.append(np.clip(image * np.float32(gain[t]) + noise, 0, 255).astype(np.uint8))
        boxes.append(box_of_mask(visible))
    return Clip(images, np.array(boxes).reshape(-1, 4))


def _hide(image: ImageRGB, cover: CutOut, center: NDArray[np.float64], object_px: float, phase: float) -> ImageRGB:
    """Something passes in front of the target; `phase` runs from -1 to 1."""
    scale = object_px * 1.2 / float(np.sqrt(cover.alpha.shape[0] * cover.alpha.shape[1]))
    still = Motion((center + np.array([phase * object_px * 1.6, 0.0]))[None], np.array([scale]), np.zeros(1), 0.0)
    return _paste(image, cover, still, 0)[0]


@dataclass(frozen=True)
class BoxStyle:
    """How an annotator draws boxes: tight, loose, or only a part (a face). The four edges move by these shares of width and height."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "BoxStyle":
        """Two in five styles are the tight box itself, a third are loose or skewed, the rest a part."""
        kind = rng.random()
        if kind < 0.4:
            return cls(0.0, 0.0, 0.0, 0.0)
        if kind < 0.75:
            return cls(*rng.normal(0.0, 0.09, 4))
        return cls(
            float(rng.normal(0.08, 0.08)), float(rng.normal(0.0, 0.05)), float(rng.normal(-0.08, 0.08)), float(rng.uniform(-0.65, -0.3))
        )

    def apply(self, box_xywh: BoxXYWH, size_wh: tuple[int, int]) -> BoxXYWH:
        """The styled box, clipped to the frame where something of it remains there."""
        low = box_xywh[:2] + box_xywh[2:] * [self.left, self.top]
        high = box_xywh[:2] + box_xywh[2:] * [1.0 + self.right, 1.0 + self.bottom]
        styled = box_around((low + high) / 2.0, np.maximum(high - low, 2.0))
        clipped = clip_box(styled, size_wh)
        return clipped if clipped[2:].min() >= 2.0 else box_around(center_xy(box_xywh), np.full(2, 4.0))
