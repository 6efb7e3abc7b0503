"""The networks of NanoTrack v2 and v3: MobileNetV3, pixelwise correlation, light towers.

No paper describes them; names and shapes are those of the official state dicts, which also hold a neck that is never used.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sftrack.mobilenet_v3 import MobileNetV3

from .runner import SiameseNetwork
from .xcorr import depthwise_xcorr

TEMPLATE_SIDE = 8
"""Rows and columns of the template's features."""


def _adjust(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))


class ChannelAttention(nn.Module):
    """Scales each channel by a factor in [0, 1] that follows from the means of all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width, 1)
        self.fc2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        factors: Tensor = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * factors.sigmoid()


class PixelCorrelation(nn.Module):
    """Correlates every position of the template with every position of the search map."""

    def __init__(self, width: int, *, shrinks: bool) -> None:
        """`shrinks`: end with a 2x2 convolution, which makes the map one smaller (v3)."""
        super().__init__()
        positions = TEMPLATE_SIDE**2
        self.CA_layer = ChannelAttention(positions)
        self.conv_kernel = _adjust(width)
        self.conv_search = _adjust(width)
        if shrinks:
            self.conv = nn.Sequential(
                *(nn.Conv2d(positions, positions, 2, groups=positions, bias=False), nn.BatchNorm2d(positions), nn.ReLU6()),
                *(nn.Conv2d(positions, positions, 1), nn.BatchNorm2d(positions)),
            )
        else:
            self.conv = nn.Sequential()

    def kernel(self, template: Tensor) -> Tensor:
        """Template features `(1, C, 8, 8)` to one row of `C` weights per position, `(1, 64, C)`."""
        kernel: Tensor = self.conv_kernel(template)
        return kernel.flatten(2).transpose(1, 2).contiguous()

    def forward(self, kernel: Tensor, search: Tensor) -> Tensor:
        """`kernel` and search features `(1, C, S, S)` to `(1, 64, S, S)`, or one smaller."""
        adjusted = self.conv_search(search)
        correlation = torch.matmul(kernel, adjusted.flatten(2)).reshape(1, -1, *adjusted.shape[2:])
        result: Tensor = self.conv(self.CA_layer(correlation))
        return result


class DepthwiseCorrelation(nn.Module):
    """Slides the middle of the template over the search map, channel by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_kernel = _adjust(width)
        self.conv_search = _adjust(width)

    def kernel(self, template: Tensor) -> Tensor:
        """Template features `(1, C, 8, 8)` to the filters `(1, C, 4, 4)`."""
        kernel: Tensor = self.conv_kernel(template[:, :, 2:6, 2:6])
        return kernel

    def forward(self, kernel: Tensor, search: Tensor) -> Tensor:
        """`kernel` and search features `(1, C, S, S)` to `(1, C, S - 1, S - 1)`."""
        return depthwise_xcorr(self.conv_search(search), kernel, padding=1)


