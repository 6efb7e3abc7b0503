"""The built-in demo clip: a cup of coffee slides over a lawn, under a plank and past another cup. Its true box is known.

Every frame is computed when it is asked for, from pictures that ship inside scikit-image: nothing is downloaded and nothing is random.
"""

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import BoxXYWH, Frame, ImageRGB
from sftrack.errors import SourceError
from sftrack.pictures import read_picture
from sftrack.sources.base import BaseSource, limited_count

FRAME_SIZE_WH = (854, 480)
FRAMES_PER_SECOND = 30.0
FRAME_COUNT = 150
WORLD_SIZE_WH = (1360, 800)
SPRITE_SCALE = 0.5
"""The cut-out is stored at this scale of the photograph, near the largest scale at which it is shown."""
MARGIN_PX = 26
"""Transparent border of the stored cut-out, wide enough for its shadow."""
SHADOW = np.float32(0.55)
"""Share of the light that a cup takes from the ground beside it."""
PLANK_X = 690
PLANK_WIDTH = 58

Affine = NDArray[np.float64]
"""`(2, 3)`: maps points in pixel-centre coordinates."""


@dataclass(frozen=True)
class _Pose:
    """Where a cut-out lies in the world: centre in world pixels, size relative to the stored cut-out, angle in degrees."""

    x: float
    y: float
    scale: float
    angle_deg: float


