"""D3S (Lukežič et al., CVPR 2020): a correlation filter that is learned online says where, a segmentation network says what.

The filter (GEM in the paper) is ATOM's; its crop's middle is then segmented by comparing it with the first frame (GIM). Box and scale come
from the mask. Nothing here is random.
"""

import math
from collections import deque
from typing import Any

import numpy as np

from sftrack.boxes import center_xy, checked_box, checked_image, clip_box
from sftrack.config import resolve_device
from sftrack.contracts import BoxXYWH, ImageRGB, RegionMask, is_number
from sftrack.errors import BoxError, ConfigError
from sftrack.window import Window

from .base import BoxTracker
from .checkpoints import Weights, load_checkpoint, load_into
from .discriminative.localisation import Flag, Thresholds, localise
from .discriminative.mask_region import (
    Polygon,
    box_of_same_area,
    corners_of,
    crop_window,
    cut,
    filled,
    fit_rotated,
    largest_contour,
    restricted,
    sides_product,
)
from .discriminative.patches import Vector, vector
from .discriminative.resnet import resnet50
from .discriminative.segmentation import CROP_PX, SegmentationNetwork, Segmenter
from .discriminative.target_filter import SAMPLE_PX, Learning, TargetFilter
from .registry import keyword_signature, register

AREA_FACTOR = 4.5
"""Side of the crop in which the filter looks over the square root of the target's area."""
THRESHOLDS = Thresholds(not_found=-1.0, distractor=100.0, hard_negative=0.3, neighbourhood=2.2, displacement=0.7)
MIN_TARGET_PX = 10.0
INSIDE_MARGIN = 0.3
"""Sizes of the target by which its middle may leave the frame."""

SURE_FRAMES = 5
"""Frames at the beginning that count as certain."""
LEARN_BELOW, RESCALE_BELOW, SEGMENT_BELOW = 3.0, 3.5, 10.0
"""Uncertainties below which the filter learns, the scale follows the mask, and the target is segmented."""
HISTORY = 25
"""Frames over which scores and areas of masks are averaged."""
REGION_BELOW, POSITION_BELOW = 2.0, 1.0
"""Relative changes of a mask's area below which it is believed to be the target, and below which the next search begins at it."""
MIN_SCALE, MAX_RELATIVE_CHANGE, SCALE_STEP = 0.2, 0.75, 0.05
FIT_TO_RECTANGLE = (0.1, 2.5)
"""Area of a fitted box over that of the smallest rectangle around the mask: what lies outside is no fit."""
MASK_MARGIN_PX = 7
"""By so much the largest part of a mask is dilated before it is handed out, in pixels of the crop."""


