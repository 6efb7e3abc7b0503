"""The network of NN_feat2seg: a picture, encoded once, and any number of boxes in it become segmentations.

What things are is told by a MobileNetV3-small that learned it from very many pictures (NanoTrack's), where they end by layers of our own.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftrack.mobilenet_v3 import MobileNetV3


def conv_bn(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and batch norm, which `fold` merges into one convolution for tracking."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class SharedConv(nn.ModuleList):
    """Convolution and batch norm over the joined channels of one picture and of each of its boxes.

    A convolution of joined maps is the sum of two, so the picture's part, the larger one, is computed once for all boxes.
    """

    def __init__(self, shared: int, own: int, outputs: int, *, kernel: int) -> None:
        super().__init__(conv_bn(shared + own, outputs, kernel=kernel))

    @property
    def _conv(self) -> nn.Conv2d:
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def of_picture(self, shared: Tensor) -> Tensor:
        """The picture's part, from its channels `(1 or B, Cshared, H, W)` to `(1 or B, Cout, H, W)`."""
        conv = self._conv
        return functional.conv2d(shared, conv.weight[:, : shared.shape[1]], padding=conv.padding)

    def forward(self, of_picture: Tensor, own: Tensor) -> Tensor:
        """The picture's part and the boxes' channels `(B, Cown, H, W)` to `(B, Cout, H, W)`."""
        conv = self._conv
        of_boxes = functional.conv2d(own, conv.weight[:, -own.shape[1] :], conv.bias, padding=conv.padding)
        result: Tensor = self[1](of_boxes + of_picture)
        return result


