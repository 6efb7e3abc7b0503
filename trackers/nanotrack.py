"""NanoTrack v2 and v3: light anchor-free Siamese trackers, fast on a CPU. No paper; docs/trackers.md tells the procedure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sftrack.contracts import ImageRGB
from sftrack.engine import PRECISIONS, Engine, TorchEngine, fastest_engine
from sftrack.errors import ConfigError
from sftrack.feat2seg import fold

from .checkpoints import load_into, load_state_dict
from .registry import register
from .siamese.nano import NanoNetwork
from .siamese.penalty import boxes_from_distances, grid_points, hann_window
from .siamese.procedure import EXEMPLAR_SIZE_PX, Candidates, Settings, SiameseTracker

STRIDE_PX = 16
"""Distance of neighbouring cells of the score map in the search crop."""

Weights = str | Path | Mapping[str, Tensor] | None


@dataclass(frozen=True)
class Version:
    """What one published version is: its name among the weights, network, hyper-parameters, and rows and columns of its score map."""

    name: str
    network: Callable[[], NanoNetwork]
    settings: Settings
    score_size: int


V2 = Version("nanotrack-v2", NanoNetwork.v2, Settings(penalty_k=0.150, window_influence=0.490, lr=0.385), 16)
V3 = Version("nanotrack-v3", NanoNetwork.v3, Settings(penalty_k=0.138, window_influence=0.455, lr=0.348), 15)


def to_network(crop_rgb: Tensor, dtype: torch.dtype) -> Tensor:
    """`(h, w, 3) uint8` RGB to what the network was trained on: `(1, 3, h, w)`, BGR, 0 to 255."""
    return crop_rgb.permute(2, 0, 1)[None].flip(1).to(dtype)


class Template(nn.Module):
    """From the first frame's crop to what every later frame is compared with."""

    def __init__(self, network: NanoNetwork) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.ban_head

    def forward(self, crop_rgb: Tensor) -> list[Tensor]:
        """`(127, 127, 3) uint8` to the head's kernels."""
        return self.head.kernels(self.backbone(to_network(crop_rgb, self.backbone.dtype)))


class Comparison(nn.Module):
    """From a search crop and the template's kernels to scores and distances."""

    def __init__(self, network: NanoNetwork) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.ban_head

    def forward(self, crop_rgb: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        """`(255, 255, 3) uint8` to the foreground's share of the softmax `(N,)` and distances in pixels of the crop `(4, N)`, float32."""
        cls, log_distances = self.head(kernels, self.backbone(to_network(crop_rgb, self.backbone.dtype)))
        return cls.float().softmax(1)[0, 1].flatten(), log_distances[0].flatten(1).float().exp()


EngineBuilder = Callable[[nn.Module, Sequence[Tensor], str, torch.dtype], Engine]


class NanoTrack(SiameseTracker):
    """Runs the network of a `Version`.

    Args:
        settings: those of the version, or others.
        weights: as for `trackers.create`.
        device: where the network runs.
        precision: out of `PRECISIONS`; half of the bits make it faster on a GPU, and less exact.
        build: what makes the engine for the comparison with each frame.
    """

    def __init__(
        self, version: Version, settings: Settings, weights: Weights, device: str, precision: str, build: EngineBuilder = fastest_engine
    ) -> None:
        super().__init__(settings, hann_window(version.score_size))
        if precision not in PRECISIONS:
            raise ConfigError(f"expected precision out of {', '.join(PRECISIONS)}, got '{precision}'")
        dtype = PRECISIONS[precision]
        network = version.network()
        load_into(network, load_state_dict(weights, version.name), version.name)
        fold(network)
        self._points = grid_points(version.score_size, STRIDE_PX)
        self._template = TorchEngine(Template(network), device, dtype)
        self._kernels = self._template.keep(np.zeros((EXEMPLAR_SIZE_PX, EXEMPLAR_SIZE_PX, 3), np.uint8))
        crop = torch.zeros(settings.instance_size, settings.instance_size, 3, dtype=torch.uint8)
        self._comparison = build(Comparison(network), [crop, *self._kernels], device, dtype)

    def _set_template(self, crop_rgb: ImageRGB) -> None:
        self._kernels = self._template.keep(crop_rgb)

    def _compare(self, crop_rgb: ImageRGB) -> Candidates:
        scores, distances = self._comparison.run(crop_rgb, *self._kernels)
        return Candidates(scores, boxes_from_distances(self._points, distances))


@register("nanotrack-v2")
def nanotrack_v2(
    *,
    weights: Weights = None,
    device: str = "cpu",
    precision: str = "float32",
    penalty_k: float = V2.settings.penalty_k,
    window_influence: float = V2.settings.window_influence,
    lr: float = V2.settings.lr,
    temperature: float = V2.settings.temperature,
) -> NanoTrack:
    """Version 2; see `NanoTrack` and `Settings` for the arguments."""
    return NanoTrack(V2, Settings(penalty_k, window_influence, lr, temperature=temperature), weights, device, precision)


@register("nanotrack-v3")
def nanotrack_v3(
    *,
    weights: Weights = None,
    device: str = "cpu",
    precision: str = "float32",
    penalty_k: float = V3.settings.penalty_k,
    window_influence: float = V3.settings.window_influence,
    lr: float = V3.settings.lr,
    temperature: float = V3.settings.temperature,
) -> NanoTrack:
    """Version 3; see `NanoTrack` and `Settings` for the arguments."""
    return NanoTrack(V3, Settings(penalty_k, window_influence, lr, temperature=temperature), weights, device, precision)
