"""The filter with which D3S finds its target (GEM; Lukežič et al., CVPR 2020, section 3.2): ATOM's, on features of ResNet-50."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftrack.contracts import ImageRGB, is_number
from sftrack.engine import fold, on_device
from sftrack.errors import ConfigError

from ..base import check_counts
from .atom_settings import BLURS, ROTATIONS
from .augmentation import Augmentation
from .learned_filter import LearnedFilter
from .online_filter import gaussian_labels, rms_normalised, upsampled, upsampling
from .patches import Vector, sample_patch, vector
from .resnet import ResNet

SAMPLE_PX = 256
"""Side of the crops in which the filter looks for the target."""
CELLS = 16
"""Side of their features and score maps."""
CHANNELS, FILTER_SIDE = 64, 4
"""Of the filter, after the projection."""
INIT_STEPS = 6
"""Gauss-Newton steps on the first frame."""
LABEL_SIGMA_FACTOR = 1.0 / 4.0
"""Width of the labels in sizes of the target."""
AUGMENTATION = Augmentation(
    shifts=((0.25, 0.25), (-0.25, 0.25), (0.25, -0.25), (-0.25, -0.25), (0.75, 0.75), (-0.75, 0.75), (0.75, -0.75), (-0.75, -0.75)),
    flip=True,
    blurs=BLURS,
    rotations=ROTATIONS,
)
MIN_MEMORY = 28
"""The views of the first frame, and one later sample."""


@dataclass(frozen=True)
class Learning:
    """How the filter is learned.

    Attributes:
        init_iterations: conjugate gradients on the first frame, over all `INIT_STEPS` Gauss-Newton steps.
        update_iterations, hard_negative_iterations: the same later, at regular times and beside a distractor.
        train_skipping: frames from one regular time to the next.
        learning_rate, hard_negative_learning_rate: weight of a new sample, in (0, 1).
        sample_memory_size: samples that are remembered.
    """

    init_iterations: int = 60
    update_iterations: int = 5
    hard_negative_iterations: int = 5
    train_skipping: int = 10
    learning_rate: float = 0.0075
    hard_negative_learning_rate: float = 0.02
    sample_memory_size: int = 250

    def __post_init__(self) -> None:
        check_counts(init_iterations=(self.init_iterations, INIT_STEPS), update_iterations=(self.update_iterations, 1))
        check_counts(hard_negative_iterations=(self.hard_negative_iterations, 1), train_skipping=(self.train_skipping, 1))
        check_counts(sample_memory_size=(self.sample_memory_size, MIN_MEMORY))
        if self.init_iterations % INIT_STEPS:
            raise ConfigError(f"expected init_iterations as a multiple of the {INIT_STEPS} steps, got {self.init_iterations}")
        for name in ("learning_rate", "hard_negative_learning_rate"):
            if not (is_number(value := getattr(self, name)) and 0.0 < value < 1.0):
                raise ConfigError(f"expected {name} between 0 and 1, got {value!r}")


def principal_directions(features: Tensor, count: int) -> Tensor:
    """The directions in which features `(N, C, h, w)` vary most, as a projection `(count, C, 1, 1)` with orthonormal rows."""
    vectors = features.transpose(0, 1).flatten(1)
    centred = vectors - vectors.mean(dim=1, keepdim=True)
    # On the CPU, because not every device can do it.
    directions: Tensor = torch.linalg.eigh((centred @ centred.T).cpu())[1]
    return directions[:, -count:].flip(1).T[:, :, None, None].contiguous().to(features.device)


def output_window() -> NDArray[np.float32]:
    """Preference for the middle of the score map, `(SAMPLE_PX, SAMPLE_PX)`; hardly above 0 at the border."""
    profile = 0.5 * (1.0 + np.cos(2.0 * np.pi * (np.arange(SAMPLE_PX) - SAMPLE_PX // 2) / (SAMPLE_PX + 2)))
    return np.outer(profile, profile).astype(np.float32)


class TargetFilter:
    """Backbone and `LearnedFilter` as the tracker uses them.

    Positions are `(y, x)` in pixels of the frame; a scale is pixels of the frame per pixel of the sample.
    """

    def __init__(self, backbone: ResNet, learning: Learning, device: str = "cpu") -> None:
        """The backbone belongs to the filter from then on: what is not needed is dropped, batch norms are merged."""
        backbone.drop_unused()
        fold(backbone.eval())
        self._backbone = backbone.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._learning, self._device = learning, torch.device(device)
        self._upsampling = upsampling(CELLS, SAMPLE_PX).float()
        self._window = output_window()

    @torch.inference_mode()
    def start(self, image_rgb: ImageRGB, position: Vector, scale: float, base_size: Vector) -> None:
        """Learn projection and filter from transformed views of the first frame.

        Args:
            base_size: of the target in the sample, `(h, w)`.
        """
        middle = np.rint(position)
        patch = sample_patch(image_rgb, middle, scale * 2 * SAMPLE_PX, 2 * SAMPLE_PX).image_rgb
        views, shifts = AUGMENTATION.samples(patch, SAMPLE_PX, torch.Generator())
        # One by one on a CPU, where a view's maps stay in the cache.
        parts = torch.split(views, 1 if self._device.type == "cpu" else len(views))
        features = torch.cat([self.features(part) for part in parts])
        self._sigma = math.sqrt(float(base_size.prod())) * CELLS / SAMPLE_PX * LABEL_SIGMA_FACTOR
        moved = torch.tensor(shifts, dtype=torch.float32) * (CELLS / SAMPLE_PX)
        labels = self._labels(torch.from_numpy(self._centre(position - middle, scale)) + moved)
        self._learned = LearnedFilter(
            features,
            labels,
            features.new_zeros(1, CHANNELS, FILTER_SIDE, FILTER_SIDE),
            principal_directions(features, CHANNELS),
            steps=INIT_STEPS,
            iterations=self._learning.init_iterations // INIT_STEPS,
            slots=self._learning.sample_memory_size,
            initial_share=0.0,
        )

    def features(self, pixels: Tensor) -> Tensor:
        """Crops `(B, 3, 256, 256)`, RGB, 0 to 255, to features `(B, 1024, 16, 16)`, each of a mean square of 1."""
        return rms_normalised(self._backbone(on_device(pixels, self._device)).layer3)

    @torch.inference_mode()
    def sample(self, image_rgb: ImageRGB, position: Vector, scale: float) -> Tensor:
        """Projected features around a place, `(1, 64, 16, 16)`."""
        patch = sample_patch(image_rgb, position, scale * SAMPLE_PX, SAMPLE_PX)
        return self._learned.project(self.features(patch.image_rgb))

    def raw_scores(self, sample: Tensor) -> NDArray[np.float32]:
        """What the filter says about a sample, `(16, 16)`; cell 8 is the middle."""
        return self._learned.scores(sample)

    def scores(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolated to the pixels of the sample and windowed, `(256, 256)`."""
        return np.asarray(upsampled(raw, self._upsampling) * self._window, dtype=np.float32)

    @torch.inference_mode()
    def remember(self, sample: Tensor, offset: Vector, scale: float, *, hard_negative: bool) -> None:
        """Keep a sample for learning; `offset`: of the target from where the sample was taken."""
        rate = self._learning.hard_negative_learning_rate if hard_negative else self._learning.learning_rate
        self._learned.remember(sample, self._labels(torch.from_numpy(self._centre(offset, scale))[None]), rate)

    @torch.inference_mode()
    def learn(self, *, hard_negative: bool) -> None:
        """Improve the filter on what is remembered."""
        self._learned.learn(self._learning.hard_negative_iterations if hard_negative else self._learning.update_iterations)

    def _centre(self, offset: Vector, scale: float) -> Vector:
        """In cells; the half is there because the filter has an even side."""
        return vector(CELLS * offset / (scale * SAMPLE_PX) + 0.5)

    def _labels(self, centres: Tensor) -> Tensor:
        return gaussian_labels(on_device(centres, self._device), CELLS, self._sigma)
