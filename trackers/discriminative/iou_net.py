"""The IoU-Net of ATOM (Danelljan et al., CVPR 2019, section 3.1), which DiMP and PrDiMP kept, and the ascent of boxes on its score.

Its state dict has the official names (below `bb_regressor.` in the checkpoints).
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .prroi_pool import prroi_pool

Space = Literal["default", "relative"]
"""What the ascent moves: `default`, x, y, w, h with steps in sizes of the box (ATOM, DiMP); `relative`, the centre in sizes of the first
box, and the logarithms of width and height (PrDiMP)."""


class TwoLevels(NamedTuple):
    """Something for each of the two maps of the backbone, of stride 8 and 16."""

    stride8: Tensor
    stride16: Tensor


def _conv(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _LinearBlock(nn.Module):
    """A linear layer on pooled features, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """`(N, C, P, Q)` to `(N, outputs)`."""
        return torch.relu(self.bn(self.linear(pooled.flatten(1))))


class IoUNet(nn.Module):
    """Scores boxes: predicted overlap with the target (ATOM, DiMP) or an unnormalised log-density (PrDiMP).

    Args:
        widths: channels of the backbone's maps of stride 8 and 16.
    """

    def __init__(self, widths: tuple[int, int] = (128, 256)) -> None:
        super().__init__()
        width8, width16 = widths
        self.conv3_1r = _conv(width8, 128)
        self.conv3_1t = _conv(width8, 256)
        self.conv3_2t = _conv(256, 256)
        self.fc3_1r = _conv(128, 256, padding=0)
        self.conv4_1r = _conv(width16, 256)
        self.conv4_1t = _conv(width16, 256)
        self.conv4_2t = _conv(256, 256)
        self.fc34_3r = _conv(512, 256, kernel=1, padding=0)
        self.fc34_4r = _conv(512, 256, kernel=1, padding=0)
        self.fc3_rt = _LinearBlock(256 * 5 * 5, 256)
        self.fc4_rt = _LinearBlock(256 * 3 * 3, 256)
        self.iou_predictor = nn.Linear(512, 1)

    def modulation(self, layers: TwoLevels, box_xywh: Tensor) -> TwoLevels:
        """What the target looks like: a factor per channel, `(1, 256, 1, 1)` for each map.

        Args:
            layers: the backbone's maps `(1, C, H, W)` of the first crop.
            box_xywh: the target in its pixels, `(4,)`.
        """
        box = _corners(box_xywh)[None, None]
        fine = self.fc3_1r(prroi_pool(self.conv3_1r(layers.stride8), box, 3, 1 / 8)[0])
        coarse = prroi_pool(self.conv4_1r(layers.stride16), box, 1, 1 / 16)[0]
        both = torch.cat([fine, coarse], dim=1)
        return TwoLevels(self.fc34_3r(both), self.fc34_4r(both))

    def features(self, layers: TwoLevels) -> TwoLevels:
        """The maps that boxes are scored on, `(1, 256, H, W)` each, from the backbone's maps of a crop; not modulated yet."""
        return TwoLevels(self.conv3_2t(self.conv3_1t(layers.stride8)), self.conv4_2t(self.conv4_1t(layers.stride16)))

    def forward(self, modulated: TwoLevels, boxes_xywh: Tensor) -> Tensor:
        """Scores `(R,)` of boxes `(R, 4)` in pixels of the crop; `modulated` are its features times the modulation."""
        corners = _corners(boxes_xywh)[None]
        fine = self.fc3_rt(prroi_pool(modulated.stride8, corners, 5, 1 / 8)[0])
        coarse = self.fc4_rt(prroi_pool(modulated.stride16, corners, 3, 1 / 16)[0])
        scores: Tensor = self.iou_predictor(torch.cat([fine, coarse], dim=1))
        return scores[:, 0]


def modulate(features: TwoLevels, modulation: TwoLevels) -> TwoLevels:
    """Features of a crop for one target."""
    return TwoLevels(features.stride8 * modulation.stride8, features.stride16 * modulation.stride16)


def ascend(
    network: IoUNet, modulated: TwoLevels, boxes_xywh: Tensor, *, space: Space, iterations: int, step_length: float
) -> tuple[Tensor, Tensor]:
    """Move boxes up the gradient of their scores, each on its own (section 3.3 of ATOM; section 4.3 of PrDiMP).

    Features computed in inference mode cannot be differentiated: use `torch.no_grad()` around what makes them.

    Args:
        boxes_xywh: `(R, 4)` in pixels of the crop; the first one's size is the unit of the relative space for all.

    Returns:
        The boxes `(R, 4)` after the last step, and their scores `(R,)` at the last evaluation, which is before it.
    """
    unit_wh = boxes_xywh[:1, 2:]
    is_relative = space == "relative"
    state, scores = _to_relative(boxes_xywh, unit_wh) if is_relative else boxes_xywh, boxes_xywh.new_zeros(len(boxes_xywh))
    for _ in range(iterations):
        with torch.enable_grad():
            variable = state.detach().requires_grad_()
            scores = network(modulated, _from_relative(variable, unit_wh) if is_relative else variable)
            (gradient,) = torch.autograd.grad(scores.sum(), variable)
        state = state + step_length * (gradient if is_relative else gradient * state[:, 2:].repeat(1, 2))
    return _from_relative(state, unit_wh) if is_relative else state, scores.detach()


def _corners(boxes_xywh: Tensor) -> Tensor:
    return torch.cat([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], dim=-1)


def _to_relative(boxes_xywh: Tensor, unit_wh: Tensor) -> Tensor:
    return torch.cat([(boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2) / unit_wh, boxes_xywh[:, 2:].log()], dim=1)


def _from_relative(relative: Tensor, unit_wh: Tensor) -> Tensor:
    size_wh = relative[:, 2:].exp()
    return torch.cat([relative[:, :2] * unit_wh - size_wh / 2, size_wh], dim=1)