def _of_picture(layer: nn.Module, shared: Tensor) -> Tensor:
    assert isinstance(layer, SharedConv)
    return layer.of_picture(shared)


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

    def forward(self, x: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """Features `(B, C, h, w)` and images of the box and of its surroundings `(B, 1, h, w)` to features."""
        means = [(x * part).sum((2, 3)) / (part.sum((2, 3)) + 1e-3) for part in (inside, outside)]
        context: Tensor = self.mix(torch.cat(means, dim=1))
        return functional.relu(x + context[:, :, None, None], inplace=True)


class ColourOdds(nn.Module):
    """How much more frequent each pixel's colour is inside the box than outside: the cue that GrabCut works with.

    Colour histograms of `BINS` per axis (of the square roots, so that dark tones differ), smoothed by a small kernel, give
    `tanh(log(p_in / p_out) / 2)`.
    """

    BINS = 10
    smoothing: Tensor
    smoothing_of_two: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(self.BINS)
        near = torch.exp(-0.5 * ((offsets[:, None] - offsets[None]) / 0.6) ** 2)
        smoothing = near / near.sum(1, keepdim=True)
        self.register_buffer("smoothing", smoothing.T.contiguous(), persistent=False)
        self.register_buffer("smoothing_of_two", torch.kron(smoothing, smoothing), persistent=False)

    def bins(self, images: Tensor) -> Tensor:
        """The bin of every pixel's colour, from images `(B, 3, h, w)` in [0, 1] to `(B, h w) int64`."""
        places = (images.float().sqrt() * self.BINS).long().clamp_(0, self.BINS - 1)
        return ((places[:, 0] * self.BINS + places[:, 1]) * self.BINS + places[:, 2]).flatten(1)

    @torch.no_grad()
    def forward(self, bins: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """Bins `(B or 1, h w)`, images of box and surroundings `(B, 1, h, w)`, to `(B, 1, h, w)` in [-1, 1]."""
        index = bins.expand(len(inside), -1)
        weights = torch.cat([inside, outside]).float().flatten(1)
        counts = torch.zeros(len(weights), self.BINS**3, device=weights.device).scatter_add_(1, torch.cat([index, index]), weights)
        with torch.autocast(weights.device.type, enabled=False):  # rare colours would be lost in half of the bits
            # The first two axes of a histogram are smoothed by one product, the last by another.
            smooth = self.smoothing_of_two.float() @ counts.reshape(-1, self.BINS**2, self.BINS) @ self.smoothing.float()
        frequencies = smooth.flatten(1) / (weights.sum(1, keepdim=True) + 1e-3) + 3e-4
        inner, outer = frequencies.chunk(2)
        return torch.tanh(torch.log(inner / outer).gather(1, index) / 2.0).reshape(inside.shape)


class Prototypes(nn.Module):
    """Likeness of each pixel's feature to the mean feature inside and outside the box."""

    def unit(self, features: Tensor) -> Tensor:
        """Features `(B, C, h, w)` relative to their mean, scaled to unit length."""
        return functional.normalize(features - features.mean((2, 3), keepdim=True), dim=1)

    def forward(self, unit: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """What `unit` gave `(B or 1, C, h, w)`, images of box and surroundings `(B, 1, h, w)`, to cosines `(B, 2, h, w)`."""
        flat = unit.flatten(2)
        weights = torch.cat([inside.flatten(2), outside.flatten(2)], dim=1).to(flat.dtype)
        means = weights @ flat.transpose(1, 2)
        cosines = functional.normalize(means, dim=2) @ flat
        return cosines.reshape(len(inside), 2, *unit.shape[2:])


MEANING_WIDTH = 64
"""Channels of what the backbone tells at an eighth of the resolution."""


class Up(nn.Module):
    """Bilinear up-sampling by 2, projection to the output's width, sum with the projected skip, residual block."""

    def __init__(self, inputs: int, outputs: int, skip: nn.Module) -> None:
        super().__init__()
        self.project = conv_bn(inputs, outputs, kernel=1)
        self.skip = skip
        self.block = Residual(outputs)

    def forward(self, deep: Tensor, *skip: Tensor) -> Tensor:
        """Features `(B, Cin, h, w)` and what the skip takes, at `2h, 2w`, to `(B, Cout, 2h, 2w)`."""
        raised = functional.interpolate(self.project(deep), scale_factor=2.0, mode="bilinear", align_corners=False)
        result: Tensor = self.block(functional.relu(raised + self.skip(*skip), inplace=True))
        return result


class Features(NamedTuple):
    """What a picture `(B, 3, H, W)` holds, whatever the box.

    Attributes:
        bins: of its colours at half of the resolution, see `ColourOdds.bins`.
        half, quarter, eighth: its part of what is made at 1/2, 1/4, 1/8 of the resolution, see `SharedConv.of_picture`.
        sixteenth: likewise, `(B, C, H / 16, W / 16)`.
        unit_quarter, unit_eighth: see `Prototypes.unit`.
        raw_quarter: the features at 1/4 as they are, `(B, C, H / 4, W / 4)`.
    """

    bins: Tensor
    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor
    unit_quarter: Tensor
    unit_eighth: Tensor
    raw_quarter: Tensor


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
        self.colour = ColourOdds()
        self.prototypes = Prototypes()
        self.prompt = nn.ModuleList([SharedConv(w2, 4, w2, kernel=3)])
        self.backbone = MobileNetV3(9)
        self.near = conv_bn(24, MEANING_WIDTH, kernel=1)
        self.far = conv_bn(self.backbone.width, MEANING_WIDTH, kernel=1)
        self.deepest = conv_bn(self.backbone.width, w4, kernel=1)
        self.prompt_eighth = nn.ModuleList([SharedConv(MEANING_WIDTH, 3, w3, kernel=3)])
        self.to_eighth, self.eighth = conv_bn(w2, w3, stride=2), Residual(w3)
        self.to_sixteenth, self.sixteenth = conv_bn(w3, w4, stride=2), Residual(w4)
        self.context = GlobalContext(w4)
        self.up_eighth = Up(w4, w3, conv_bn(w3, w3, kernel=1))
        self.up_quarter = Up(w3, w2, conv_bn(w2, w2, kernel=1))
        self.up_half = Up(w2, w1, SharedConv(w1, 2, w1, kernel=1))
        self.head = nn.Conv2d(w1, 4, 1)

    def encode(self, images: Tensor) -> Features:
        """Images `(B, 3, H, W)` in [0, 1] to what does not depend on the box."""
        half = self.stem((images - self.mean) / self.std)
        quarter = self.quarter(half)
        near, far = self.backbone.pyramid(images)
        raised = functional.interpolate(self.far(far), scale_factor=2.0, mode="bilinear", align_corners=False)
        eighth = functional.relu(self.near(near) + raised, inplace=True)
        return Features(
            self.colour.bins(functional.avg_pool2d(images, 2)),
            _of_picture(self.up_half.skip, half),
            _of_picture(self.prompt[0], quarter),
            _of_picture(self.prompt_eighth[0], eighth),
            self.deepest(far),
            self.prototypes.unit(quarter),
            self.prototypes.unit(eighth),
            quarter,
        )

    def decode(self, features: Features, boxes: Tensor, visible: Tensor) -> Tensor:
        """Features of one image (`B = 1`) or of one per box; the other arguments as for `forward`; logits `(K, 1, H, W)`."""
        boxes, around = visible * boxes, visible * (1.0 - boxes)
        box_half, around_half = functional.avg_pool2d(boxes, 2), functional.avg_pool2d(around, 2)
        box_quarter, around_quarter = functional.avg_pool2d(box_half, 2), functional.avg_pool2d(around_half, 2)
        box_eighth, around_eighth = functional.avg_pool2d(box_quarter, 2), functional.avg_pool2d(around_quarter, 2)
        odds_half = self.colour(features.bins, box_half, around_half).to(boxes.dtype)
        hints = [box_quarter, functional.avg_pool2d(odds_half, 2), self.prototypes(features.unit_quarter, box_quarter, around_quarter)]
        quarter = functional.relu(self.prompt[0](features.quarter, torch.cat(hints, dim=1)), inplace=True)
        hints = [box_eighth, self.prototypes(features.unit_eighth, box_eighth, around_eighth)]
        meaning = self.prompt_eighth[0](features.eighth, torch.cat(hints, dim=1))
        eighth = self.eighth(functional.relu(self.to_eighth(quarter) + meaning, inplace=True))
        sixteenth = self.sixteenth(functional.relu(self.to_sixteenth(eighth) + features.sixteenth, inplace=True))
        deep = self.context(sixteenth, functional.avg_pool2d(box_eighth, 2), functional.avg_pool2d(around_eighth, 2))
        raised = self.up_quarter(self.up_eighth(deep, eighth), quarter)
        fine = self.up_half(raised, features.half, torch.cat([box_half, odds_half], dim=1))
        return functional.pixel_shuffle(self.head(fine), 2)

    def forward(self, images: Tensor, boxes: Tensor, visible: Tensor) -> Tensor:
        """From crops to logits `(B, 1, H, W)`.

        Args:
            images: `(B, 3, H, W)` in [0, 1].
            boxes: box images `(B, 1, H, W)` in [0, 1].
            visible: `(B, 1, H, W)`, 1 where the crop shows the frame, 0 beyond its border.
        """
        return self.decode(self.encode(images), boxes, visible)
