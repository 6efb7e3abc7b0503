"""ATOM (Danelljan et al., CVPR 2019) with ResNet-18: a filter that is learned while tracking finds the target, an IoU-Net fits the box."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.feat2seg import fold

from .base import BoxTracker
from .checkpoints import Weights, load_into, load_state_dict
from .discriminative.atom_settings import ATOMSettings
from .discriminative.augmentation import drop_channels
from .discriminative.iou_net import IoUNet, TwoLevels, modulate
from .discriminative.learned_filter import LearnedFilter
from .discriminative.localisation import Flag, localise
from .discriminative.online_filter import gaussian_labels, rms_normalised, upsampling
from .discriminative.patches import Vector, sample_patch, to_patch, vector
from .discriminative.resnet import Features, resnet18
from .discriminative.state import State, start_state
from .registry import keyword_signature, register

STRIDE_PX = 16
"""Of the features of the classifier."""
FILTER_SIDE = 4
"""Of the filter, in cells."""
PATCH_EXPANSION = 2
"""Side of the patch that the first samples are cut from, in sides of a sample."""


class ATOMNet(nn.Module):
    """Backbone and box regressor; the classifier has no weights of its own. The state dict has the official names."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = resnet18()
        self.bb_regressor = IoUNet()


@register("atom18")
class ATOM(BoxTracker):
    """See the module.

    Args:
        weights: the official checkpoint, as a path or a state dict, or None for the registry's file.
        device: where the network runs and the filter is learned.
        seed: of the tracker's own generator, which draws the shifts and dropouts of the first frame, the filter and the projection that
            learning starts from, and the random boxes.
        initial_filter, initial_projection: instead of those drawn, `(1, c, 4, 4)` and `(c, C, 1, 1)`.
        settings: see `ATOMSettings`.

    Raises:
        ConfigError: a setting out of its range.
    """

    __signature__ = keyword_signature("weights", "device", "seed", "initial_filter", "initial_projection", settings=ATOMSettings)

    def __init__(
        self,
        *,
        weights: Weights = None,
        device: str = "cpu",
        seed: int = 0,
        initial_filter: Tensor | None = None,
        initial_projection: Tensor | None = None,
        **settings: Any,  # noqa: ANN401 (see the signature)
    ) -> None:
        self._settings = ATOMSettings(**settings)
        self._seed, self._device = seed, torch.device(device)
        self._initial = initial_filter, initial_projection
        self._cells = self._settings.crop_side // STRIDE_PX
        self._upsampling = upsampling(self._cells, self._settings.crop_side).float()
        network = ATOMNet()
        load_into(network, load_state_dict(weights, "atom18"), "atom18")
        network.feature_extractor.drop_unused()
        fold(network).requires_grad_(False)
        self._network: ATOMNet = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        settings, side = self._settings, self._settings.crop_side
        self._generator = torch.Generator().manual_seed(self._seed)
        self._frame = 1
        self._state = start_state(box_xywh, settings.search_area_scale, side)
        self._base_size = self._state.base_size
        patch = self._sample(image_rgb, PATCH_EXPANSION)
        views, shifts = settings.augmentation.samples(patch, side, self._generator)
        first, *others = self._maps_of_views(views)
        box = torch.from_numpy(self._in_crop(self._state, np.rint(self._state.position), self._state.scale)).to(self._device)
        self._modulation = self._network.bb_regressor.modulation(TwoLevels(first.layer2[:1], first.layer3[:1]), box)
        features = torch.cat([rms_normalised(maps.layer3) for maps in (first, *others)])
        dropped = drop_channels(features[:1], settings.augmentation.dropouts, settings.dropout_probability, self._generator)
        shifts += [(0, 0)] * len(dropped)
        self._learn_first(torch.cat([features, dropped]), torch.tensor(shifts, dtype=torch.float32))

    @torch.no_grad()
    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._frame += 1
        settings, scale = self._settings, self._state.scale
        # The crop is cut around the position without its fraction, and reckoned with as if around the rounded one: so did the original.
        middle = np.rint(self._state.position)
        maps = self._network.feature_extractor(self._sample(image_rgb, 1).to(self._device))
        sample = self._filter.project(rms_normalised(maps.layer3))
        # In PyTorch: NumPy would wake as many threads as there are cores for these small products.
        scores = self._upsampling @ torch.from_numpy(self._filter.scores(sample)) @ self._upsampling.T
        found = localise(scores.numpy(), scale, self._state.size, vector((0, 0)), settings.thresholds)
        is_hard, is_found = found.flag is Flag.HARD_NEGATIVE, found.flag is not Flag.NOT_FOUND
        if is_found:
            rough = self._state.moved(middle + found.translation, image_rgb.shape[:2])
            refined = self._refined(maps, rough, middle)
            if found.flag is not Flag.UNCERTAIN:
                label = self._labels(torch.from_numpy((refined or rough).position - middle)[None], scale)
                self._filter.remember(sample, label, settings.hard_negative_learning_rate if is_hard else settings.learning_rate)
            self._state = refined or self._state
        if is_hard or (self._frame - 1) % settings.train_skipping == 0:  # the latter also while the target is lost
            self._filter.learn(settings.hard_negative_iterations if is_hard else settings.update_iterations)
        return (self._state.box_xywh, found.peak) if is_found else (None, 0.0)

    def _sample(self, image_rgb: ImageRGB, expansion: int) -> Tensor:
        side = self._settings.crop_side * expansion
        scaled = float(self._state.scale * side)
        return sample_patch(image_rgb, self._state.position, scaled, side, fractional_bounds=self._settings.fractional_bounds).image_rgb

    def _maps_of_views(self, views: Tensor) -> list[Features]:
        """Of the views of the first frame: one by one on a CPU, where the maps of one stay in the cache; else together."""
        count = 1 if self._device.type == "cpu" else len(views)
        return [self._network.feature_extractor(part.to(self._device)) for part in torch.split(views, count)]

    def _learn_first(self, features: Tensor, shifts: Tensor) -> None:
        """Learn from the first frame's features `(N, C, H, W)`, in which the target is moved by pixels of the crop `(N, 2)`, y and x."""
        settings, state = self._settings, self._state
        channels = settings.compressed_channels
        projection = torch.randn((channels, features.shape[1], 1, 1), generator=self._generator) / math.sqrt(features.shape[1])
        weight = torch.randn((1, channels, FILTER_SIDE, FILTER_SIDE), generator=self._generator) / (channels * FILTER_SIDE**2)
        given_weight, given_projection = self._initial
        offset = torch.from_numpy(state.position - np.rint(state.position))
        self._filter = LearnedFilter(
            features,
            self._labels(offset + shifts * float(state.scale), state.scale),
            weight if given_weight is None else given_weight,
            projection if given_projection is None else given_projection,
            steps=settings.init_steps,
            iterations=settings.init_iterations // settings.init_steps,
            slots=settings.sample_memory_size,
            initial_share=settings.minimum_initial_weight,
        )

    def _refined(self, maps: Features, rough: State, middle: Vector) -> State | None:
        """The state of the best boxes near a rough one; None where there are none."""
        regressor, side = self._network.bb_regressor, self._settings.crop_side
        modulated = modulate(regressor.features(TwoLevels(maps.layer2, maps.layer3)), self._modulation)
        box, _ = self._settings.refinement.refine(regressor, modulated, self._in_crop(rough, middle, rough.scale), self._generator)
        return None if box is None else rough.refined(box, middle, rough.scale, side, self._base_size)

    def _in_crop(self, state: State, middle: Vector, scale: np.float32) -> Vector:
        return to_patch(state.position, state.size, middle, scale, self._settings.crop_side)

    def _labels(self, offsets: Tensor, scale: np.float32) -> Tensor:
        """Score maps that crops should have, from the target's offset from their middle `(N, 2)`, y and x in pixels of the frame."""
        sigma = self._settings.label_sigma_factor * self._cells / self._settings.search_area_scale
        # A filter of even side has its middle between two cells.
        return gaussian_labels((offsets / (STRIDE_PX * float(scale)) + 0.5).to(self._device), self._cells, sigma)
