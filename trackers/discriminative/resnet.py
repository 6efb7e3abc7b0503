"""ResNet-18 and ResNet-50 as ImageNet classifiers have them (He et al., CVPR 2016), cut after layer 3, with torchvision's tensor names."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..siamese.resnet import Bottleneck

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_IMAGENET_CLASSES = 1000


class Features(NamedTuple):
    """Maps of a batch of pictures, each after its last ReLU.

    Attributes:
        conv1: stride 2, before the max-pooling, 64 channels.
        layer1: stride 4; 64 channels (ResNet-18) or 256 (ResNet-50).
        layer2: stride 8; twice as many.
        layer3: stride 16; four times as many.
    """

    conv1: Tensor
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, width, h, w)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)).add_(shortcut), inplace=True)


def _bottleneck(inputs: int, width: int, stride: int) -> Bottleneck:
    """Stride in the 3x3 convolution, as torchvision has it."""
    conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
    return Bottleneck(inputs, width, conv2, _shortcut(inputs, 4 * width, stride))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """The layers up to stride 16. `layer4` and `fc`, which are in every published state dict, are there until `drop_unused`.

    Args:
        block: builds a block from channels in, width and stride.
        blocks: number of blocks of the four layers.
        expansion: channels out of a block per width.
    """

    def __init__(self, block: Callable[[int, int, int], nn.Module], blocks: tuple[int, int, int, int], expansion: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        layers: list[nn.Module] = []
        for index, count in enumerate(blocks):
            width = 64 * 2**index
            first = block(channels, width, 1 if index == 0 else 2)
            channels = width * expansion
            layers.append(nn.Sequential(first, *(block(channels, width, 1) for _ in range(count - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc: nn.Module = nn.Linear(channels, _IMAGENET_CLASSES)
        self.widths = (64 * expansion, 128 * expansion, 256 * expansion)
        """Channels of layers 1, 2 and 3."""
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def drop_unused(self) -> None:
        """Free the memory of what no tracker computes; to be called once the weights are loaded."""
        self.layer4, self.fc = nn.Identity(), nn.Identity()

    def normalise(self, images_rgb: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)`, RGB, 0 to 255, to what the network was trained on."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (images_rgb / 255.0 - mean) / std

    def stem(self, normalised: Tensor) -> Tensor:
        """The first convolution, before the max-pooling: `(B, 64, H / 2, W / 2)`."""
        return functional.relu(self.bn1(self.conv1(normalised)), inplace=True)

    def forward(self, images_rgb: Tensor) -> Features:
        """Pictures `(B, 3, H, W)`, RGB, 0 to 255, to their maps."""
        conv1 = self.stem(self.normalise(images_rgb))
        layer1 = self.layer1(functional.max_pool2d(conv1, 3, stride=2, padding=1))
        layer2 = self.layer2(layer1)
        return Features(conv1, layer1, layer2, self.layer3(layer2))


def resnet18() -> ResNet:
    """Basic blocks; layers of 64, 128 and 256 channels."""
    return ResNet(BasicBlock, (2, 2, 2, 2), 1)


def resnet50() -> ResNet:
    """Bottlenecks; layers of 256, 512 and 1024 channels."""
    return ResNet(_bottleneck, (3, 4, 6, 3), 4)
