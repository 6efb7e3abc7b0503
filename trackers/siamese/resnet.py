"""ResNet-50 as SiamRPN++ and SiamBAN use it: stride 8, dilated in the last two layers, no padding where it is strided."""

from torch import Tensor, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut (He et al., CVPR 2016); four times as many channels come out as it works with."""

    def __init__(self, inputs: int, width: int, conv2: nn.Conv2d, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv2
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 4 * width, h, w)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        return functional.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)


def _layer(inputs: int, width: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A stage. Its first block changes the size, with half of the dilation, and except in layer 1 its shortcut is a 3x3 convolution too."""
    reach = max(dilation // 2, 1)
    padding = 0 if stride > 1 else reach

    def changing(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride, padding, reach, bias=False)

    same_grid = stride == 1 and dilation == 1
    shortcut = nn.Conv2d(inputs, 4 * width, 1, bias=False) if same_grid else changing(inputs, 4 * width)
    stage = [Bottleneck(inputs, width, changing(width, width), nn.Sequential(shortcut, nn.BatchNorm2d(4 * width)))]
    for _ in range(blocks - 1):
        conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        stage.append(Bottleneck(4 * width, width, conv2, None))
    return nn.Sequential(*stage)


class ResNet50(nn.Module):
    """The backbone of the `r50` variants; the state dict has the official names (below `backbone.`)."""

    widths = (512, 1024, 2048)
    """Channels of the three maps that come out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 3)
        self.layer2 = _layer(256, 128, 4, stride=2)
        self.layer3 = _layer(512, 256, 6, dilation=2)
        self.layer4 = _layer(1024, 512, 3, dilation=4)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures `(B, 3, H, W)`, BGR, 0 to 255, to the maps of layers 2, 3 and 4, all at stride 8."""
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer1(functional.max_pool2d(x, 3, stride=2, padding=1))
        maps = [self.layer2(x)]
        for layer in (self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps
