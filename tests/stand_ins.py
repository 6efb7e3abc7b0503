"""Small networks in place of the large ones, for what has to do with the tracking and not with what the networks have learned."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftrack.contracts import ImageRGB, SoftMask
from sftrack.trackers import factory_of, siamrpn
from sftrack.trackers.discriminative.dimp_net import DiMPNet
from sftrack.trackers.discriminative.iou_net import TwoLevels
from sftrack.trackers.discriminative.resnet import Features
from sftrack.trackers.discriminative.steepest_descent import HingeLoss
from tests.toy_siamese import ToyNetwork


class SmallBackbone(nn.Module):
    """Random filters on coarse patches: 96 channels at stride 16, which tell places apart by colour and edges."""

    widths = (96, 96, 96)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 96, 8, 4, padding=2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(self.conv.weight.shape, generator=generator))
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def drop_unused(self) -> None:
        """Nothing is."""

    def forward(self, images_rgb: Tensor) -> Features:
        deepest = functional.relu(self.conv(functional.avg_pool2d(images_rgb / 255.0 - 0.4, 4)))
        return Features(images_rgb, deepest, deepest, deepest)


class BrightnessSegmenter:
    """The target is what is as bright as it was in the first frame."""

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        self._threshold = 0.0

    def start(self, crop_rgb: ImageRGB, mask: SoftMask) -> SoftMask:
        light = crop_rgb.max(axis=2)
        inside, outside = light[mask > 0.5], light[mask <= 0.5]
        self._threshold = (float(inside.mean()) + float(outside.mean())) / 2.0
        return self.segment(crop_rgb)

    def improve(self, mask: SoftMask) -> None:
        """It needs none."""

    def segment(self, crop_rgb: ImageRGB) -> SoftMask:
        return np.asarray(np.clip((crop_rgb.max(axis=2) - self._threshold) / 40.0 + 0.5, 0.0, 1.0), dtype=np.float32)


def small_d3s(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Let `create("d3s", ...)` build these; returns their weights, as arguments for it."""
    monkeypatch.setattr("sftrack.trackers.d3s.resnet50", SmallBackbone)
    monkeypatch.setattr("sftrack.trackers.d3s.SegmentationNetwork", SmallBackbone)
    monkeypatch.setattr("sftrack.trackers.d3s.Segmenter", BrightnessSegmenter)
    state = SmallBackbone().state_dict()
    return {"weights": state, "backbone_weights": state}


class IndifferentRegressor(nn.Module):
    """All boxes are alike, so each stays where it is."""

    def modulation(self, layers: TwoLevels, box_xywh: Tensor) -> TwoLevels:
        return TwoLevels(*(torch.ones(1) for _ in layers))

    def features(self, layers: TwoLevels) -> TwoLevels:
        return layers

    def forward(self, modulated: TwoLevels, boxes_xywh: Tensor) -> Tensor:
        return 0.0 * boxes_xywh.sum(dim=1)


class SmallATOMNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = SmallBackbone()
        self.bb_regressor = IndifferentRegressor()


def small_atom(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let `create("atom18", ...)` build these; returns their weights, and settings that cost little, as arguments for it."""
    monkeypatch.setattr("sftrack.trackers.atom.ATOMNet", SmallATOMNet)
    return {"weights": SmallATOMNet().state_dict(), "use_augmentation": False, "random_boxes": 1}


def small_dimp(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let `create` build one of `DiMP`'s variants with these; returns their weights, and settings that cost little, as arguments for it."""
    tracker: Any = factory_of(name)
    variant = replace(tracker.variant, backbone=SmallBackbone, channels=96, blocks=0)
    monkeypatch.setattr(tracker, "variant", variant)
    monkeypatch.setattr("sftrack.trackers.discriminative.dimp_net.IoUNet", lambda _widths: IndifferentRegressor())
    network = DiMPNet(SmallBackbone(), 96, 0, variant.optimizer({}))  # type: ignore[arg-type]
    for convolution in (network.classifier.feature_extractor[0], network.classifier.filter_initializer.filter_conv):
        nn.init.dirac_(convolution.weight)  # type: ignore[arg-type]
    optimizer = network.classifier.filter_optimizer
    if isinstance(optimizer, HingeLoss):  # its label is 1 in the middle; beyond two cells only scores above it count
        distance = torch.arange(100).view(1, 100, 1, 1) / 10
        with torch.no_grad():
            optimizer.label_map_predictor.weight.copy_(torch.exp(-distance.square() / 1.6))
            optimizer.target_mask_predictor[0].weight.copy_(4.0 * (2.0 - distance))
            optimizer.spatial_weight_predictor.weight.fill_(1.0)
    return {"weights": network.state_dict(), "use_augmentation": False, "random_boxes": 0}


def small_siamese(tracker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let `create` build SiamRPN++ or SiamBAN (their module is given) with a toy network; returns its weights, as an argument for it."""

    def network() -> ToyNetwork:
        return ToyNetwork(5, 2, (0.0, 0.0, 0.0, 0.0)) if tracker is siamrpn else ToyNetwork(1, 0, (32.0, 32.0, 32.0, 32.0))

    monkeypatch.setitem(tracker.VARIANTS, "r50", replace(tracker.VARIANTS["r50"], network=network))
    return {"weights": network().state_dict()}
