"""The segmentation network of D3S (Lukežič et al., CVPR 2020, 3.1 and 3.3): similarity to the first frame, refined to full size."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftrack.contracts import ImageRGB, SoftMask
from sftrack.engine import fold, on_device

from .resnet import Features, resnet50

CROP_PX = 384
"""Side of the crops that are segmented."""

CELL_PX = 16
"""Side of a cell of the deepest features in the crop."""

NEAREST = 3
"""So many of the most similar cells are averaged."""


def _block(kernel: int, inputs: int, outputs: int, *, relu: bool = True) -> nn.Sequential:
    """Convolution with bias, batch norm, and a ReLU if asked for."""
    parts = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, nn.ReLU(inplace=True)) if relu else nn.Sequential(*parts)


def _raise(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def at_cells(maps: Tensor) -> Tensor:
    """`(..., H, W)` at the upper left pixel of each cell, `(..., H / 16, W / 16)`."""
    return maps[..., ::CELL_PX, ::CELL_PX]


def distance_map() -> Tensor:
    """Distance of each pixel of a crop from its middle, `(CROP_PX, CROP_PX)`, in pixels; the zero lies at `CROP_PX / 2 - 1`."""
    offsets = torch.arange(CROP_PX, dtype=torch.float32) - (CROP_PX // 2 - 1)
    return torch.hypot(offsets[:, None], offsets[None])


@dataclass(frozen=True)
class Template:
    """The first frame as later ones are compared with it: unit vectors `(B, 64, N)` of its cells, the target's share in each `(N,)`."""

    embedding: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Similarity:
    """How alike each cell of a crop and the first frame's target and background are, and the target's probability by that; `(B, h, w)`."""

    foreground: Tensor
    background: Tensor
    posterior: Tensor


class Predictor(nn.Module):
    """From the features of two crops to a segmentation; the state dict has the official names (below `segm_predictor.`)."""

    distance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.segment0 = _block(1, 1024, 64)
        self.segment1 = _block(3, 64, 64, relu=False)
        self.mixer = _block(3, 3, 64)
        self.s3, self.s2, self.s1, self.s0 = _block(3, 64, 32), _block(3, 32, 32), _block(3, 16, 16), _block(3, 4, 4)
        self.f2, self.f1, self.f0 = _block(3, 512, 32), _block(3, 256, 16), _block(3, 64, 4)
        self.post2, self.post1, self.post0 = _block(3, 32, 16), _block(3, 16, 4), _block(3, 4, 2, relu=False)
        self.register_buffer("distance", at_cells(distance_map()), persistent=False)

    def embed(self, layer3: Tensor) -> Tensor:
        """The deepest features `(B, 1024, h, w)` to what cells are compared by, `(B, 64, h, w)`."""
        embedding: Tensor = self.segment1(self.segment0(layer3))
        return embedding

    def template(self, layer3: Tensor, mask: Tensor) -> Template:
        """Remember a crop by its deepest features, with its mask `(384, 384)` in [0, 1]."""
        return Template(functional.normalize(self.embed(layer3).flatten(2), dim=1), at_cells(mask).flatten())

    def compare(self, template: Template, layer3: Tensor) -> Similarity:
        """The mean of the `NEAREST` largest cosines with cells of the target, the same with the background, and the softmax of the two.

        A cell of the other side takes part with a cosine of 0, so that with less than `NEAREST` cells zeros enter the mean.
        """
        embedding = functional.normalize(self.embed(layer3), dim=1)
        cosines = embedding.flatten(2).transpose(1, 2) @ template.embedding
        sides = [(cosines * share).topk(NEAREST, dim=2).values.mean(2) for share in (template.mask, 1.0 - template.mask)]
        foreground, background = (side.reshape(-1, *embedding.shape[2:]) for side in sides)
        return Similarity(foreground, background, torch.sigmoid(foreground - background))

    def refine(self, similarity: Similarity, features: Features) -> Tensor:
        """Logits of target and background `(B, 2, 384, 384)`."""
        distance = self.distance.expand_as(similarity.posterior)
        x = self.s3(_raise(self.mixer(torch.stack([similarity.posterior, similarity.foreground, distance], dim=1))))
        x = self.post2(_raise(self.f2(features.layer2) + self.s2(x)))
        x = self.post1(_raise(self.f1(features.layer1) + self.s1(x)))
        logits: Tensor = self.post0(_raise(self.f0(features.conv1) + self.s0(x)))
        return logits

    def forward(self, template: Template, features: Features) -> Tensor:
        """Logits of target and background `(B, 2, 384, 384)`."""
        return self.refine(self.compare(template, features.layer3), features)


class SegmentationNetwork(nn.Module):
    """Backbone and `Predictor`; the state dict has the official names."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = resnet50()
        self.segm_predictor = Predictor()

    def template(self, features: Features, mask: Tensor) -> Template:
        """Remember a crop by its features, with its mask `(384, 384)` in [0, 1]."""
        return self.segm_predictor.template(features.layer3, mask)

    def extract(self, crops_rgb: Tensor) -> Features:
        """Crops `(B, 3, 384, 384)`, RGB, 0 to 255, to their maps."""
        features: Features = self.feature_extractor(crops_rgb)
        return features

    def forward(self, template: Template, features: Features) -> Tensor:
        """The target's probability in each pixel, `(B, 384, 384)`."""
        target, background = self.segm_predictor(template, features).unbind(1)
        return torch.sigmoid(target - background)


class Segmenter:
    """`SegmentationNetwork` as the tracker uses it: NumPy in, NumPy out, one crop `(384, 384, 3) uint8` at a time."""

    _template: Template

    def __init__(self, network: SegmentationNetwork, device: str = "cpu") -> None:
        """The network belongs to the segmenter from then on: what is not needed is dropped, batch norms are merged."""
        network.feature_extractor.drop_unused()
        self._device = torch.device(device)
        fold(network.eval())
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def start(self, crop_rgb: ImageRGB, mask: SoftMask) -> SoftMask:
        """Compare all later crops with this one, whose mask may be rough, and compare it with itself first.

        Returns:
            The target's probability in it, `(384, 384)`.
        """
        features = self._network.extract(self._to_tensor(crop_rgb))
        self._template = self._network.template(features, self._on_device(mask))
        return self._probability(features)

    @torch.inference_mode()
    def improve(self, mask: SoftMask) -> None:
        """Give the first crop a better mask."""
        self._template = replace(self._template, mask=at_cells(self._on_device(mask)).flatten())

    @torch.inference_mode()
    def segment(self, crop_rgb: ImageRGB) -> SoftMask:
        """The target's probability in a later crop, `(384, 384)`."""
        return self._probability(self._network.extract(self._to_tensor(crop_rgb)))

    def _probability(self, features: Features) -> SoftMask:
        return np.asarray(self._network(self._template, features)[0].float().cpu().numpy(), dtype=np.float32)

    def _to_tensor(self, crop_rgb: ImageRGB) -> Tensor:
        return on_device(crop_rgb, self._device).permute(2, 0, 1)[None].float()

    def _on_device(self, mask: SoftMask) -> Tensor:
        return on_device(mask, self._device)