@dataclass(frozen=True)
class _Sprite:
    """A cut-out with a transparent margin: `rgb (h, w, 3) uint8`; `alpha` and the blurred `shadow` `(h, w) float32` in [0, 1]."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    shadow: NDArray[np.float32]


class DemoSource(BaseSource):
    """854x480, 30 frames/s, 150 frames, the same on every machine."""

    def __init__(self, *, start_frame: int = 0, max_frames: int | None = None) -> None:
        """Load the pictures (some 50 ms).

        Raises:
            SourceError: `start_frame` is not within the clip.
        """
        if not 0 <= start_frame < FRAME_COUNT:
            raise SourceError(
                f"expected a start frame from 0 to {FRAME_COUNT - 1} for the demo clip, got {start_frame}; choose one of these"
            )
        count = limited_count(FRAME_COUNT, start_frame, max_frames)
        super().__init__("demo", FRAME_SIZE_WH, frames_per_second=FRAMES_PER_SECOND, frame_count=count)
        self._indices = range(FRAME_COUNT)[start_frame:][:max_frames]
        self._scene = _Scene()

    def __iter__(self) -> Iterator[Frame]:
        for index in self._indices:
            if self._closed:
                return
            yield Frame(self._scene.render(index), index, index / FRAMES_PER_SECOND)

    def truth_xywh(self, index: int) -> BoxXYWH:
        """The box around the whole cup with its saucer in frame `index` of the clip, also where the plank hides a part of it."""
        return self._scene.truth_xywh(index)

    @property
    def start_box_xywh(self) -> BoxXYWH:
        """The true box in the first frame that is delivered."""
        return self.truth_xywh(self._indices[0])


class _Scene:
    def __init__(self) -> None:
        self._cup = _cut_out_cup()
        self._blue_cup = _recoloured(self._cup)
        self._outline = _outline(self._cup.alpha)
        self._ground, self._visible, self._light = _paint_world()

    def render(self, index: int) -> ImageRGB:
        camera = _camera(index)
        image = np.asarray(cv2.warpAffine(self._ground, camera, FRAME_SIZE_WH), dtype=np.uint8)
        self._draw(image, self._blue_cup, _other_pose(index), camera)
        self._draw(image, self._cup, _cup_pose(index), camera)
        return image

    def truth_xywh(self, index: int) -> BoxXYWH:
        to_frame = _compose(_camera(index), _placed(_cup_pose(index), self._cup))
        corners = self._outline @ to_frame[:, :2].T + to_frame[:, 2]
        # pixel centres lie half a pixel inside the edges that boxes are measured from
        low, high = corners.min(axis=0) + 0.5, corners.max(axis=0) + 0.5
        return np.concatenate([low, high - low])

    def _draw(self, image: NDArray[np.uint8], sprite: _Sprite, pose: _Pose, camera: Affine) -> None:
        """Blend a cut-out and its shadow into `image`, under the plank and in the light of its place."""
        to_frame = _compose(camera, _placed(pose, sprite))
        left, top, right, bottom = _region(to_frame, sprite)
        if right <= left or bottom <= top:
            return
        size_wh = (right - left, bottom - top)
        corner = np.array([[0.0, 0.0, left], [0.0, 0.0, top]])
        colour = cv2.warpAffine(sprite.rgb, to_frame - corner, size_wh)
        alpha = cv2.warpAffine(sprite.alpha, to_frame - corner, size_wh)
        shadow = cv2.warpAffine(sprite.shadow, to_frame - corner + np.array([[0, 0, 7.0], [0, 0, 9.0]]), size_wh)
        visible = cv2.warpAffine(self._visible, camera - corner, size_wh)
        light = cv2.warpAffine(self._light, camera - corner, size_wh)
        part, black = image[top:bottom, left:right], np.zeros_like(colour)
        shaded = cv2.blendLinear(part, black, 1.0 - SHADOW * shadow * visible, SHADOW * shadow * visible)
        lit = cv2.blendLinear(colour, black, light, 1.0 - light)
        cv2.blendLinear(lit, shaded, alpha * visible, 1.0 - alpha * visible, dst=part)


def _cup_pose(index: int) -> _Pose:
    t = index / (FRAME_COUNT - 1)
    return _Pose(
        x=330 + 720 * (t - 0.06 * math.sin(2 * math.pi * t)),
        y=400 + 120 * math.sin(2.2 * math.pi * t + 0.5),
        scale=0.66 + 0.16 * math.sin(1.7 * math.pi * t - 0.4),
        angle_deg=22 * math.sin(2 * math.pi * t),
    )


def _other_pose(index: int) -> _Pose:
    t = index / (FRAME_COUNT - 1)
    return _Pose(x=1010 - 560 * t, y=290 + 260 * t, scale=0.58, angle_deg=-30 + 70 * t)


def _camera(index: int) -> Affine:
    """World to frame: pans after the cup, a little late, with a slow zoom and roll."""
    t = index / (FRAME_COUNT - 1)
    look_x = 560 + 260 * t + 18 * math.sin(5 * math.pi * t)
    look_y = 400 + 26 * math.sin(3 * math.pi * t)
    zoom = 1.0 + 0.08 * math.sin(2 * math.pi * t)
    return _similarity(zoom, 2.5 * math.sin(2.6 * math.pi * t), (look_x, look_y), (FRAME_SIZE_WH[0] / 2, FRAME_SIZE_WH[1] / 2))


def _picture(name: str) -> NDArray[np.uint8]:
    """One of the pictures inside the scikit-image package, as it is stored: RGB, or grey where it has no colour."""
    spec = importlib.util.find_spec("skimage")  # its file is enough: importing the package takes longer than all else in the demo
    path = Path((spec.submodule_search_locations or [""])[0] if spec else "", "data", f"{name}.png")
    try:
        stored = read_picture(path, cv2.IMREAD_UNCHANGED, "the demo's picture")
    except SourceError as error:
        raise SourceError(f"{error}; install scikit-image again") from error
    return np.asarray(stored if stored.ndim == 2 else cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _similarity(scale: float, angle_deg: float, from_xy: tuple[float, float], to_xy: tuple[float, float]) -> Affine:
    cos, sin = scale * math.cos(math.radians(angle_deg)), scale * math.sin(math.radians(angle_deg))
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, np.array(to_xy) - linear @ np.array(from_xy)])


def _compose(outer: Affine, inner: Affine) -> Affine:
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _placed(pose: _Pose, sprite: _Sprite) -> Affine:
    height, width = sprite.alpha.shape
    return _similarity(pose.scale, pose.angle_deg, (width / 2, height / 2), (pose.x, pose.y))


def _region(to_frame: Affine, sprite: _Sprite) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the part of the frame that the cut-out and its shadow can touch."""
    height, width = sprite.alpha.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ to_frame[:, :2].T + to_frame[:, 2]
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int), FRAME_SIZE_WH)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _cut_out_cup() -> _Sprite:
    """The cup with saucer and spoon of scikit-image's coffee picture."""
    photo = _picture("coffee")
    fine = 4
    mask = np.zeros((photo.shape[0] * fine, photo.shape[1] * fine), np.uint8)
    spoon = [(397, 72), (400, 68), (408, 67), (418, 69), (423, 77), (421, 90), (415, 108), (408, 122), (396, 120)]
    cv2.ellipse(mask, (278 * fine, 219 * fine), (200 * fine, 169 * fine), 0, 0, 360, (255,), -1)
    cv2.ellipse(mask, (291 * fine, 113 * fine), (117 * fine, 95 * fine), 0, 0, 360, (255,), -1)
    cv2.fillPoly(mask, [np.array(spoon, np.int32) * fine], (255,))
    alpha = cv2.GaussianBlur(cv2.resize(mask, photo.shape[1::-1], interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    crop = (slice(10, 398), slice(68, 490))
    small_rgb = cv2.resize(photo[crop], None, fx=SPRITE_SCALE, fy=SPRITE_SCALE, interpolation=cv2.INTER_AREA)
    small_rgb = np.pad(small_rgb, ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0)), mode="edge")
    small_alpha = cv2.resize(alpha[crop].astype(np.float32) / 255, None, fx=SPRITE_SCALE, fy=SPRITE_SCALE, interpolation=cv2.INTER_AREA)
    small_alpha = np.pad(small_alpha, MARGIN_PX)
    shadow = cv2.GaussianBlur(small_alpha, (0, 0), 6.0)
    return _Sprite(np.asarray(small_rgb, np.uint8), np.asarray(small_alpha, np.float32), np.asarray(shadow, np.float32))


