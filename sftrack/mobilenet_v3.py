"""MobileNetV3-small without its tail (Howard et al., ICCV 2019), used by NanoTrack and NN_feat2seg: stride 16, same padding."""

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scales each channel by a factor in [0, 1] that follows from the means of all (Hu et al., CVPR 2018)."""

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, reduced), nn.ReLU(), nn.Linear(reduced, width), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        factors: Tensor = self.fc(x.mean((2, 3)))
        return x * factors[:, :, None, None]


class Block(nn.Module):
    """1x1 convolution to `hidden` channels, depthwise convolution, 1x1 to `outputs`; the input is added where the shape stays.

    Without expansion (`hidden` equals `inputs`) the channels are scaled after the activation, else before it.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, kernel: int, stride: int, reduced: int | None, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        scale = nn.Identity() if reduced is None else SqueezeExcite(hidden, reduced)
        project = (nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        if inputs == hidden:
            self.conv = nn.Sequential(depthwise, nn.BatchNorm2d(hidden), activation(), scale, *project)
        else:
            expand = (nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation())
            self.conv = nn.Sequential(*expand, depthwise, nn.BatchNorm2d(hidden), scale, activation(), *project)
        self._adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        out: Tensor = self.conv(x)
        return out + x if self._adds_input else out


_BLOCKS = (  # inputs, hidden, outputs, kernel, stride, reduced width of the squeeze, activation
    (16, 16, 16, 3, 2, 8, nn.ReLU),
    (16, 72, 24, 3, 2, None, nn.ReLU),
    (24, 88, 24, 3, 1, None, nn.ReLU),
    (24, 96, 40, 5, 2, 24, nn.Hardswish),
    (40, 240, 40, 5, 1, 64, nn.Hardswish),
    (40, 240, 40, 5, 1, 64, nn.Hardswish),
    (40, 120, 48, 5, 1, 32, nn.Hardswish),
    (48, 144, 48, 5, 1, 40, nn.Hardswish),
    (48, 288, 96, 5, 1, 72, nn.Hardswish),
)


class MobileNetV3(nn.Module):
    """The backbone; the state dict has the official names (below `backbone.`)."""

    def __init__(self, blocks: int) -> None:
        """`blocks`: 8 (NanoTrack v2, 48 channels) or 9 (v3, 96 channels)."""
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        rest = (
            Block(inputs, hidden, outputs, kernel=kernel, stride=stride, reduced=reduced, activation=activation)
            for inputs, hidden, outputs, kernel, stride, reduced, activation in _BLOCKS[:blocks]
        )
        self.features = nn.Sequential(stem, *rest)
        self.width = _BLOCKS[blocks - 1][2]

    def forward(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)`, for NanoTrack BGR, 0 to 255, to `(B, width, H / 16, W / 16)`, rounded up."""
        features: Tensor = self.features(images)
        return features

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, after the features that it has at an eighth of the resolution, `(B, 24, H / 8, W / 8)`."""
        eighth = self.features[:4](images)
        return eighth, self.features[4:](eighth)
