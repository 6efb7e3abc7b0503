"""Depthwise cross-correlation of template and search features, and the branch of SiamRPN++'s head around it."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn
from torch.nn import functional


def depthwise_xcorr(search: Tensor, kernel: Tensor, padding: int = 0) -> Tensor:
    """Slide every channel of the template over the same channel of the search map, all in one grouped convolution.

    Args:
        search: `(B, C, H, W)`.
        kernel: `(B, C, h, w)`.
        padding: rows and columns of zeros around the search map.

    Returns:
        `(B, C, H - h + 1 + 2 * padding, W - w + 1 + 2 * padding)`; not normalised (SiamRPN++, section 3.3).
    """
    batch, channels, height, width = search.shape
    joined = search.reshape(1, batch * channels, height, width)
    out = functional.conv2d(joined, kernel.reshape(batch * channels, 1, *kernel.shape[2:]), padding=padding, groups=batch * channels)
    return out.reshape(batch, channels, *out.shape[2:])


class KeepsFloat32(nn.Module):
    """A module whose own parameters stay float32 when a network is converted to half precision, for where rounding shows in the box."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if recurse:
            for part in self.children():
                part._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse=False)  # type: ignore[no-untyped-call]
        return self


class OutputConv2d(KeepsFloat32, nn.Conv2d):
    """A network's last convolution: logits and sizes come out, float32 whatever comes in."""

    def forward(self, input: Tensor) -> Tensor:
        """`(B, Cin, H, W)` to `(B, Cout, h, w) float32`."""
        return super().forward(input.float())


class CorrelationBranch(nn.Module):
    """What one branch (classes or boxes) makes of one level's features; the names are those of the official state dicts."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv_kernel = self._adjust(channels)
        self.conv_search = self._adjust(channels)
        self.head = nn.Sequential(
            *(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
            OutputConv2d(channels, outputs, 1),
        )

    @staticmethod
    def _adjust(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, kernel: Tensor, search: Tensor) -> Tensor:
        """`conv_kernel` of the template features, which stays the same for all frames, and search features, to a map of logits."""
        out: Tensor = self.head(depthwise_xcorr(self.conv_search(search), kernel))
        return out
