"""What ATOM and DiMP do alike around their filters: crops, the views of the first frame, and the refinement of the box."""

import numpy as np
import torch
from torch import Tensor, nn

from sftrack.config import resolve_device
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.engine import fold, on_device

from ..base import BoxTracker
from .augmentation import Shift
from .dimp_settings import Settings, checked_seed
from .iou_net import IoUNet, TwoLevels, modulate
from .patches import Patch, Vector, sample_patch, to_patch
from .resnet import Features, ResNet
from .state import State, start_state

PATCH_EXPANSION = 2
"""Side of the patch that the first samples are cut from, in sides of a sample."""


class Network(nn.Module):
    """A backbone and a box regressor, under their official names."""

    feature_extractor: ResNet
    bb_regressor: IoUNet


class DiscriminativeTracker(BoxTracker):
    """Subclasses learn a filter and find the target with it."""

    _as_published = True
    _network: Network

    def __init__(self, network: Network, settings: Settings, device: str, seed: int) -> None:
        """The network belongs to the tracker from then on: what is not needed is dropped, batch norms are merged.

        `seed`: of the tracker's own generator, which every start begins anew.

        Raises:
            ConfigError: a device that is not here, or no seed.
        """
        self._settings, self._seed, self._device = settings, checked_seed(seed), torch.device(resolve_device(device))
        network.feature_extractor.drop_unused()
        fold(network).requires_grad_(False)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _begin(self, box_xywh: BoxXYWH) -> None:
        """Forget an earlier target."""
        self._generator = torch.Generator().manual_seed(self._seed)
        self._frame = 1
        self._state = start_state(box_xywh, self._settings.search_area_scale, self._settings.crop_side)
        self._base_size = self._state.base_size

    def _sample(self, image_rgb: ImageRGB, position: Vector, expansion: int = 1) -> Patch:
        """A crop, or a patch of several times its side."""
        side = self._settings.crop_side * expansion
        return sample_patch(
            image_rgb,
            position,
            float(self._state.scale * side),
            side,
            max_shrink=self._settings.max_shrink if expansion == 1 else None,
            fractional_bounds=self._settings.fractional_bounds,
        )

    def _views(self, image_rgb: ImageRGB, position: Vector) -> tuple[Tensor, list[Shift]]:
        """What the first frame is turned into, `(n, 3, N, N)`, and how far each view was moved."""
        patch = self._sample(image_rgb, position, PATCH_EXPANSION)
        return self._settings.augmentation.samples(patch.image_rgb, self._settings.crop_side, self._generator)

    def _maps_of_views(self, views: Tensor) -> tuple[Features, Tensor]:
        """All maps of the first view, and the deepest of all views; one by one on a CPU, where the maps of one stay in the cache."""
        backbone, views = self._network.feature_extractor, on_device(views, self._device)
        first, others = backbone(views[:1]), views[1:]
        parts = torch.split(others, 1 if self._device.type == "cpu" else len(others)) if len(others) else ()
        return first, torch.cat([first.layer3, *(backbone(part).layer3 for part in parts)])

    def _look_at(self, maps: Features, box_xywh: Tensor) -> None:
        """Remember how the target looks to the box regressor, from the first frame's maps and its box in the crop, `(4,)`."""
        self._modulation = self._network.bb_regressor.modulation(_levels(maps), box_xywh)

    def _in_crop(self, state: State, position: Vector, scale: np.float32) -> Vector:
        """The box `x, y, w, h` of a state in a crop around a position, `(4,)`."""
        return to_patch(state.position, state.size, position, scale, self._settings.crop_side)

    def _refined(self, maps: Features, rough: State, position: Vector, scale: np.float32) -> State | None:
        """The state of the best boxes near a rough one, in the crop that the maps are of; None where there are none."""
        regressor = self._network.bb_regressor
        modulated = modulate(regressor.features(_levels(maps)), self._modulation)
        box, _ = self._settings.refinement.refine(regressor, modulated, self._in_crop(rough, position, scale), self._generator)
        return None if box is None else rough.refined(box, position, scale, self._settings.crop_side, self._base_size)


def _levels(maps: Features) -> TwoLevels:
    return TwoLevels(maps.layer2, maps.layer3)
