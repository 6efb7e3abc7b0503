"""Fits boxes by ridge regression on features (Girshick et al., CVPR 2014, appendix C), learned on the first frame alone as in MDNet
(Nam & Han, CVPR 2016, section 4.2): no network is trained for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EXPANSION = 1.2
"""Size of what is looked at, in boxes: an edge is told by what is on both sides of it."""
BOXES_PER_VIEW = 60
"""Random boxes near the true one, from which each view teaches the way back."""
SHIFT_JITTER, SIZE_JITTER, ASPECT_JITTER = 0.06, 0.06, 0.04
"""Their standard deviations: of the centre in box sizes, of the logarithm of the size, and of half of the aspect ratio's."""
RIDGE = 1.0
"""Weight of the squared coefficients, in mean squared norms of the features."""
MAX_CHANGE = 0.3
"""Largest single correction, of the centre in box sizes and of the logarithm of the sides: more is beyond what was learned."""


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone: its stride in pixels, and how many points across a box it is read at."""

    stride_px: int
    points: int


class BoxRegressor:
    """From the features in and around a box to a better box.

    Boxes are `cx, cy, w, h` in pixels of the crop that the maps are of, from its upper left edge. Maps are `(1, C, H, W)`, one per level;
    cell 0 of a map has its centre in the middle of the crop's first pixel, as convolutions with padding leave it.
    """

    def __init__(
        self, levels: Sequence[Level], views: Sequence[tuple[Sequence[Tensor], Tensor]], caution: float, generator: torch.Generator
    ) -> None:
        """Learn.

        Args:
            views: maps and the true box `(4,)` in each; the first one is the picture as it is.
            caution: how much less is corrected where features are unlike those learned from. Corrections are multiplied with the part of
                their variance that the examples explain (1 - posterior over prior variance of the Gaussian process that ridge regression
                is the mean of), to this power.
        """
        self._levels, self._caution = levels, caution
        self._norms = [map_.square().mean().sqrt() + 1e-10 for map_ in views[0][0]]
        pairs = [self._near(maps, box, generator) for maps, box in views]
        features, changes = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self._mean, self._mean_change = features.mean(0), changes.mean(0)
        centred = features - self._mean
        products = centred @ centred.T  # there are fewer examples than features
        products.diagonal().add_(RIDGE * products.diagonal().mean() + 1e-10)
        inverse = torch.linalg.inv(products)
        self._weights = centred.T @ (inverse @ (changes - self._mean_change))
        self._examples, self._inverse = centred, inverse

    def change(self, maps: Sequence[Tensor], box: Tensor) -> Tensor:
        """What is between a box `(4,)` and the target's: of the centre in box sizes, of the sides as logarithms, `(4,)`."""
        centred = self._features(maps, box[None]) - self._mean
        change = centred @ self._weights + self._mean_change
        if self._caution:
            likeness = centred @ self._examples.T
            explained = (likeness @ self._inverse @ likeness.T).sum() / (centred.square().sum() + 1e-10)
            change = change * explained.clamp(0.0, 1.0) ** self._caution
        clamped: Tensor = change[0].clamp(-MAX_CHANGE, MAX_CHANGE)
        return clamped

    def _near(self, maps: Sequence[Tensor], box: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features `(n, D)` of boxes near the true one, and what is between them and it, `(n, 4)`."""
        noise = torch.randn((BOXES_PER_VIEW, 4), generator=generator)
        size, aspect = SIZE_JITTER * noise[:, 2:3], ASPECT_JITTER * noise[:, 3:]
        grown = torch.cat([size + aspect, size - aspect], dim=1)
        boxes = torch.cat([box[:2] + SHIFT_JITTER * noise[:, :2] * box[2:], box[2:] * grown.exp()], dim=1)
        return self._features(maps, boxes), torch.cat([(box[:2] - boxes[:, :2]) / boxes[:, 2:], -grown], dim=1)

    def _features(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """The maps, read on a regular grid in and around each of M boxes, `(M, D)`."""
        rows = [
            _read(map_, boxes, level) / (norm * (map_.shape[1] * level.points**2) ** 0.5)
            for level, map_, norm in zip(self._levels, maps, self._norms, strict=True)
        ]
        return torch.cat(rows, dim=1)


def _read(map_: Tensor, boxes: Tensor, level: Level) -> Tensor:
    """A map `(1, C, H, W)` on grids of `points` by `points` over expanded boxes `(M, 4)`, bilinear, `(M, C points points)`."""
    count, points, channels = len(boxes), level.points, map_.shape[1]
    steps = ((torch.arange(points) + 0.5) / points - 0.5) * EXPANSION
    sides = torch.tensor([map_.shape[3], map_.shape[2]])
    # From pixels to cells to coordinates between -1 and 1, which the outer cells' centres have.
    places = ((boxes[:, None, :2] + steps[None, :, None] * boxes[:, None, 2:] - 0.5) / level.stride_px) / (sides - 1) * 2 - 1
    x, y = places[:, None, :, 0].expand(-1, points, -1), places[:, :, None, 1].expand(-1, -1, points)
    grid = torch.stack([x, y], dim=-1).reshape(1, count * points, points, 2)
    values = functional.grid_sample(map_, grid, padding_mode="border", align_corners=True)[0]
    return values.reshape(channels, count, -1).transpose(0, 1).flatten(1)