def _recoloured(cup: _Sprite) -> _Sprite:
    """The same cup in blue, with coffee of the old colour."""
    hsv = cv2.cvtColor(cup.rgb, cv2.COLOR_RGB2HSV)
    coffee = cv2.ellipse(np.zeros(cup.alpha.shape, np.uint8), (111 + MARGIN_PX, 52 + MARGIN_PX), (56, 44), 0, 0, 360, (1,), -1)
    is_red = ((hsv[..., 0] < 14) | (hsv[..., 0] > 165)) & (coffee == 0)
    hsv[..., 0] = np.where(is_red, 108, hsv[..., 0])
    return replace(cup, rgb=np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8))


def _outline(alpha: NDArray[np.float32]) -> NDArray[np.float64]:
    """`(N, 2)` points of the convex hull of the opaque part, to a fraction of a pixel."""
    fine = 8
    enlarged = cv2.resize(alpha, None, fx=fine, fy=fine, interpolation=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours((enlarged > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0]
    # resize keeps edges in place, so centres move by half a pixel of either grid
    return np.asarray((hull + 0.5) / fine - 0.5, dtype=np.float64)


def _paint_world() -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """The ground with the plank on it, and per pixel how visible and how lit (0 to 1) a thing lying there is."""
    width, height = WORLD_SIZE_WH
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    dapple = np.sin(x / 97 + np.sin(y / 71)) * np.sin(y / 83 - 0.6 * np.sin(x / 113)) + 0.4 * np.sin(x / 41 + y / 59)
    light = 0.84 + 0.13 * np.tanh(2.0 * dapple)
    across = x - PLANK_X - np.float32(0.12) * (y - height / 2)
    plank = np.clip(PLANK_WIDTH / 2 + 0.5 - np.abs(across), 0.0, 1.0)
    below = np.clip((PLANK_WIDTH / 2 + 6 - np.abs(across - 12)) / 12, 0.0, 1.0)
    shade = light * (1.0 - 0.5 * below)
    levels = ([8, 70, 255], [22, 112, 255], [8, 34, 165])
    grass = _grass(x, y)
    lawn = np.stack([np.interp(grass, [0, 90, 255], level) for level in levels], axis=-1)
    ground = lawn * (shade * (1 - plank))[..., None] + _wood(across, y) * ((0.45 + 0.5 * light) * plank)[..., None]
    return np.clip(ground, 0, 255).astype(np.uint8), (1 - plank).astype(np.float32), shade.astype(np.float32)


def _grass(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(H, W)` grey lawn: two mirrored repetitions of the picture, each shown where the other one has its visible mirror axis."""
    picture = _picture("grass")
    height, width = x.shape
    layers = [np.pad(tile, ((0, height - 512), (0, width - 512)), mode="symmetric") for tile in (picture, picture.T)]
    shifted = np.roll(layers[1], (256, 256), axis=(0, 1)).astype(np.float32)
    far_from_axis = np.minimum(np.abs((x + 256) % 512 - 256), np.abs((y + 256) % 512 - 256))
    share = np.clip((far_from_axis - 50) / 30, 0.0, 1.0)
    return np.asarray(layers[0] * share + shifted * (1 - share), dtype=np.float32)


def _wood(across: NDArray[np.float32], along: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(H, W, 3)` wood of the table in the coffee picture, browner than the cup, its grain along the plank."""
    strip = _picture("coffee")[0:400, 505:595].astype(np.float32)
    grain = cv2.GaussianBlur(strip, (0, 0), sigmaX=0.6, sigmaY=4.0)
    grain = 0.45 * grain + 0.55 * grain.mean(axis=2, keepdims=True) * np.array([1.15, 1.0, 0.8], dtype=np.float32)
    column = (across + PLANK_WIDTH / 2) * (grain.shape[1] / PLANK_WIDTH)
    row = np.abs((along * 0.9) % (2 * 398) - 398)
    remapped = cv2.remap(grain, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(remapped, dtype=np.float32)
