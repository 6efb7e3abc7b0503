"""NN_feat2seg: an image and a box in it become a segmentation of the object in the box (paper, Sec. 5.2, first network).

The paper feeds `[R, G, B, box image]` of whole frames to a U-Net of 4.3 M parameters once per channel, 300 ms each. All channels look at
the same crop, so here the picture is encoded once (`encode`), and only what depends on the box runs per channel (`decode`, one batch).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sftrack.contracts import ImageRGB
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.window import rasterise


def conv_bn(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias and batch norm, which `fold` merges into one convolution for tracking."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """`relu(x + f(x))` with two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_bn(width, width)
        self.second = conv_bn(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        return functional.relu(x + self.second(functional.relu(self.first(x), inplace=True)), inplace=True)


class GlobalContext(nn.Module):
    """Adds to every pixel a vector computed from the mean inside and outside the box: what the object looks like as a whole."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, x: Tensor, box: Tensor) -> Tensor:
        """Features `(B, C, h, w)` and box image `(B, 1, h, w)` to features."""
        inside = (x * box).sum((2, 3)) / (box.sum((2, 3)) + 1e-3)
        outside = (x * (1 - box)).sum((2, 3)) / ((1 - box).sum((2, 3)) + 1e-3)
        context: Tensor = self.mix(torch.cat([inside, outside], dim=1))
        return functional.relu(x + context[:, :, None, None], inplace=True)


class Up(nn.Module):
    """Bilinear up-sampling by 2, projection to the skip's width, sum with the skip, residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = conv_bn(inputs, outputs, kernel=1)
        self.skip = conv_bn(outputs, outputs, kernel=1)
        self.block = Residual(outputs)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Features `(B, Cin, h, w)` and skip `(B or 1, Cout, 2h, 2w)` to `(B, Cout, 2h, 2w)`."""
        raised = functional.interpolate(self.project(deep), scale_factor=2.0, mode="bilinear", align_corners=False)
        result: Tensor = self.block(functional.relu(raised + self.skip(skip), inplace=True))
        return result


class Feat2Seg(nn.Module):
    """The network. Height and width of its input are multiples of 16 (`window.SIZE_MULTIPLE`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        self.register_buffer("mean", torch.tensor([0.46, 0.45, 0.42]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.27, 0.26, 0.27]).reshape(1, 3, 1, 1))
        self.stem = nn.Sequential(conv_bn(3, w1, stride=2), nn.ReLU(inplace=True), conv_bn(w1, w1), nn.ReLU(inplace=True))
        self.quarter = nn.Sequential(conv_bn(w1, w2, stride=2), nn.ReLU(inplace=True), Residual(w2))
        self.prompt = nn.Sequential(conv_bn(w2 + 1, w2), nn.ReLU(inplace=True))
        self.eighth = nn.Sequential(conv_bn(w2, w3, stride=2), nn.ReLU(inplace=True), Residual(w3))
        self.sixteenth = nn.Sequential(conv_bn(w3, w4, stride=2), nn.ReLU(inplace=True), Residual(w4), Residual(w4))
        self.context = GlobalContext(w4)
        self.up_eighth = Up(w4, w3)
        self.up_quarter = Up(w3, w2)
        self.up_half = Up(w2, w1)
        self.head = nn.Conv2d(w1, 4, 1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(B, 3, H, W)` in [0, 1] to features at half and quarter resolution: what does not depend on the box."""
        half = self.stem((images - self.mean) / self.std)
        return half, self.quarter(half)

    def decode(self, half: Tensor, quarter: Tensor, boxes: Tensor) -> Tensor:
        """Features of one image (`B = 1`) or one per box, and box images `(K, 1, H, W)` in [0, 1], to logits `(K, 1, H, W)`."""
        box_quarter = functional.avg_pool2d(boxes, 4)
        prompted = self.prompt(torch.cat([quarter.expand(len(boxes), -1, -1, -1), box_quarter], dim=1))
        eighth = self.eighth(prompted)
        deep = self.context(self.sixteenth(eighth), functional.avg_pool2d(box_quarter, 4))
        raised = self.up_quarter(self.up_eighth(deep, eighth), prompted)
        return functional.pixel_shuffle(self.head(self.up_half(raised, half)), 2)

    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [0, 1] and box images `(B, 1, H, W)` in [0, 1] to logits `(B, 1, H, W)`."""
        return self.decode(*self.encode(images), boxes)


def fold(network: nn.Module) -> nn.Module:
    """Merge every batch norm into the convolution before it, in place; for a network in eval mode."""
    for name, part in network.named_children():
        if isinstance(part, nn.Sequential) and isinstance(part[0], nn.Conv2d) and isinstance(part[1], nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(part[0], part[1]))
        else:
            fold(part)
    return network


@dataclass(frozen=True)
class Segmentations:
    """What NN_feat2seg says about K boxes in one crop.

    Attributes:
        masks: `(K, h, w) float32` in [0, 1].
        descriptors: `(K, D) float32`, unit length: the mean feature under each mask, a signature of what was segmented.
    """

    masks: NDArray[np.float32]
    descriptors: NDArray[np.float32]


class Segmenter:
    """NN_feat2seg as the pipeline uses it: NumPy in, NumPy out, one batch per frame."""

    def __init__(self, network: Feat2Seg, device: str = "cpu") -> None:
        self._network = fold(network.eval()).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def bundled(cls, device: str = "cpu") -> Self:
        """With the weights that the package ships."""
        return cls(load_network(Feat2Seg(), bundled_path("feat2seg")), device)

    @torch.inference_mode()
    def segment(self, crop_rgb: ImageRGB, boxes_xywh: NDArray[np.float64]) -> Segmentations:
        """Segment the objects in K boxes of one crop.

        Args:
            crop_rgb: `(h, w, 3) uint8`, sides multiples of 16.
            boxes_xywh: `(K, 4)` in crop pixels, K >= 1; parts outside the crop are ignored.
        """
        device = self._network.mean.device
        image = torch.from_numpy(crop_rgb).to(device)[None].permute(0, 3, 1, 2).float().div_(255.0)
        boxes = torch.from_numpy(rasterise(boxes_xywh, (crop_rgb.shape[1], crop_rgb.shape[0]))).to(device)[:, None]
        half, quarter = self._network.encode(image.contiguous(memory_format=torch.channels_last))
        masks = self._network.decode(half, quarter, boxes).sigmoid()
        shares = functional.avg_pool2d(masks, 4).flatten(1)
        means = (shares @ quarter[0].flatten(1).T) / (shares.sum(1, keepdim=True) + 1e-3)
        centred = means - quarter[0].mean((1, 2))
        descriptors = functional.normalize(centred, dim=1)
        return Segmentations(masks[:, 0].cpu().numpy(), descriptors.cpu().numpy())
