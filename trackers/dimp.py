"""DiMP (Bhat et al., ICCV 2019), PrDiMP (Danelljan et al., CVPR 2020) and SuperDiMP: a filter that is learned while tracking finds the
target, an IoU-Net fits the box. One procedure; the published trackers differ in their network and settings.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.feat2seg import fold

from .base import BoxTracker
from .checkpoints import load_checkpoint, load_into
from .discriminative.augmentation import drop_channels
from .discriminative.correlation import correlate
from .discriminative.dimp_net import DiMPNet, check_constructor, hinge_loss, kl_divergence
from .discriminative.dimp_settings import DIMP, WIDE, Settings
from .discriminative.iou_net import TwoLevels, modulate
from .discriminative.localisation import Flag, Localisation, localise
from .discriminative.memory import SampleMemory
from .discriminative.patches import Patch, Vector, from_patch, sample_patch, to_patch, vector
from .discriminative.resnet import Features, ResNet, resnet18, resnet50
from .discriminative.steepest_descent import STRIDE_PX, SteepestDescent
from .registry import register

Weights = str | Path | Mapping[str, Tensor] | None

PATCH_EXPANSION = 2
"""Side of the patch that the first samples are cut from, in sides of a sample."""

OUTSIDE_SHARE = 0.3
"""How far the target's centre may leave the frame, in sizes of the target."""

SIDE_RANGE_PX = (1e-2, 1e5)
"""Refined boxes with a side beyond this, in the frame, are no boxes."""


@dataclass(frozen=True)
class Variant:
    """A published tracker.

    Attributes:
        weights: its name in the registry of weights.
        backbone: builds it.
        optimizer: builds the filter's optimiser from the constants of the checkpoint.
        channels, blocks: see `Classifier`.
        settings: its hyper-parameters.
    """

    weights: str
    backbone: Callable[[], ResNet]
    optimizer: Callable[[Mapping[str, Any]], SteepestDescent]
    channels: int
    blocks: int
    settings: Settings = field(default_factory=Settings)

    def load(self, weights: Weights) -> DiMPNet:
        """The network with its weights, ready to run and not to be trained, on the CPU.

        Raises:
            MissingWeightsError, WeightsError: see `checkpoints.load_checkpoint`, `load_into`, `check_constructor`.
        """
        checkpoint = load_checkpoint(weights, self.weights)
        check_constructor(checkpoint.constructor, self.weights)
        network = DiMPNet(self.backbone(), self.channels, self.blocks, self.optimizer(checkpoint.constructor))
        load_into(network, checkpoint.tensors, self.weights)
        network.feature_extractor.drop_unused()
        fold(network)
        return network.requires_grad_(False)


@dataclass
class State:
    """Where the target is, in the frame: position `(y, x)`, size `(h, w)`, and pixels of the frame per pixel of the crop."""

    position: Vector
    size: Vector
    scale: np.float32

    @property
    def box_xywh(self) -> BoxXYWH:
        """As it is handed out."""
        corner = self.position - (self.size - np.float32(1)) / np.float32(2)
        return np.concatenate([corner[::-1], self.size[::-1]]).astype(np.float64)


