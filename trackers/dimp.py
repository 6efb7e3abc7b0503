"""DiMP (Bhat et al., ICCV 2019), PrDiMP (Danelljan et al., CVPR 2020) and SuperDiMP: a filter that is learned while tracking finds the
target, an IoU-Net fits the box. One procedure; the published trackers differ in their network and settings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.engine import on_device

from .checkpoints import Weights, load_checkpoint, load_into
from .discriminative.correlation import correlate
from .discriminative.dimp_net import DiMPNet, check_constructor, hinge_loss, kl_divergence
from .discriminative.dimp_settings import DIMP, WIDE, Settings
from .discriminative.localisation import Flag, Localisation, localise
from .discriminative.memory import SampleMemory
from .discriminative.patches import Patch, Vector, vector
from .discriminative.procedure import DiscriminativeTracker
from .discriminative.resnet import ResNet, resnet18, resnet50
from .discriminative.steepest_descent import STRIDE_PX, SteepestDescent
from .registry import keyword_signature, register


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
        """The network with its weights, on the CPU.

        Raises:
            MissingWeightsError, WeightsError: see `checkpoints.load_checkpoint`, `load_into`, `check_constructor`.
        """
        checkpoint = load_checkpoint(weights, self.weights)
        check_constructor(checkpoint.constructor, checkpoint.origin)
        network = DiMPNet(self.backbone(), self.channels, self.blocks, self.optimizer(checkpoint.constructor))
        load_into(network, checkpoint)
        return network


class DiMP(DiscriminativeTracker):
    """The procedure. Subclasses name the variant.

    Args:
        weights: an official checkpoint of the variant, as a path or a state dict, or None for the registry's file.
        device: where the network runs, see `resolve_device`.
        seed: of the tracker's own generator, which draws the shifts and dropouts of the first frame and the random boxes.
        settings: instead of the variant's, see `Settings`.

    Raises:
        ConfigError: a setting out of its range, or a device that is not here.
    """

    variant: ClassVar[Variant]
    _network: DiMPNet
    __signature__ = keyword_signature("weights", "device", "seed", settings=Settings)

    def __init__(self, *, weights: Weights = None, device: str = "cpu", seed: int = 0, **settings: Any) -> None:  # noqa: ANN401
        chosen = replace(self.variant.settings, **settings)
        super().__init__(self.variant.load(weights), chosen, device, seed)

    @torch.no_grad()
    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        settings = self._settings
        self._begin(box_xywh)
        self._refined_position: Vector | None = None

        middle = np.rint(self._state.position)
        views, shifts = self._views(image_rgb, middle)
        maps, layer3 = self._maps_of_views(views)
        features = self._network.classifier.features(layer3)
        features, shifts = settings.augmentation.with_dropouts(features, shifts, self._generator)
        box = self._in_crop(self._state, middle, self._state.scale)
        boxes = torch.from_numpy(np.stack([box + vector((right, down, 0, 0)) for down, right in shifts])).to(self._device)

        self._memory = SampleMemory(features, boxes, settings.sample_memory_size, settings.minimum_initial_weight)
        self._filter = self._network.classifier.filter_initializer(features, boxes)
        self._learn(settings.init_iterations)
        self._look_at(maps, boxes[0])

    @torch.no_grad()
    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._frame += 1
        patch = self._sample(image_rgb, self._state.position)
        maps = self._network.feature_extractor(on_device(patch.image_rgb, self._device))
        features = self._network.classifier.features(maps.layer3)
        found = self._localise(features, patch)
        if found.flag is Flag.NOT_FOUND:
            return None, 0.0
        rough = self._state.moved(patch.position + found.translation, image_rgb.shape[:2])
        refined = self._refined(maps, rough, patch.position, patch.scale)
        self._state = refined or rough
        if found.flag is not Flag.UNCERTAIN:
            self._remember(features, patch, is_hard=found.flag is Flag.HARD_NEGATIVE)
        if refined is not None:
            self._refined_position = refined.position
        elif self._refined_position is not None:
            self._state = replace(rough, position=self._refined_position)
        return self._state.box_xywh, found.peak / self._network.classifier.filter_optimizer.peak

    def _localise(self, features: Tensor, patch: Patch) -> Localisation:
        scores = self._network.classifier.filter_optimizer.confidence(correlate(features, self._filter))[0]
        cell = STRIDE_PX * patch.scale
        previous = (self._state.position - patch.position) / cell
        return localise(scores.cpu().numpy(), cell, self._state.size, previous, self._settings.thresholds)

    def _remember(self, features: Tensor, patch: Patch, *, is_hard: bool) -> None:
        """Keep the sample with the box that was found, and update the filter if it is time or a distractor was seen."""
        settings = self._settings
        box = self._in_crop(self._state, patch.position, patch.scale)
        self._memory.add(features, box, settings.hard_negative_learning_rate if is_hard else settings.learning_rate)
        if is_hard:
            self._learn(settings.hard_negative_iterations)
        elif (self._frame - 1) % settings.train_skipping == 0:
            self._learn(settings.update_iterations)

    def _learn(self, iterations: int) -> None:
        self._filter = self._network.classifier.filter_optimizer(self._filter, self._memory.samples, iterations)


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
