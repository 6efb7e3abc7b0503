"""ATOM (Danelljan et al., CVPR 2019) with ResNet-18: a filter that is learned while tracking finds the target, an IoU-Net fits the box."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.engine import on_device

from .checkpoints import Weights, load_checkpoint, load_into
from .discriminative.atom_settings import ATOMSettings
from .discriminative.iou_net import IoUNet
from .discriminative.learned_filter import LearnedFilter, random_start
from .discriminative.localisation import Flag, localise
from .discriminative.online_filter import gaussian_labels, rms_normalised, upsampled, upsampling
from .discriminative.patches import vector
from .discriminative.procedure import DiscriminativeTracker, Network
from .discriminative.resnet import resnet18
from .registry import keyword_signature, register

STRIDE_PX = 16
"""Of the features of the classifier."""
FILTER_SIDE = 4
"""Of the filter, in cells."""


class ATOMNet(Network):
    """Backbone and box regressor; the classifier has no weights of its own. The state dict has the official names."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = resnet18()
        self.bb_regressor = IoUNet()


@register("atom18")
class ATOM(DiscriminativeTracker):
    """See the module.

    Args:
        weights: the official checkpoint, as a path or a state dict, or None for the registry's file.
        device: where the network runs and the filter is learned, see `resolve_device`.
        seed: of the tracker's own generator, which draws the shifts and dropouts of the first frame, the filter and the projection that
            learning starts from, and the random boxes.
        initial_filter, initial_projection: instead of those drawn, `(1, c, 4, 4)` and `(c, C, 1, 1)`.
        settings: see `ATOMSettings`.

    Raises:
        ConfigError: a setting out of its range, or a device that is not here.
    """

    _settings: ATOMSettings
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
        chosen, network = ATOMSettings(**settings), ATOMNet()
        load_into(network, load_checkpoint(weights, "atom18"))
        super().__init__(network, chosen, device, seed)
        self._initial = initial_filter, initial_projection
        self._cells = chosen.crop_side // STRIDE_PX
        self._upsampling = upsampling(self._cells, chosen.crop_side).float()

    @torch.no_grad()
    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._begin(box_xywh)
        views, shifts = self._views(image_rgb, self._state.position)
        maps, layer3 = self._maps_of_views(views)
        box = self._in_crop(self._state, np.rint(self._state.position), self._state.scale)
        self._look_at(maps, torch.from_numpy(box).to(self._device))
        features, shifts = self._settings.augmentation.with_dropouts(rms_normalised(layer3), shifts, self._generator)
        self._learn_first(features, torch.tensor(shifts, dtype=torch.float32))

    @torch.no_grad()
    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        self._frame += 1
        settings, scale = self._settings, self._state.scale
        # The crop is cut around the position without its fraction, and reckoned with as if around the rounded one: so did the original.
        middle = np.rint(self._state.position)
        maps = self._network.feature_extractor(on_device(self._sample(image_rgb, self._state.position).image_rgb, self._device))
        sample = self._filter.project(rms_normalised(maps.layer3))
        scores = upsampled(self._filter.scores(sample), self._upsampling)
        found = localise(scores, scale, self._state.size, vector((0, 0)), settings.thresholds)
        is_hard, is_found = found.flag is Flag.HARD_NEGATIVE, found.flag is not Flag.NOT_FOUND
        if is_found:
            rough = self._state.moved(middle + found.translation, image_rgb.shape[:2])
            refined = self._refined(maps, rough, middle, scale)
            if found.flag is not Flag.UNCERTAIN:
                label = self._labels(torch.from_numpy((refined or rough).position - middle)[None], scale)
                self._filter.remember(sample, label, settings.hard_negative_learning_rate if is_hard else settings.learning_rate)
            self._state = refined or self._state
        if is_hard or (self._frame - 1) % settings.train_skipping == 0:  # the latter also while the target is lost
            self._filter.learn(settings.hard_negative_iterations if is_hard else settings.update_iterations)
        return (self._state.box_xywh, found.peak) if is_found else (None, 0.0)

    def _learn_first(self, features: Tensor, shifts: Tensor) -> None:
        """Learn from the first frame's features `(N, C, H, W)`, in which the target is moved by pixels of the crop `(N, 2)`, y and x."""
        settings, state = self._settings, self._state
        channels = settings.compressed_channels
        weight, projection = random_start(features.shape[1], channels, FILTER_SIDE, self._generator)
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

    def _labels(self, offsets: Tensor, scale: np.float32) -> Tensor:
        """Score maps that crops should have, from the target's offset from their middle `(N, 2)`, y and x in pixels of the frame."""
        sigma = self._settings.label_sigma_factor * self._cells / self._settings.search_area_scale
        # A filter of even side has its middle between two cells.
        return gaussian_labels(on_device(offsets / (STRIDE_PX * float(scale)) + 0.5, self._device), self._cells, sigma)