class HeadV2(nn.Module):
    """Correlation, tower and prediction for classes and for distances (`cls`, `bbox`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.corr_pw_reg = PixelCorrelation(width, shrinks=False)
        self.corr_pw_cls = PixelCorrelation(width, shrinks=False)
        self.cls_pw_tower = self._tower()
        self.bbox_pw_tower = self._tower()
        self.cls_pred = nn.Sequential(nn.Conv2d(96, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(96, 4, 1))

    @staticmethod
    def _tower() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs in (64, 96, 96, 96, 96, 96):
            layers += [nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), nn.Conv2d(inputs, 96, 1, bias=False)]
            layers += [nn.BatchNorm2d(96), nn.ReLU6()]
        return nn.Sequential(*layers)

    def kernels(self, template: Tensor) -> list[Tensor]:
        """What depends on the template only, computed once per target."""
        return [self.corr_pw_cls.kernel(template), self.corr_pw_reg.kernel(template)]

    def forward(self, kernels: Sequence[Tensor], search: Tensor) -> tuple[Tensor, Tensor]:
        """`kernels` and search features `(1, C, S, S)` to class logits `(1, 2, S, S)` and logarithms of the distances `(1, 4, S, S)`."""
        of_cls, of_reg = kernels
        cls: Tensor = self.cls_pred(self.cls_pw_tower(self.corr_pw_cls(of_cls, search)))
        log_distances: Tensor = self.bbox_pred(self.bbox_pw_tower(self.corr_pw_reg(of_reg, search)))
        return cls, log_distances


class HeadV3(nn.Module):
    """As v2, with pixelwise and depthwise correlations joined, and maps of 15 x 15."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.corr_dw_reg = DepthwiseCorrelation(width)
        self.corr_pw_reg = PixelCorrelation(width, shrinks=True)
        self.corr_dw_cls = DepthwiseCorrelation(width)
        self.corr_pw_cls = PixelCorrelation(width, shrinks=True)
        self.cls_tower = self._tower(width)
        self.bbox_tower = self._tower(width)
        self.cls_logits = nn.Sequential(nn.Conv2d(width, 2, 1))
        self.bbox_pred = nn.Sequential(nn.Conv2d(width, 4, 1))
        self.down_reg = nn.Sequential(nn.Conv2d(TEMPLATE_SIDE**2 + width, width, 1))
        self.down_cls = nn.Sequential(nn.Conv2d(TEMPLATE_SIDE**2 + width, width, 1))

    @staticmethod
    def _tower(width: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(6):
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
            layers += [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)]
        return nn.Sequential(*layers)

    def kernels(self, template: Tensor) -> list[Tensor]:
        """What depends on the template only, computed once per target."""
        return [part.kernel(template) for part in (self.corr_pw_cls, self.corr_dw_cls, self.corr_pw_reg, self.corr_dw_reg)]

    def forward(self, kernels: Sequence[Tensor], search: Tensor) -> tuple[Tensor, Tensor]:
        """`kernels` and search features `(1, C, S, S)` to class logits `(1, 2, S - 1, S - 1)` and logarithms of the distances."""
        pw_cls, dw_cls, pw_reg, dw_reg = kernels
        of_cls = self.down_cls(torch.cat([self.corr_pw_cls(pw_cls, search), self.corr_dw_cls(dw_cls, search)], dim=1))
        of_reg = self.down_reg(torch.cat([self.corr_pw_reg(pw_reg, search), self.corr_dw_reg(dw_reg, search)], dim=1))
        cls: Tensor = self.cls_logits(self.cls_tower(of_cls))
        log_distances: Tensor = self.bbox_pred(self.bbox_tower(of_reg))
        return cls, log_distances


class NanoNetwork(SiameseNetwork):
    """Backbone and head of one version, and the neck that the official files hold."""

    def __init__(self, backbone: MobileNetV3, head: HeadV2 | HeadV3, neck_width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.ModuleDict(
            {"downsample": nn.Sequential(nn.Conv2d(neck_width, neck_width, 1, bias=False), nn.BatchNorm2d(neck_width))}
        )
        self.ban_head = head

    def template(self, images: Tensor) -> list[Tensor]:
        """See `SiameseNetwork`."""
        return self.ban_head.kernels(self.backbone(images))

    def forward(self, kernels: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """See `SiameseNetwork`; boxes are logarithms of the distances to the left, top, right and bottom edge in pixels of the crop."""
        cls, log_distances = self.ban_head(kernels, self.backbone(images))
        return cls, log_distances


def v2() -> NanoNetwork:
    """48 channels of features, maps of 16 x 16."""
    return NanoNetwork(MobileNetV3(blocks=8), HeadV2(48), 64)


def v3() -> NanoNetwork:
    """96 channels of features, maps of 15 x 15."""
    return NanoNetwork(MobileNetV3(blocks=9), HeadV3(96), 96)
