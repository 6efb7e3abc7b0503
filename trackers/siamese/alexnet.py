"""AlexNet without padding, groups and fully connected layers, as SiamFC introduced it and SiamRPN++ uses it."""

from torch import Tensor, nn


class AlexNet(nn.Module):
    """The backbone of the `alex` variants; the state dict has the official names (below `backbone.`)."""

    widths = (256,)
    """Channels of the map that comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 96, 11, stride=2), nn.BatchNorm2d(96), nn.MaxPool2d(3, stride=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(96, 256, 5), nn.BatchNorm2d(256), nn.MaxPool2d(3, stride=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(256, 384, 3), nn.BatchNorm2d(384), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 384, 3), nn.BatchNorm2d(384), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3), nn.BatchNorm2d(256)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures `(B, 3, H, W)`, BGR, 0 to 255, to one map at stride 8."""
        return [self.features(images)]