@register("d3s")
class D3S(BoxTracker):
    """See the module. Besides boxes it gives masks, and rotated rectangles to whoever starts it with one.

    Args:
        weights: the official checkpoint of the segmentation network (`SegmNet.pth.tar`), as a path or a state dict, or None for the
            registry's file.
        backbone_weights: the same of the filter's backbone, torchvision's ResNet-50 (`IMAGENET1K_V1`).
        device: where the networks run and the filter is learned, see `resolve_device`.
        mask_threshold: probability from which a pixel is the target's, in (0, 1).
        learning: how the filter is learned, see `Learning`.

    Raises:
        ConfigError: a setting out of its range, or a device that is not here.
    """

    _as_published = True
    __signature__ = keyword_signature("weights", "backbone_weights", "device", "mask_threshold", settings=Learning)

    def __init__(
        self,
        *,
        weights: Weights = None,
        backbone_weights: Weights = None,
        device: str = "cpu",
        mask_threshold: float = 0.5,
        **learning: Any,  # noqa: ANN401 (see the signature)
    ) -> None:
        self._learning, self._mask_threshold = Learning(**learning), mask_threshold
        if not (is_number(mask_threshold) and 0.0 < mask_threshold < 1.0):
            raise ConfigError(f"expected mask_threshold between 0 and 1, got {mask_threshold!r}")
        device = resolve_device(device)
        network, backbone = SegmentationNetwork(), resnet50()
        load_into(network, load_checkpoint(weights, "d3s"))
        load_into(backbone, load_checkpoint(backbone_weights, "d3s-backbone"))
        self._segmenter = Segmenter(network, device)
        self._target_filter = TargetFilter(backbone, self._learning, device)

    def init_rectangle(self, image_rgb: ImageRGB, corners_xy: Polygon) -> None:
        """Start on a rectangle of any direction, `(4, 2)`, in order around it; `rectangle_xy` then is of any direction too.

        Raises:
            FrameError: not an `(H, W, 3) uint8` image.
            BoxError: not four finite corners, or the middle of the rectangle is not in the frame.
        """
        checked_image(image_rgb)
        corners = np.asarray(corners_xy, dtype=np.float64)
        if corners.shape != (4, 2) or not np.isfinite(corners).all() or not np.ptp(corners, axis=0).all():
            raise BoxError(f"expected four corners (4, 2), x and y, around a rectangle, got {corners.tolist()}")
        size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        middle = corners.mean(axis=0)
        if not ((middle >= 0.0) & (middle < size_wh)).all():
            raise BoxError(f"expected a rectangle with its middle in the frame of {size_wh[0]}x{size_wh[1]} pixels, got {corners.tolist()}")
        self._box = checked_box(_box_around(corners), size_wh)
        self._size_wh = size_wh
        self._start_on(image_rgb, corners, box_of_same_area(corners), rotated=True)

    @property
    def rectangle_xy(self) -> Polygon:
        """The rectangle around the target on the last frame, `(4, 2)`: centres of pixels at its corners."""
        return self._rectangle.copy()

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        middle = center_xy(box_xywh)
        if not ((middle >= 0.0) & (middle < size_wh)).all():  # else the crop around it might have nothing of the frame
            box_xywh = clip_box(box_xywh, size_wh)
        self._start_on(image_rgb, corners_of(box_xywh), box_xywh, rotated=False)

    def _start_on(self, image_rgb: ImageRGB, corners: Polygon, box_xywh: BoxXYWH, *, rotated: bool) -> None:
        x, y, width, height = box_xywh.tolist()
        self._rotated, self._rectangle = rotated, corners
        self._frame = 1
        self._peaks: deque[float] = deque([1.0], maxlen=HISTORY)
        self._position, self._size = vector((y + height / 2.0, x + width / 2.0)), vector((height, width))
        self._scale = math.sqrt(width * height) * AREA_FACTOR / SAMPLE_PX
        self._base_size = self._size / np.float32(self._scale)
        self._scale_limits = float((MIN_TARGET_PX / self._base_size).max()), float((image_rgb.shape[:2] / self._base_size).min())
        self._target_filter.start(image_rgb, self._position, self._scale, self._base_size)
        window = crop_window(box_xywh)
        given = cut(filled(corners, (image_rgb.shape[1], image_rgb.shape[0])), window, edge=False)
        probability = self._segmenter.start(cut(image_rgb, window, edge=True), given)
        mask = restricted(probability > self._mask_threshold, given, dilation_px(box_xywh, window))
        self._segmenter.improve(mask)
        self._areas: deque[float] = deque([float(mask.sum())], maxlen=HISTORY)

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._frame += 1
        self._mask = None
        start, scale = self._position, self._scale
        sample = self._target_filter.sample(image_rgb, start, scale)
        scores = self._target_filter.scores(self._target_filter.raw_scores(sample))
        found = localise(scores, scale, self._size, vector((0, 0)), THRESHOLDS)
        if not math.isfinite(found.peak):
            return None, 0.0
        usual = sum(self._peaks) / len(self._peaks)
        uncertainty = self._uncertainty(usual, found.peak, found.flag)
        place, frame_hw = start + found.translation, vector(image_rgb.shape[:2])
        if uncertainty < LEARN_BELOW:
            self._scale = min(max(scale, self._scale_limits[0]), self._scale_limits[1])
            self._size = self._base_size * np.float32(self._scale)
            margin = np.float32(INSIDE_MARGIN) * self._size
            self._position = np.clip(place, -margin, frame_hw + margin)
        here = np.clip(place, np.float32(0), frame_hw - np.float32(1))
        rectangle = self._segment(image_rgb, here, uncertainty) if uncertainty < SEGMENT_BELOW else None
        if rectangle is None:
            self._position = here
        hard_negative = found.flag == Flag.HARD_NEGATIVE
        if uncertainty < LEARN_BELOW:
            self._target_filter.remember(sample, self._position - start, scale, hard_negative=hard_negative)
        if hard_negative or (self._frame - 1) % self._learning.train_skipping == 0:
            self._target_filter.learn(hard_negative=hard_negative)
        box = self._box_without_mask() if rectangle is None else _box_around(rectangle)
        self._rectangle = corners_of(box) if rectangle is None else rectangle
        return box, 1.0 / max(uncertainty, 1.0) if found.peak > 0.0 and uncertainty < SEGMENT_BELOW else 0.0

    def _uncertainty(self, usual: float, peak: float, flag: Flag) -> float:
        """How much lower the filter's peak is than it was lately; a sure peak counts for later frames."""
        uncertainty = 0.0
        if self._frame > SURE_FRAMES:
            uncertainty = usual / peak if peak else math.inf
        if uncertainty < LEARN_BELOW:
            self._peaks.append(peak)
        return 100.0 if flag == Flag.NOT_FOUND else uncertainty

    def _segment(self, image_rgb: ImageRGB, middle: Vector, uncertainty: float) -> Polygon | None:
        """The rectangle around what is segmented at a place; None where that is nothing, or nothing like the target."""
        (y, x), (height, width) = middle.tolist(), self._size.tolist()
        window = crop_window(np.array((x - width / 2.0, y - height / 2.0, width, height)))
        probability = self._segmenter.segment(cut(image_rgb, window, edge=True))
        contour = largest_contour(probability > self._mask_threshold)
        usual = sum(self._areas) / len(self._areas)
        if contour is None or usual == 0.0:
            return None
        change = abs(usual - contour.area) / usual
        if change >= REGION_BELOW:
            return None
        body = contour.filled(window.size_wh)
        smallest = contour.min_area_rectangle()
        fitted = fit_rotated(body) if self._rotated else contour.upright_rectangle()
        if fitted is None or not FIT_TO_RECTANGLE[0] < sides_product(fitted) / sides_product(smallest) < FIT_TO_RECTANGLE[1]:
            fitted = smallest
        # Neither the rounding of the window nor the half pixel of the resizing is undone, as in the original.
        smallest, fitted = (np.asarray((corners - CROP_PX / 2) / window.scale_xy + (x, y), np.float64) for corners in (smallest, fitted))
        if uncertainty < RESCALE_BELOW:
            self._areas.append(contour.area)
            self._rescale(box_of_same_area(smallest))
        if change < POSITION_BELOW:
            self._position = vector(smallest.mean(axis=0)[::-1])
        seen = restricted(probability, body, MASK_MARGIN_PX)
        self._mask = RegionMask(seen, np.array([*window.origin_xy, *window.extent_wh], dtype=np.float64))
        return fitted

    def _rescale(self, box_xywh: BoxXYWH) -> None:
        """Let the scale follow a box, a little in each frame; the target's size follows in the next one."""
        wanted = math.sqrt(float(box_xywh[2:].prod())) * AREA_FACTOR / SAMPLE_PX
        if wanted > MIN_SCALE and abs(wanted - self._scale) / self._scale < MAX_RELATIVE_CHANGE:
            self._scale *= min(max(wanted / self._scale, 1.0 - SCALE_STEP), 1.0 + SCALE_STEP)

    def _box_without_mask(self) -> BoxXYWH:
        """Half a pixel off the boxes of masks, as in the original."""
        size_wh = self._size[::-1].astype(np.float64)
        return np.concatenate([self._position[::-1].astype(np.float64) - (size_wh + 1.0) / 2.0, size_wh])


def dilation_px(box_xywh: BoxXYWH, window: Window) -> int:
    """How far what is segmented in the first frame may reach beyond what was given: the side of a square, in pixels of the crop."""
    return max(5, round(0.05 * float(box_xywh[2:].min()) * float(window.scale_xy[0])))


def _box_around(corners: Polygon) -> BoxXYWH:
    """From the centres of the outermost pixels to the edges; the size is one more than their distance, though x and y are not moved."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.concatenate([low, high - low + 1.0])
