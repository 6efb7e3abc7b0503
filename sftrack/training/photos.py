"""Training pictures: photos and video frames with object masks, warped, re-coloured, pasted and boxed at random.

Everything is drawn from one `numpy.random.Generator`, so a seed gives the same pictures.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import box_around, box_of_mask, center_xy
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.pictures import read_picture, read_rgb
from sftrack.window import BORDER_VALUE, rasterise

MIN_OBJECT_PX = 120
"""Objects with fewer mask pixels teach nothing about outlines."""


@dataclass(frozen=True)
class Picture:
    """An image `(H, W, 3) uint8` RGB and its label map `(H, W) uint8`; 0 is background, each other value one object."""

    image_rgb: ImageRGB
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """One object of one picture, with its share in the draw."""

    picture: int
    label: int
    weight: float


SOURCE_WEIGHTS = {"ccp": 0.4, "bsds500": 1.3, "coco128": 2.5, "human_seg": 1.0, "camvid": 1.0}
"""Share of one object of each collection: a thousand street photos of one person each would drown the rest."""

VIDEO_FRAME_WEIGHT = 0.5


class PhotoSet:
    """All training pictures in memory (about 0.5 GB) and the objects that may be drawn."""

    def __init__(self, data_dir: Path, *, validation: bool, validation_every: int = 20) -> None:
        """Read `train/`, `train_videos/` and `photos/` below `data_dir`; every n-th photo is kept for validation."""
        self.pictures: list[Picture] = []
        self.items: list[Item] = []
        with (data_dir / "train" / "index.csv").open(newline="", encoding="utf8") as lines:
            rows = list(csv.DictReader(lines))
        for number, row in enumerate(rows):
            if (number % validation_every == 0) == validation:
                self._add(data_dir / "train", row["name"], SOURCE_WEIGHTS.get(row["source"], 1.0))
        if not validation:
            for video in sorted(path.parent for path in (data_dir / "train_videos").glob("*/masks")):
                for mask in sorted((video / "masks").glob("*.png"))[::2]:
                    self._add(video, mask.stem, VIDEO_FRAME_WEIGHT)
        self.backgrounds = [read_rgb(path) for path in sorted((data_dir / "photos").glob("*.jpg"))]
        weights = np.array([item.weight for item in self.items])
        self.probabilities = weights / weights.sum()

    def _add(self, folder: Path, name: str, weight: float) -> None:
        labels = np.asarray(read_picture(folder / "masks" / f"{name}.png", cv2.IMREAD_GRAYSCALE, "a label map"), dtype=np.uint8)
        found = np.bincount(labels.ravel(), minlength=256)
        objects = [label for label in range(1, 255) if found[label] >= MIN_OBJECT_PX]
        if not objects:
            return
        self.pictures.append(Picture(read_rgb(folder / "images" / f"{name}.jpg"), labels))
        self.items += [Item(len(self.pictures) - 1, label, weight / len(objects) ** 0.5) for label in objects]


@dataclass(frozen=True)
class BoxNoise:
    """How far the given box lies from the true one: a stage of the paper's curriculum (exact, jittered, real channels).

    Attributes:
        spread: 0 for exact boxes; 1 for offsets of about 10 % of the size and scales of about 15 %.
        recorded: `(N, 4)` errors of real channels as `dx/w, dy/h, log dw, log dh`, drawn from in place of the spread half of the time.
    """

    spread: float = 0.0
    recorded: NDArray[np.float64] | None = None

    def apply(self, box_xywh: BoxXYWH, rng: np.random.Generator) -> BoxXYWH:
        """A disturbed box."""
        if self.recorded is not None and rng.random() < 0.5:
            error = self.recorded[rng.integers(len(self.recorded))] * rng.choice([-1.0, 1.0], 4) ** np.array([1, 0, 0, 0])
        else:
            tail = self.spread * (2.0 if rng.random() < 0.15 else 1.0)
            error = rng.normal(0.0, 1.0, 4) * np.array([0.09, 0.09, 0.14, 0.14]) * tail
        size = box_xywh[2:] * np.exp(np.clip(error[2:], -0.8, 0.8))
        return box_around(center_xy(box_xywh) + np.clip(error[:2], -0.6, 0.6) * box_xywh[2:], size)


@dataclass(frozen=True)
class Sample:
    """One training example: image `(S, S, 3) uint8`; given box, visible part of the crop and object mask, each `(S, S) float32`."""

    image_rgb: ImageRGB
    box_image: NDArray[np.float32]
    visible: NDArray[np.float32]
    mask: NDArray[np.float32]


def draw_sample(photos: PhotoSet, rng: np.random.Generator, noise: BoxNoise, size_px: int = 128) -> Sample:
    """Draw an object and show it as the tracker would: in a crop around a box that is about right."""
    while True:
        item = photos.items[rng.choice(len(photos.items), p=photos.probabilities)]
        sample = make_sample(photos, item, rng, noise, size_px, augment=True)
        if sample is not None:
            return sample


def make_sample(photos: PhotoSet, item: Item, rng: np.random.Generator, noise: BoxNoise, size_px: int, *, augment: bool) -> Sample | None:
    """The sample of one object; None where hardly any of it is visible in the crop."""
    picture = photos.pictures[item.picture]
    mask = (picture.labels == item.label).astype(np.uint8) * 255
    matrix = _crop_matrix(box_of_mask(mask > 0), rng, size_px, augment)
    image = _warp(picture.image_rgb, matrix, size_px)
    alpha = _warp(mask, matrix, size_px, border=0).astype(np.float32) / 255.0
    shown = _warp(np.full_like(mask, 255), matrix, size_px, border=0).astype(np.float32) / 255.0
    if augment and rng.random() < 0.08:
        image, alpha = _add_strings(image, alpha, rng)
    if augment and rng.random() < 0.3:
        shown = np.ones_like(alpha)
        image = _blend(_background(photos, rng, size_px), image, alpha, rng)
    if augment and rng.random() < 0.15:
        image, alpha = _occlude(photos, image, alpha, rng, size_px)
    target = alpha > 0.5
    if target.sum() < 60:
        return None
    if augment:
        image = _recolour(image, rng)
    true_box = box_of_mask(target)
    given = noise.apply(true_box, rng)
    return Sample(image, rasterise(given[None], (size_px, size_px))[0], shown, alpha)


def _crop_matrix(box_xywh: BoxXYWH, rng: np.random.Generator, size_px: int, augment: bool) -> NDArray[np.float64]:
    """Affine map from picture to crop: context as in `Window.around`, with random shift, scale, aspect, rotation and mirror."""
    width, height = box_xywh[2:]
    margin = (width + height) / 2.0
    side = np.sqrt((width + margin) * (height + margin))
    if not augment:
        scale = size_px / side
        linear = np.diag([scale, scale])
        shift = np.zeros(2)
    else:
        scale = size_px / (side * np.exp(rng.uniform(-0.35, 0.35)))
        angle = rng.normal(0.0, 0.2) if rng.random() < 0.7 else rng.uniform(-0.8, 0.8)
        stretch = np.exp(rng.normal(0.0, 0.12, 2))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        mirror = np.diag([rng.choice([-1.0, 1.0]), 1.0])
        linear = scale * np.diag(stretch) @ rotation @ mirror
        shift = rng.normal(0.0, 0.07, 2) * size_px
    offset = np.full(2, size_px / 2.0) + shift - linear @ center_xy(box_xywh)
    return np.column_stack([linear, offset])


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], size_px: int, border: int = BORDER_VALUE) -> NDArray[np.uint8]:
    """Warp after shrinking by the nearest area-averaged size, so that strongly reduced pictures do not alias."""
    shrink = 1.0 / max(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1e-3)
    if shrink > 1.5:
        size = (max(round(image.shape[1] / shrink), 1), max(round(image.shape[0] / shrink), 1))
        factor = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix = np.column_stack([matrix[:, :2] * factor, matrix[:, 2]])
    value = (border,) * 3
    return np.asarray(cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderValue=value), dtype=np.uint8)


def _add_strings(image: ImageRGB, alpha: NDArray[np.float32], rng: np.random.Generator) -> tuple[ImageRGB, NDArray[np.float32]]:
    """Lines from the object outwards that belong to it (ropes, leashes, poles): its box then holds mostly background."""
    rows, columns = np.nonzero(alpha > 0.5)
    if not len(rows):
        return image, alpha
    size_px, cover, pixels = len(alpha), np.round(alpha * 255.0).astype(np.uint8), image.astype(np.float32)
    direction, spread, colour = rng.uniform(-np.pi, np.pi), rng.uniform(0.05, 0.5), rng.integers(0, 256, 3).astype(np.float32)
    anchor = rng.integers(len(rows))
    for _ in range(int(rng.integers(1, 9))):
        start = anchor if rng.random() < 0.7 else rng.integers(len(rows))
        angle, length = direction + rng.normal(0.0, spread), size_px * rng.uniform(0.2, 0.7)
        x, y = int(columns[start]), int(rows[start])
        line = np.zeros_like(cover)
        cv2.line(line, (x, y), (int(x + np.cos(angle) * length), int(y + np.sin(angle) * length)), 255, 1, cv2.LINE_AA)
        strength = line[..., None] / np.float32(255.0) * np.float32(rng.uniform(0.3, 1.0))
        pixels += (colour - pixels) * strength
        cover = np.maximum(cover, line)
    return pixels.astype(np.uint8), cover.astype(np.float32) / np.float32(255.0)


def _background(photos: PhotoSet, rng: np.random.Generator, size_px: int) -> ImageRGB:
    """A random square of a random photo."""
    photo = photos.backgrounds[rng.integers(len(photos.backgrounds))]
    side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1.0))
    y, x = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    square = cv2.resize(photo[y : y + side, x : x + side], (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(square[:, :: int(rng.choice([-1, 1]))], dtype=np.uint8)


def _blend(behind: ImageRGB, front: ImageRGB, alpha: NDArray[np.float32], rng: np.random.Generator) -> ImageRGB:
    """Put the object on another background; the edge is softened so that the seam does not give it away."""
    soft = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 1.2)))[..., None]
    return np.asarray(front * soft + behind * (1.0 - soft), dtype=np.uint8)


def _occlude(
    photos: PhotoSet, image: ImageRGB, alpha: NDArray[np.float32], rng: np.random.Generator, size_px: int
) -> tuple[ImageRGB, NDArray[np.float32]]:
    """Put another object beside or partly over the target; what it hides is no longer target."""
    item = photos.items[rng.choice(len(photos.items), p=photos.probabilities)]
    picture = photos.pictures[item.picture]
    mask = (picture.labels == item.label).astype(np.uint8) * 255
    matrix = _crop_matrix(box_of_mask(mask > 0), rng, size_px, augment=True)
    direction = rng.uniform(0.0, 2.0 * np.pi)
    matrix[:, 2] += np.array([np.cos(direction), np.sin(direction)]) * size_px * rng.uniform(0.3, 0.6)
    front, cover = _warp(picture.image_rgb, matrix, size_px), _warp(mask, matrix, size_px, border=0).astype(np.float32) / 255.0
    if rng.random() < 0.4:  # the target in front of the distractor
        cover = cover * (1.0 - alpha)
    return _blend(image, front, cover, rng), alpha * (1.0 - cover)


def _recolour(image: ImageRGB, rng: np.random.Generator) -> ImageRGB:
    """Grey pictures, brightness, contrast, colour cast, low resolution, blur, noise, compression: what cameras do."""
    size = image.shape[1::-1]
    if rng.random() < 0.2:
        factor = rng.uniform(1.3, 3.5)
        small = cv2.resize(image, (int(size[0] / factor), int(size[1] / factor)), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    if rng.random() < 0.1:
        length = int(rng.integers(2, 8))
        kernel = np.eye(length, dtype=np.float32) if rng.random() < 0.5 else np.ones((1, length), dtype=np.float32)
        image = np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), dtype=np.uint8)
    pixels = image.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.12 else rng.uniform(0.4, 1.5)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    pixels = (pixels - 114.0) * np.float32(rng.uniform(0.6, 1.4)) + 114.0 + np.float32(rng.normal(0.0, 20.0))
    if rng.random() < 0.3:
        pixels = pixels * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.4:
        pixels = pixels + rng.normal(0.0, rng.uniform(1.0, 10.0), pixels.shape).astype(np.float32)
    image = np.clip(pixels, 0.0, 255.0).astype(np.uint8)
    if rng.random() < 0.3:
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
    return image
