"""From a rough box to the mean of the best boxes that the IoU-Net finds around it (ATOM, section 3.4)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sftrack.engine import on_device

from .iou_net import IoUNet, Space, TwoLevels, ascend
from .patches import Vector, vector

MIN_SIDE_PX = 1.0
"""Sides of refined boxes in pixels of the crop are never below this."""


@dataclass(frozen=True)
class Refinement:
    """How boxes are refined.

    Attributes:
        space, iterations, step_length: see `iou_net.ascend`.
        random_boxes: tried beside the given one.
        position_jitter, size_jitter: ranges of the random boxes' middle and size, in square roots of the given one's area.
        best: how many of the boxes are averaged.
        max_aspect_ratio: boxes that are more elongated are dropped.
    """

    space: Space
    iterations: int
    step_length: float
    random_boxes: int = 9
    position_jitter: float = 0.1
    size_jitter: float = 0.5
    best: int = 3
    max_aspect_ratio: float = 6.0

    def refine(self, network: IoUNet, modulated: TwoLevels, box_xywh: Vector, generator: torch.Generator) -> tuple[Vector | None, float]:
        """The refined box `(4,)` in pixels of the crop, None where there is none; and the highest score of any."""
        uniform = torch.rand((self.random_boxes, 4), generator=generator)
        like = modulated.stride8
        proposals = on_device(self.proposals(torch.from_numpy(box_xywh), uniform).to(like.dtype), like.device)
        moved = ascend(network, modulated, proposals, space=self.space, iterations=self.iterations, step_length=self.step_length)
        joined = torch.cat([moved[0], moved[1][:, None]], dim=1).float().cpu()  # one wait for a GPU
        boxes, scores = joined[:, :4], joined[:, 4]
        return self.select(boxes, scores), float(scores.max())

    def proposals(self, box_xywh: Tensor, uniform: Tensor) -> Tensor:
        """The box `(4,)` and boxes around it, `(R + 1, 4)`, from numbers `(R, 4)` in [0, 1)."""
        size_wh = box_xywh[2:]
        ranges = box_xywh.new_tensor([self.position_jitter] * 2 + [self.size_jitter] * 2)
        moves = (uniform - 0.5) * size_wh.prod().sqrt() * ranges
        sizes_wh = torch.maximum(size_wh + moves[:, 2:], size_wh.min() / 3)
        middles = box_xywh[:2] + size_wh / 2 + moves[:, :2]
        return torch.cat([box_xywh[None], torch.cat([middles - sizes_wh / 2, sizes_wh], dim=1)])

    def select(self, boxes_xywh: Tensor, scores: Tensor) -> Vector | None:
        """The mean of the boxes of highest score, `(4,)`; None where all are too elongated or not finite."""
        boxes = torch.cat([boxes_xywh[:, :2], boxes_xywh[:, 2:].clamp(min=MIN_SIDE_PX)], dim=1)
        ratios = boxes[:, 2] / boxes[:, 3]
        sound = (ratios < self.max_aspect_ratio) & (ratios > 1 / self.max_aspect_ratio) & boxes.isfinite().all(1) & scores.isfinite()
        boxes, scores = boxes[sound], scores[sound]
        if not len(boxes):
            return None
        best = scores.topk(min(self.best, len(boxes))).indices
        return vector(np.asarray(boxes[best].mean(0)))