class DiMP(BoxTracker):
    """The procedure. Subclasses name the variant.

    Args:
        weights: an official checkpoint of the variant, as a path or a state dict, or None for the registry's file.
        device: where the network runs.
        seed: of the tracker's own generator, which draws the shifts and dropouts of the first frame and the random boxes.
        settings: instead of the variant's, see `Settings`.

    Raises:
        ConfigError: a setting out of its range.
    """

    variant: ClassVar[Variant]
    __signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ("weights", "device", "seed", *(setting.name for setting in fields(Settings)))
        ]
    )

    def __init__(self, *, weights: Weights = None, device: str = "cpu", seed: int = 0, **settings: Any) -> None:  # noqa: ANN401
        self._settings = replace(self.variant.settings, **settings)
        self._seed = seed
        self._device = torch.device(device)
        network = self.variant.load(weights)
        self._network: DiMPNet = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        side, augmentation = self._settings.crop_side, self._settings.augmentation
        self._generator = torch.Generator().manual_seed(self._seed)
        self._frame = 1
        size = vector(box_xywh[:1:-1])
        scale = np.float32(np.sqrt(np.prod(size * self._settings.search_area_scale)) / side)
        self._base_size = size / scale
        self._state = State(vector(box_xywh[1::-1]) + (size - np.float32(1)) / np.float32(2), size, scale)
        self._refined_position: Vector | None = None

        middle = np.rint(self._state.position)
        patch = sample_patch(
            image_rgb,
            middle,
            float(scale * (side * PATCH_EXPANSION)),
            side * PATCH_EXPANSION,
            fractional_bounds=self._settings.fractional_bounds,
        )
        crops, shifts = augmentation.samples(patch.image_rgb, side, self._generator)
        maps = self._network.feature_extractor(crops.to(self._device))
        features = self._network.classifier.features(maps.layer3)
        dropped = drop_channels(features[:1], augmentation.dropouts, augmentation.dropout_probability, self._generator)
        features = torch.cat([features, dropped])
        box = to_patch(self._state.position, size, middle, scale, side)
        shifts += [(0, 0)] * augmentation.dropouts
        boxes = torch.from_numpy(np.stack([box + vector((right, down, 0, 0)) for down, right in shifts])).to(self._device)

        self._memory = SampleMemory(features, boxes, self._settings.sample_memory_size, self._settings.minimum_initial_weight)
        self._filter = self._network.classifier.filter_initializer(features, boxes)
        self._learn(self._settings.init_iterations)
        self._modulation = self._network.bb_regressor.modulation(_levels(maps, slice(0, 1)), boxes[0])

    @torch.no_grad()
    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._frame += 1
        patch = self._sample(image_rgb)
        maps = self._network.feature_extractor(patch.image_rgb.to(self._device))
        features = self._network.classifier.features(maps.layer3)
        found = self._localise(features, patch)
        if found.flag is Flag.NOT_FOUND:
            return None, 0.0
        beyond = np.float32(OUTSIDE_SHARE) * self._state.size
        limits = vector(image_rgb.shape[:2]) + beyond
        self._state.position = np.clip(patch.position + found.translation, -beyond, limits)
        self._refine(maps, patch)
        if found.flag in (Flag.NORMAL, Flag.HARD_NEGATIVE):
            self._remember(features, patch, is_hard=found.flag is Flag.HARD_NEGATIVE)
        if self._refined_position is not None:
            self._state.position = self._refined_position
        return self._state.box_xywh, found.peak / self._network.classifier.filter_optimizer.peak

    def _sample(self, image_rgb: ImageRGB) -> Patch:
        side = self._settings.crop_side
        return sample_patch(
            image_rgb,
            self._state.position,
            float(self._state.scale * side),
            side,
            max_shrink=self._settings.max_shrink,
            fractional_bounds=self._settings.fractional_bounds,
        )

    def _localise(self, features: Tensor, patch: Patch) -> Localisation:
        scores = self._network.classifier.filter_optimizer.confidence(correlate(features, self._filter))[0]
        cell = STRIDE_PX * patch.scale
        previous = (self._state.position - patch.position) / cell
        return localise(scores.cpu().numpy(), cell, self._state.size, previous, self._settings.thresholds)

    def _refine(self, maps: Features, patch: Patch) -> None:
        """Fit the box; where the network finds none, all stays as it is."""
        side, regressor = self._settings.crop_side, self._network.bb_regressor
        modulated = modulate(regressor.features(_levels(maps)), self._modulation)
        start = to_patch(self._state.position, self._state.size, patch.position, patch.scale, side)
        box, _ = self._settings.refinement.refine(regressor, modulated, start, self._generator)
        if box is None:
            return
        position, size = from_patch(box, patch.position, patch.scale, side)
        if not (SIDE_RANGE_PX[0] < size.min() and size.max() < SIDE_RANGE_PX[1]):
            return
        self._state = State(position, size, np.sqrt(np.prod(size) / np.prod(self._base_size)))
        self._refined_position = position

    def _remember(self, features: Tensor, patch: Patch, *, is_hard: bool) -> None:
        """Keep the sample with the box that was found, and update the filter if it is time or a distractor was seen."""
        settings = self._settings
        box = to_patch(self._state.position, self._state.size, patch.position, patch.scale, settings.crop_side)
        self._memory.add(features, box, settings.hard_negative_learning_rate if is_hard else settings.learning_rate)
        if is_hard:
            self._learn(settings.hard_negative_iterations)
        elif (self._frame - 1) % settings.train_skipping == 0:
            self._learn(settings.update_iterations)

    def _learn(self, iterations: int) -> None:
        self._filter = self._network.classifier.filter_optimizer(self._filter, self._memory.samples, iterations)


def _levels(maps: Features, which: slice = slice(None)) -> TwoLevels:
    return TwoLevels(maps.layer2[which], maps.layer3[which])


@register("dimp18")
class DiMP18(DiMP):
    """DiMP on ResNet-18."""

    variant = Variant("dimp18", resnet18, hinge_loss, channels=256, blocks=1, settings=DIMP)


@register("dimp50")
class DiMP50(DiMP):
    """DiMP on ResNet-50."""

    variant = Variant("dimp50", resnet50, hinge_loss, channels=512, blocks=0, settings=DIMP)


@register("prdimp18")
class PrDiMP18(DiMP):
    """PrDiMP on ResNet-18."""

    variant = Variant("prdimp18", resnet18, kl_divergence, channels=256, blocks=1)


@register("prdimp50")
class PrDiMP50(DiMP):
    """PrDiMP on ResNet-50, with a larger search area."""

    variant = Variant("prdimp50", resnet50, kl_divergence, channels=512, blocks=0, settings=WIDE)


@register("super_dimp")
class SuperDiMP(DiMP):
    """DiMP's classifier with PrDiMP's box regression."""

    variant = Variant("super_dimp", resnet50, hinge_loss, channels=512, blocks=0, settings=replace(WIDE, target_not_found_threshold=0.25))
