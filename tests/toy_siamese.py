"""A network small enough for the tests that really finds a target: it correlates the pictures themselves."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftrack.trackers.siamese.runner import SiameseNetwork

CELL_PX = 8


class ToyNetwork(SiameseNetwork):
    """Normalised correlation of pictures reduced by `CELL_PX`; it proposes one box of fixed size per cell.

    Args:
        shapes: boxes per cell as the tracker expects them.
        shape: the one among them that is proposed; the others are unlikely.
        loc: the four numbers of that box.
    """

    def __init__(self, shapes: int, shape: int, loc: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(loc))
        self._shapes, self._shape = shapes, shape

    def template(self, images: Tensor) -> list[Tensor]:
        middle = functional.avg_pool2d(images, CELL_PX)[:, :, 4:11, 4:11]
        middle = middle - middle.mean()
        return [middle / (middle.norm() + 1e-3)]

    def forward(self, kernels: tuple[Tensor, ...], images: Tensor) -> tuple[Tensor, Tensor]:
        (kernel,) = kernels
        pictures = functional.avg_pool2d(images, CELL_PX)
        ones = torch.ones_like(kernel)
        mean = functional.conv2d(pictures, ones) / ones.numel()
        energy = functional.conv2d(pictures.square(), ones) - ones.numel() * mean.square()
        likeness = functional.conv2d(pictures, kernel) / (energy.clamp(min=0.0).sqrt() + 1.0)
        foreground = torch.full((1, self._shapes, *likeness.shape[2:]), -20.0)
        foreground[:, self._shape] = 12.0 * (likeness[:, 0] - 0.5)
        loc = self.loc[:, None].expand(4, self._shapes).reshape(1, -1, 1, 1).expand(-1, -1, *likeness.shape[2:])
        return torch.cat([torch.zeros_like(foreground), foreground], dim=1), loc
