"""SiamRPN++ (Li et al., CVPR 2019): anchors, classified and refined by correlation with the features of the first frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .registry import keyword_signature, register
from .siamese.alexnet import AlexNet
from .siamese.head import STRIDE_PX, FusedHead, LevelHead, MultiLevelNetwork, Neck
from .siamese.mobilenet_v2 import MobileNetV2
from .siamese.penalty import grid_points
from .siamese.procedure import Settings
from .siamese.resnet import ResNet50
from .siamese.runner import OPTIONS, NetworkTracker, Variant, variant_of

ANCHOR_RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)
"""Height over width of the anchors of a cell."""
ANCHOR_SCALE = 8
"""Size of the anchors in strides."""

_CLS, _LOC = 2 * len(ANCHOR_RATIOS), 4 * len(ANCHOR_RATIOS)


def three_levels(backbone: ResNet50 | MobileNetV2, *, weighted: bool) -> MultiLevelNetwork:
    """The network on three maps of a deep backbone; `weighted` as for `FusedHead`."""
    return MultiLevelNetwork(backbone, Neck(backbone.widths), FusedHead("rpn", _CLS, _LOC, weighted=weighted), "rpn_head")


def one_level() -> MultiLevelNetwork:
    """The network on AlexNet's map, whole, as it is."""
    return MultiLevelNetwork(AlexNet(), nn.Identity(), LevelHead(_CLS, _LOC), "rpn_head")


VARIANTS = {
    "r50": Variant("siamrpn++-r50", lambda: three_levels(ResNet50(), weighted=True), Settings(0.05, 0.42, 0.38), 25),
    "r50_otb": Variant("siamrpn++-r50_otb", lambda: three_levels(ResNet50(), weighted=False), Settings(0.24, 0.5, 0.25), 25),
    "alex": Variant("siamrpn++-alex", one_level, Settings(0.16, 0.40, 0.30), 21, instance_size=287),
    "alex_otb": Variant("siamrpn++-alex_otb", one_level, Settings(0.16, 0.40, 0.30), 21, instance_size=287),
    "mobilev2": Variant("siamrpn++-mobilev2", lambda: three_levels(MobileNetV2(), weighted=False), Settings(0.04, 0.4, 0.5), 25),
}
"""The published experiments; those ending in `_otb` are tuned (and but for `alex_otb` differ in settings) for OTB."""


def anchors(score_size: int) -> NDArray[np.float32]:
    """Ratio by ratio, cell by cell: x and y of the centre relative to the middle of the search crop, width, height, in its pixels.

    Returns:
        `(4, N) float32`; sizes are rounded down to whole strides, as in training.
    """
    widths = np.floor(np.sqrt(STRIDE_PX**2 / np.array(ANCHOR_RATIOS)))
    heights = np.floor(widths * ANCHOR_RATIOS)
    sizes = ANCHOR_SCALE * np.stack([widths, heights])
    cells = score_size**2
    centers = np.tile(grid_points(score_size, STRIDE_PX).T, len(ANCHOR_RATIOS))
    return np.concatenate([centers, sizes.repeat(cells, axis=1)]).astype(np.float32)


def boxes_from_offsets(of_anchors: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Anchors `(4, N)`, shifted by shares of their size and scaled exponentially, all `(4, N)`; may overflow to infinity."""
    centers, sizes = of_anchors[:2], of_anchors[2:]
    with np.errstate(over="ignore"):
        return np.concatenate([offsets[:2] * sizes + centers, np.exp(offsets[2:]) * sizes])


@register("siamrpn++")
class SiamRPN(NetworkTracker):
    """See the module.

    Args:
        variant: out of `VARIANTS`: which checkpoint and which settings.
        options: the other arguments of `NetworkTracker`, and settings instead of the variant's, see `Settings`.
    """

    __signature__ = keyword_signature("variant", *OPTIONS, settings=Settings)

    def __init__(self, *, variant: str = "r50", **options: Any) -> None:  # noqa: ANN401 (see the signature)
        chosen = variant_of(VARIANTS, variant)
        super().__init__(chosen, len(ANCHOR_RATIOS), **options)
        self._anchors = anchors(chosen.score_size)

    def _decode(self, loc: NDArray[np.float32]) -> NDArray[np.float32]:
        return boxes_from_offsets(self._anchors, loc)
