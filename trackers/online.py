"""ATOM's online classifier on the small backbone that the package ships: it learns what the target looks like while it follows it.

The classifier (Danelljan et al., CVPR 2019, section 3.2) says where the target is. There is no IoU-Net: ridge regression on the same
features, learned on the first frame as in MDNet, fits the box. Nothing is downloaded.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftrack.boxes import box_around, center_xy, checked_box
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.engine import Engine, fastest_engine, fold
from sftrack.errors import NotInitialisedError
from sftrack.feat2seg_net import Feat2Seg
from sftrack.mobilenet_v3 import MobileNetV3
from sftrack.weights.bundled import bundled_path, load_network

from .base import BoxTracker, check_counts, check_numbers
from .checkpoints import Weights, load_checkpoint, load_into
from .discriminative.augmentation import Augmentation, Shift, flip
from .discriminative.box_regression import BoxRegressor, Level
from .discriminative.dimp_settings import AUGMENTATION, checked_seed
from .discriminative.learned_filter import LearnedFilter, random_start
from .discriminative.localisation import Flag, Localisation, Thresholds, localise
from .discriminative.online_filter import gaussian_labels, rms_normalised, upsampled, upsampling
from .discriminative.patches import vector
from .reduction import sample_window
from .registry import register

STRIDE_PX, FINE_STRIDE_PX = 16, 8
"""Of the features of the classifier, and of those that the box is fitted with beside them."""
LEVELS = (Level(FINE_STRIDE_PX, 8), Level(STRIDE_PX, 5))
CROP_PX, SEARCH_AREA = 256, 4.0
"""Side of the crop, in its pixels and in sizes (square roots of the area) of the target."""
CELLS = CROP_PX // STRIDE_PX
CHANNELS, FILTER_SIDE = 32, 4
"""Of the filter, after the projection."""
LABEL_SIGMA = 0.25
"""Width of the labels in sizes of the target."""
INIT_STEPS, INIT_ITERATIONS, ITERATIONS = 6, 10, 5
"""Gauss-Newton steps on the first frame, conjugate gradients in each, and later."""
FIRST_VIEWS = Augmentation(AUGMENTATION.shifts, AUGMENTATION.flip, AUGMENTATION.blurs, AUGMENTATION.rotations, 1 / 3, dropouts=2)
"""What the filter is learned from on the first frame."""
ZOOMS = (0.8, 1.25)
"""Of further crops of the first frame that the box regressor is learned from."""
MEMORY, FIRST_SHARE = 50, 0.25
"""Samples that are remembered, and what those of the first frame weigh together at least."""
RATE, HARD_NEGATIVE_RATE = 0.01, 0.02
"""Weight of a new sample."""
SMOOTHING = 0.5
"""Share of a correction of the box that is taken."""
THRESHOLDS = Thresholds(not_found=0.25)
SMALLEST_PX = 4.0
"""No side of the box shrinks below it."""

Maps = tuple[Tensor, Tensor]
"""Of one crop, at 1/8 and 1/16 of its resolution, `(1, C, H, W)`."""


class Pyramid(nn.Module):
    """The backbone with both of its resolutions, from pixels."""

    def __init__(self, backbone: MobileNetV3) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """RGB crops `(B, 3, H, W)`, 0 to 255, to `(B, 24, H / 8, W / 8)` and `(B, 96, H / 16, W / 16)`."""
        return self.backbone.pyramid(pixels / 255.0)


@register("online")
class Online(BoxTracker):
    """See the module. It runs on the CPU whatever the device: a GPU would wait for a network this small.

    Args:
        weights: of the backbone, a file or a state dict of `MobileNetV3(9)`; None for those that the package ships.
        seed: of the tracker's own generator, which draws the views of the first frame, and what learning starts from.
        train_skipping: frames from one regular improvement of the filter to the next.
        caution: how much less the box is corrected where it looks unlike the first frame, see `BoxRegressor`; 0 suits targets that change
            their size quickly, 1 those that are blurred or turn.
    """

    def __init__(self, *, weights: Weights = None, seed: int = 0, train_skipping: int = 10, caution: float = 0.0) -> None:
        check_counts(train_skipping=(train_skipping, 1))
        check_numbers(caution=(caution, 0, math.inf))
        self._seed, self._train_skipping, self._caution = checked_seed(seed), train_skipping, caution
        self._engine = _bundled_engine() if weights is None else _engine(weights)
        self._upsampling = upsampling(CELLS, CROP_PX).float()

    @torch.no_grad()
    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._generator = torch.Generator().manual_seed(self._seed)
        self._frame = 1
        self._lesson: Callable[[], None] | None = None
        self._center, self._size = center_xy(box_xywh), box_xywh[2:].copy()
        views, shifts = FIRST_VIEWS.samples(self._crop(image_rgb, expansion=2), CROP_PX, self._generator)
        maps = [self._maps(view) for view in torch.split(views, 1)]
        self._learn_filter(torch.cat([_sample(both) for both in maps]), shifts)
        box = torch.tensor([CROP_PX / 2, CROP_PX / 2, *(self._size / self._pixel)], dtype=torch.float32)
        zoomed = [(self._maps(self._crop(image_rgb, zoom=zoom)), torch.cat([box[:2], box[2:] / zoom])) for zoom in ZOOMS]
        seen = [(maps[0], box), (self._maps(flip(views[:1])), box), *zoomed]
        self._regressor = BoxRegressor(LEVELS, seen, self._caution, self._generator)

    def move_to(self, box_xywh: BoxXYWH, *, forget_last: bool = False) -> None:
        """Go on from a box of the last frame, with all that was learned; see `Movable`.

        Raises:
            NotInitialisedError: `init` was not called.
            BoxError: a box that cannot be tracked.
        """
        if self._size_wh is None:
            raise NotInitialisedError("call init(image_rgb, box_xywh) before move_to(box_xywh)")
        self._box = checked_box(box_xywh, self._size_wh)
        if forget_last:
            self._lesson, self._frame = None, self._frame - 1
        self._center, self._size = center_xy(self._box), self._box[2:].copy()

    @torch.no_grad()
    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        lesson, self._lesson = self._lesson, None  # also if this step fails: nothing is to be learned twice
        if lesson is not None:
            lesson()
        self._frame += 1
        maps = self._maps(self._crop(image_rgb))
        sample = self._filter.project(_sample(maps))
        scores = upsampled(self._filter.scores(sample), self._upsampling)
        found = localise(scores, self._pixel, vector(self._size[::-1]), vector((0, 0)), THRESHOLDS)
        is_hard, is_found = found.flag is Flag.HARD_NEGATIVE, found.flag is not Flag.NOT_FOUND
        label: Tensor | None = None
        if is_found:
            offset, size = self._fitted(maps, found)
            if found.flag is not Flag.UNCERTAIN:
                label = self._labels(torch.tensor(offset[None, ::-1] / self._pixel, dtype=torch.float32))
            self._move(offset, self._size if found.flag is Flag.UNCERTAIN else size)
        learns = is_hard or (self._frame - 1) % self._train_skipping == 0  # the latter also while the target is lost
        # Learned when the next frame comes, because until then it may turn out that this one was looked at from the wrong place.
        self._lesson = partial(self._learn, sample, label, HARD_NEGATIVE_RATE if is_hard else RATE, learns)
        return (box_around(self._center, self._size), found.peak) if is_found else (None, 0.0)

    @torch.no_grad()
    def _learn(self, sample: Tensor, label: Tensor | None, rate: float, improves: bool) -> None:
        """Remember a frame's sample, if it has a label, and improve the filter, if it is time to."""
        if label is not None:
            self._filter.remember(sample, label, rate)
        if improves:
            self._filter.learn(ITERATIONS)

    @property
    def _pixel(self) -> float:
        """Pixels of the frame per pixel of the crop."""
        return SEARCH_AREA * math.sqrt(float(self._size.prod())) / CROP_PX

    def _crop(self, image_rgb: ImageRGB, *, expansion: int = 1, zoom: float = 1.0) -> Tensor:
        """A square around the target, `(1, 3, N, N) float32` with `N = expansion * CROP_PX`; `zoom` times as much of the frame as usual."""
        pixels, scale = expansion * CROP_PX, 1.0 / (zoom * self._pixel)
        window = sample_window(image_rgb, self._center - pixels / scale / 2.0, np.full(2, scale), (pixels, pixels))
        return torch.from_numpy(window).permute(2, 0, 1)[None].float()

    def _maps(self, crop: Tensor) -> Maps:
        fine, coarse = self._engine.run(crop.contiguous())
        return torch.from_numpy(fine), torch.from_numpy(coarse)

    def _learn_filter(self, features: Tensor, shifts: list[Shift]) -> None:
        """Learn from the first frame's features `(N, C, H, W)`, in which the target is moved by pixels of the crop."""
        samples, shifts = FIRST_VIEWS.with_dropouts(features, shifts, self._generator)
        weight, projection = random_start(features.shape[1], CHANNELS, FILTER_SIDE, self._generator)
        self._filter = LearnedFilter(
            samples,
            self._labels(torch.tensor(shifts, dtype=torch.float32)),
            weight,
            projection,
            steps=INIT_STEPS,
            iterations=INIT_ITERATIONS,
            slots=MEMORY,
            initial_share=FIRST_SHARE,
        )

    def _labels(self, offsets: Tensor) -> Tensor:
        """Score maps that crops should have, from the target's offset from their middle `(N, 2)`, y and x in pixels of the crop."""
        # A filter of even side has its middle between two cells.
        return gaussian_labels(offsets / STRIDE_PX + 0.5, CELLS, LABEL_SIGMA * CELLS / SEARCH_AREA)

    def _fitted(self, maps: Maps, found: Localisation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the target is, from the crop's middle, x and y, and its size, in pixels of the frame."""
        offset = found.translation[::-1].astype(np.float64)
        rough = np.concatenate([CROP_PX / 2 + offset / self._pixel, self._size / self._pixel])
        change = self._regressor.change(maps, torch.tensor(rough, dtype=torch.float32)).numpy().astype(np.float64)
        return offset + SMOOTHING * change[:2] * self._size, self._size * np.exp(SMOOTHING * change[2:])

    def _move(self, offset: NDArray[np.float64], size: NDArray[np.float64]) -> None:
        """Take a new place and size, as far as they are in the frame."""
        assert self._size_wh is not None
        limits = np.array(self._size_wh, dtype=np.float64)
        self._center = np.clip(self._center + offset, 0.0, limits)
        self._size = np.clip(size, np.minimum(SMALLEST_PX, limits), limits)


def _sample(maps: Maps) -> Tensor:
    """The part of a crop's maps that the classifier sees."""
    return rms_normalised(maps[1])


@cache
def _bundled_engine() -> Engine:
    """With the backbone that the package ships: one for all, since it keeps nothing of a frame."""
    return _engine(load_network(Feat2Seg(), bundled_path("feat2seg")).backbone.state_dict())


def _engine(weights: Weights) -> Engine:
    backbone = MobileNetV3(9)
    load_into(backbone, load_checkpoint(weights, "online"))
    return fastest_engine(fold(Pyramid(backbone).eval()).requires_grad_(False), [torch.zeros(1, 3, CROP_PX, CROP_PX)])
