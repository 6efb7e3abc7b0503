"""NN_seg2box: from the refined segmentation to the box, and how sure it is (paper, Sec. 5.2, last network).

The paper paints a filled box with a U-Net and reads it off by thresholding. Here the four edges are read off directly, as expected
positions of distributions along the columns and rows. The network also sees the first frame's segmentation with the box that the user
drew, and so learns what the user calls the object: tight or loose, whole or part.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from sftrack.contracts import BoxXYWH, SoftMask
from sftrack.engine import KEPT_SIZES, Engine, fastest_engine, fold
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.window import rasterise

SIZE_PX = 64
"""Resolution at which the maps enter the network; edges come out in fractions of the window."""

MAP_NAMES = ("refined segmentation", "weighted boxes of the channels", "first segmentation", "first box")


@dataclass(frozen=True)
class BoxEvidence:
    """The maps that NN_seg2box sees, each `(h, w) float32` in [0, 1]; the first two in the current window, the others in the first."""

    refined: SoftMask
    votes: SoftMask
    first_refined: SoftMask
    first_box: SoftMask

    def maps(self) -> NDArray[np.float32]:
        """`(4, SIZE_PX, SIZE_PX) float32`, in the order of `MAP_NAMES`."""
        pooled = functional.adaptive_avg_pool2d(torch.from_numpy(self.stacked()), (SIZE_PX, SIZE_PX))
        return np.asarray(pooled.numpy(), dtype=np.float32)

    def stacked(self) -> NDArray[np.float32]:
        """The maps as they are, `(4, h, w) float32`."""
        return np.stack([self.refined, self.votes, self.first_refined, self.first_box])


def vote_map(boxes_xywh: NDArray[np.float64], weights: NDArray[np.float64], size_wh: tuple[int, int]) -> SoftMask:
    """Weighted mean of box images: `(K, 4)` boxes in working pixels and `(K,)` weights to `(h, w)`."""
    return np.asarray(np.einsum("k,khw->hw", weights, rasterise(boxes_xywh, size_wh)), dtype=np.float32)


def vote_share(expected: float, votes_expected: float, sharpness: float) -> float:
    """How much of the box comes from the channels' boxes: a softmax of `sharpness` times the expected overlaps of both, in [0, 1].

    Args:
        expected: of what is read from the segmentation.
        votes_expected: of the weighted mean of the channels' boxes.
        sharpness: as for the weights of the channels.
    """
    return float(expit(sharpness * (votes_expected - expected)))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _EdgePair(nn.Module):
    """Positions of the two edges along one axis, from features averaged and maximised over the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2 * width, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, 2, 1),
        )

    def forward(self, features: Tensor, axis: int) -> Tensor:
        """Features `(B, C, H, W)`; axis 2 pools rows (left, right edge), 3 columns (top, bottom). `(B, 2)` in window shares."""
        profile = self.layers(torch.cat([features.mean(axis), features.amax(axis)], dim=1))
        # Edges may lie outside the window: positions run from -0.25 to 1.25.
        positions = torch.linspace(-0.25, 1.25, profile.shape[2], device=profile.device)
        edges: Tensor = (functional.softmax(profile.float(), dim=2) * positions).sum(2)
        return edges


class Seg2Box(nn.Module):
    """The network: a small encoder-decoder, an edge head per axis, a score head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.at_half = nn.Sequential(_block(len(MAP_NAMES), width, 2), _block(width, width))
        self.at_quarter = nn.Sequential(_block(width, 2 * width, 2), _block(2 * width, 2 * width))
        self.at_eighth = nn.Sequential(_block(2 * width, 2 * width, 2), _block(2 * width, 2 * width))
        self.join = _block(4 * width, 2 * width)
        self.back = _block(3 * width, 2 * width)
        self.columns = _EdgePair(2 * width)
        self.rows = _EdgePair(2 * width)
        self.score = nn.Sequential(nn.Linear(4 * width, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(B, 4, 64, 64)` to edges `(B, 4)` as x1, y1, x2, y2 in window shares, and logits of the overlap `(B,)`."""
        half = self.at_half(maps)
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        joined = self.join(torch.cat([quarter, _double(eighth)], dim=1))
        back = self.back(torch.cat([half, _double(joined)], dim=1))
        x, y = self.columns(back, 2), self.rows(back, 3)
        edges = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
        pooled = torch.cat([eighth.mean((2, 3)), eighth.amax((2, 3))], dim=1)
        return edges, self.score(pooled)[:, 0]


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Reader(nn.Module):
    """The network with the pooling of `BoxEvidence.maps` before it, as products that any engine knows, whatever the size of the maps."""

    rows: Tensor
    columns: Tensor

    def __init__(self, network: Seg2Box, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        # What adaptive pooling makes of each row of a unit matrix are its weights.
        rows, columns = (functional.adaptive_avg_pool1d(torch.eye(side), SIZE_PX) for side in size_hw)
        self.register_buffer("rows", rows.T.contiguous())
        self.register_buffer("columns", columns)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(4, h, w)` to edges `(1, 4)` and logits of the overlap `(1,)`, see `Seg2Box`."""
        edges, logits = self.network((self.rows @ maps @ self.columns)[None])
        return edges, logits


class BoxReader:
    """NN_seg2box as the pipeline uses it."""

    def __init__(self, network: Seg2Box, device: str = "cpu") -> None:
        """The network belongs to the reader from then on."""
        self._network, self._device = fold(network.eval().requires_grad_(False)), device
        self._engine = lru_cache(KEPT_SIZES)(self._new_engine)

    @classmethod
    @cache
    def bundled(cls, device: str = "cpu") -> Self:
        """With the weights that the package ships; one for all who ask."""
        return cls(load_network(Seg2Box(), bundled_path("seg2box")), device)

    def prepare(self, size_wh: tuple[int, int]) -> None:
        """Make what reads maps of a size, which `read` would do when the first of them comes."""
        self._engine((size_wh[1], size_wh[0]))

    def _new_engine(self, size_hw: tuple[int, int]) -> Engine:
        reader, example = _Reader(self._network, size_hw).eval(), torch.zeros(len(MAP_NAMES), *size_hw)
        return fastest_engine(reader, [example], self._device)

    def read(self, evidence: BoxEvidence) -> tuple[BoxXYWH, float]:
        """The box `(4,)` in pixels of the window that the maps lie in, at least 1 wide and high, and its expected overlap in [0, 1]."""
        height, width = evidence.refined.shape
        edges, logit = self._engine((height, width)).run(evidence.stacked())
        x1, y1, x2, y2 = edges[0].astype(np.float64) * [width, height, width, height]
        box = np.array([x1, y1, max(x2 - x1, 1.0), max(y2 - y1, 1.0)])
        return box, float(expit(float(logit[0])))
