"""SiamBAN (Chen et al., CVPR 2020): SiamRPN++ without anchors; every cell predicts the distances to the four edges of the box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .registry import keyword_signature, register
from .siamese.head import LEVELS, STRIDE_PX, FusedHead, MultiLevelNetwork, Neck
from .siamese.penalty import boxes_from_distances, grid_points
from .siamese.procedure import Settings
from .siamese.resnet import ResNet50
from .siamese.runner import OPTIONS, NetworkTracker, Variant, variant_of


class BoxAdaptiveHead(FusedHead):
    """Fuses distances, not their logarithms; each level has a learned factor in the exponent."""

    def __init__(self) -> None:
        super().__init__("box", 2, 4, weighted=True)
        self.loc_scale = nn.Parameter(torch.ones(len(LEVELS)))

    def fuse(self, cls: Sequence[Tensor], loc: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and logarithms of distances, per level to logits and distances to the left, top, right and bottom edge in crop pixels."""
        return super().fuse(cls, [torch.exp(x * scale) for x, scale in zip(loc, self.loc_scale, strict=True)])


def network() -> MultiLevelNetwork:
    """The network on three maps of ResNet-50."""
    return MultiLevelNetwork(ResNet50(), Neck(ResNet50.widths), BoxAdaptiveHead(), "head")


VARIANTS = {
    "r50": Variant("siamban", network, Settings(0.08513642556896711, 0.4632532824922313, 0.44418184746462425), 25),
    "r50_otb": Variant("siamban_otb", network, Settings(0.020530504470126613, 0.3850733326567302, 0.4730770315643308), 25),
}
"""The published experiments, tuned for VOT2018 and for OTB."""


@register("siamban")
class SiamBAN(NetworkTracker):
    """See the module; the arguments are those of `siamrpn.SiamRPN`, the variants those of `VARIANTS` here."""

    __signature__ = keyword_signature("variant", *OPTIONS, settings=Settings)

    def __init__(self, *, variant: str = "r50", **options: Any) -> None:  # noqa: ANN401 (see the signature)
        chosen = variant_of(VARIANTS, variant)
        super().__init__(chosen, 1, **options)
        self._points = grid_points(chosen.score_size, STRIDE_PX)

    def _decode(self, loc: NDArray[np.float32]) -> NDArray[np.float32]:
        return boxes_from_distances(self._points, loc)
