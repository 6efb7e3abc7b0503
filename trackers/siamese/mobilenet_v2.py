"""MobileNetV2 of 1.4 times the width (Sandler et al., CVPR 2018) at stride 8, dilated from layer 4 on, as SiamRPN++ uses it."""

from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise 3x3, 1x1 to few channels; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        width = expansion * inputs
        padding = 0 if stride > 1 else dilation
        self.conv = nn.Sequential(
            *(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True)),
            *(
                nn.Conv2d(width, width, 3, stride, padding, dilation, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU6(inplace=True),
            ),
            *(nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self._adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, outputs, h, w)`."""
        out: Tensor = self.conv(x)
        return out.add_(x) if self._adds_input else out


def _layer(inputs: int, outputs: int, dilations: tuple[int, ...], *, expansion: int = 6, stride: int = 1) -> nn.Sequential:
    """A stage with one block per dilation; the first one changes the size."""
    first, *others = dilations
    stage = [InvertedResidual(inputs, outputs, expansion=expansion, stride=stride, dilation=first)]
    stage += [InvertedResidual(outputs, outputs, expansion=expansion, stride=1, dilation=dilation) for dilation in others]
    return nn.Sequential(*stage)


class MobileNetV2(nn.Module):
    """The backbone of the `mobilev2` variant; the state dict has the official names (below `backbone.`)."""

    widths = (44, 134, 448)
    """Channels of the three maps that come out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(nn.Conv2d(3, 44, 3, stride=2, bias=False), nn.BatchNorm2d(44), nn.ReLU6(inplace=True))
        self.layer1 = _layer(44, 22, (1,), expansion=1)
        self.layer2 = _layer(22, 33, (1, 1), stride=2)
        self.layer3 = _layer(33, 44, (1, 1, 1), stride=2)
        self.layer4 = _layer(44, 89, (1, 2, 2, 2))
        self.layer5 = _layer(89, 134, (2, 2, 2))
        self.layer6 = _layer(134, 224, (2, 4, 4))
        self.layer7 = _layer(224, 448, (4,))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures `(B, 3, H, W)`, BGR, 0 to 255, to the maps of layers 3, 5 and 7, all at stride 8."""
        x = self.layer2(self.layer1(self.layer0(images)))
        third = self.layer3(x)
        fifth = self.layer5(self.layer4(third))
        return [third, fifth, self.layer7(self.layer6(fifth))]
