"""Neck and head of the trackers that compare features of three depths (SiamRPN++, section 3.3): adjust, correlate, fuse."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .runner import SiameseNetwork
from .xcorr import CorrelationBranch, KeepsFloat32

STRIDE_PX = 8
"""Distance of neighbouring cells of the score map in the search crop."""
WIDTH = 256
"""Channels of every level behind the neck."""
LEVELS = (2, 3, 4)
"""The levels' numbers in the official names: those of ResNet-50's layers."""


class Adjust(nn.Module):
    """1x1 convolution to `WIDTH` channels, without activation."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, WIDTH, H, W)`, or to its middle `(B, WIDTH, 7, 7)` where the map is the template's, 15 wide."""
        x = self.downsample(x)
        return x[:, :, 4:11, 4:11] if x.shape[3] < 20 else x


class Neck(nn.Module):
    """Brings the backbone's maps to the same width."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for level, width in zip(LEVELS, widths, strict=True):
            self.add_module(f"downsample{level}", Adjust(width))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map per level to one per level."""
        return [adjust(x) for adjust, x in zip(self.children(), maps, strict=True)]


class LevelHead(nn.Module):
    """Class and box branch of one level; alone it is the head of the AlexNet variant."""

    def __init__(self, cls_outputs: int, loc_outputs: int) -> None:
        super().__init__()
        self.cls = CorrelationBranch(WIDTH, cls_outputs)
        self.loc = CorrelationBranch(WIDTH, loc_outputs)

    def kernels(self, templates: Sequence[Tensor]) -> list[Tensor]:
        """Neck's template map `(1, WIDTH, h, w)` to the correlation kernels of both branches."""
        (template,) = templates
        return [self.cls.conv_kernel(template), self.loc.conv_kernel(template)]

    def forward(self, kernels: Sequence[Tensor], searches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Neck's search map to `cls (1, cls_outputs, S, S)` and `loc (1, loc_outputs, S, S)`, float32."""
        (of_cls, of_loc), (search,) = kernels, searches
        return self.cls(of_cls, search), self.loc(of_loc, search)


class FusedHead(KeepsFloat32):
    """The levels' heads, and the mean of their maps, weighted with learned weights or plain.

    Args:
        prefix: how the levels are called in the state dict, before their number.
        weighted: the checkpoint has `cls_weight` and `loc_weight`, whose softmax weighs the levels.
    """

    def __init__(self, prefix: str, cls_outputs: int, loc_outputs: int, *, weighted: bool) -> None:
        super().__init__()
        for level in LEVELS:
            self.add_module(f"{prefix}{level}", LevelHead(cls_outputs, loc_outputs))
        self.cls_weight = nn.Parameter(torch.zeros(len(LEVELS))) if weighted else None
        self.loc_weight = nn.Parameter(torch.zeros(len(LEVELS))) if weighted else None

    @property
    def levels(self) -> list[LevelHead]:
        """The heads of `LEVELS`, in this order."""
        return [cast(LevelHead, head) for head in self.children()]

    def kernels(self, templates: Sequence[Tensor]) -> list[Tensor]:
        """One template map per level to two correlation kernels per level."""
        return [kernel for head, template in zip(self.levels, templates, strict=True) for kernel in head.kernels([template])]

    def forward(self, kernels: Sequence[Tensor], searches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As for `LevelHead`, with one map per level."""
        pairs = zip(kernels[::2], kernels[1::2], strict=True)
        maps = [head(pair, [search]) for head, pair, search in zip(self.levels, pairs, searches, strict=True)]
        return self.fuse([cls for cls, _ in maps], [loc for _, loc in maps])

    def fuse(self, cls: Sequence[Tensor], loc: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The levels' maps to one of each."""
        return weighted_mean(cls, self.cls_weight), weighted_mean(loc, self.loc_weight)


def weighted_mean(maps: Sequence[Tensor], logits: Tensor | None) -> Tensor:
    """Mean of maps of the same shape; weights are the softmax of `logits (len(maps),)`, or equal where there are none."""
    stacked = torch.stack(tuple(maps))
    if logits is None:
        return stacked.mean(0)
    return (torch.softmax(logits, 0).reshape(-1, 1, 1, 1, 1) * stacked).sum(0)


class MultiLevelNetwork(SiameseNetwork):
    """Backbone, neck and head.

    Args:
        backbone: gives a list of maps; its `widths` are their channels.
        neck: from these to as many maps of `WIDTH` channels.
        head: `LevelHead` or `FusedHead`.
        head_name: how the state dict calls the head.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module, head_name: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.add_module(head_name, head)
        self._head_name = head_name

    @property
    def _head(self) -> LevelHead | FusedHead:
        return cast(LevelHead | FusedHead, self._modules[self._head_name])

    def template(self, images: Tensor) -> list[Tensor]:
        """See `SiameseNetwork`."""
        return self._head.kernels(self.neck(self.backbone(images)))

    def forward(self, kernels: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """See `SiameseNetwork`."""
        out: tuple[Tensor, Tensor] = self._head(kernels, self.neck(self.backbone(images)))
        return out
