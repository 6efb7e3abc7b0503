"""The network of DiMP and PrDiMP: one backbone, a classifier whose filter is learned online, and a box regressor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sftrack.errors import WeightsError

from .iou_net import IoUNet
from .procedure import Network
from .prroi_pool import prroi_pool
from .resnet import BasicBlock, ResNet
from .steepest_descent import STRIDE_PX, HingeLoss, KLDivergence, SteepestDescent

FILTER_SIDE = 4
"""Rows and columns of the target filter, in cells."""


class FilterInitializer(nn.Module):
    """A first filter from the features inside the target (DiMP, section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter_conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, boxes_xywh: Tensor) -> Tensor:
        """Mean `(1, C, K, K)` over the samples `(n, C, H, W)` of what is in the box `(n, 4)` of each, in pixels of the crop."""
        corners = torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1)
        return prroi_pool(self.filter_conv(features), corners[:, None], FILTER_SIDE, 1 / STRIDE_PX).mean(0)


class Classifier(nn.Module):
    """Classification features and what makes filters for them.

    Args:
        inputs: channels of the backbone's map.
        channels: of the features.
        blocks: residual blocks before the last convolution.
        optimizer: of the filter.
    """

    def __init__(self, inputs: int, channels: int, blocks: int, optimizer: SteepestDescent) -> None:
        super().__init__()
        self.filter_initializer = FilterInitializer(channels)
        self.filter_optimizer = optimizer
        last = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        self.feature_extractor = nn.Sequential(*(BasicBlock(inputs, inputs) for _ in range(blocks)), last)
        self._root_mean_square = 1.0 / (channels**0.5 * FILTER_SIDE)

    def features(self, layer3: Tensor) -> Tensor:
        """The backbone's map `(n, inputs, H, W)` to `(n, C, H, W)`; each sample has the same root mean square, `1 / sqrt(C K K)`."""
        x = self.feature_extractor(layer3).contiguous()
        size = x[0].numel()
        normalised: Tensor = x * (self._root_mean_square * (size / (x.square().sum((1, 2, 3), keepdim=True) + 1e-5)).sqrt())
        return normalised


class DiMPNet(Network):
    """The state dict has the official names.

    Args:
        backbone: see `ResNet`.
        channels: of the classification features.
        blocks: residual blocks before them.
        optimizer: of the filter.
    """

    def __init__(self, backbone: ResNet, channels: int, blocks: int, optimizer: SteepestDescent) -> None:
        super().__init__()
        self.feature_extractor = backbone
        self.classifier = Classifier(backbone.widths[2], channels, blocks, optimizer)
        self.bb_regressor = IoUNet(backbone.widths[1:])


OPTIONAL_PARTS = {
    "filter_size": FILTER_SIDE,
    "clf_feat_norm": True,
    "final_conv": True,
    "init_filter_norm": False,
    "init_pool_square": False,
    "init_uni_weight": None,
    "label_shrink": 0,
    "label_threshold": 0,
    "softmax_reg": None,
    "bin_displacement": 0.1,
    "score_act": "relu",
    "target_mask_act": "sigmoid",
}
"""Keywords of the published constructors that no tensor shows, with the only value that is implemented: that of all published networks.
Where one is absent it is taken to be that."""


def check_constructor(constructor: Mapping[str, Any], origin: str) -> None:
    """Refuse a network that has the same tensors and computes something else.

    Args:
        origin: where the checkpoint is from, as messages call it.

    Raises:
        WeightsError: a keyword has another value than published networks have.
    """
    for keyword, expected in OPTIONAL_PARTS.items():
        if constructor.get(keyword, expected) != expected:
            raise WeightsError(
                f"expected weights that were trained with {keyword}={expected}, {origin} has {constructor[keyword]}; use the published ones"
            )


def kl_divergence(constructor: Mapping[str, Any]) -> KLDivergence:
    """With the constants that a checkpoint brings; the published ones where it brings none at all."""
    if not constructor:
        return KLDivergence()
    sigma, min_reg, alpha_eps = (constructor.get(key, value) for key, value in (("gauss_sigma", 1.0), *_REGULARISATION))
    return KLDivergence(sigma=sigma, normalised=constructor.get("normalize_label", False), min_reg=min_reg, alpha_eps=alpha_eps)


def hinge_loss(constructor: Mapping[str, Any]) -> HingeLoss:
    """With the constants that a checkpoint brings, or the published ones."""
    min_reg, alpha_eps = (constructor.get(key, value) for key, value in _REGULARISATION)
    return HingeLoss(min_reg=min_reg, alpha_eps=alpha_eps)


_REGULARISATION = (("optim_min_reg", 1e-3), ("alpha_eps", 0.0))
"""Keywords of both constructors, and what they are where they were not given."""
