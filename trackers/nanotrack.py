"""NanoTrack v2 and v3: light anchor-free Siamese trackers, fast on a CPU. No paper; docs/trackers.md tells the procedure."""

import numpy as np
from numpy.typing import NDArray

from sftrack.engine import fastest_engine

from .registry import register
from .siamese.nano import v2, v3
from .siamese.penalty import boxes_from_distances, grid_points
from .siamese.procedure import Settings
from .siamese.runner import EngineBuilder, NetworkTracker, Variant, Weights

STRIDE_PX = 16
"""Distance of neighbouring cells of the score map in the search crop."""

V2 = Variant("nanotrack-v2", v2, Settings(penalty_k=0.150, window_influence=0.490, lr=0.385), 16)
V3 = Variant("nanotrack-v3", v3, Settings(penalty_k=0.138, window_influence=0.455, lr=0.348), 15)


class NanoTrack(NetworkTracker):
    """Runs one of the two versions; see `NetworkTracker` for the arguments."""

    def __init__(
        self, version: Variant, settings: Settings, weights: Weights, device: str, precision: str, build: EngineBuilder = fastest_engine
    ) -> None:
        super().__init__(version, settings, 1, weights, device, precision, build)
        self._points = grid_points(version.score_size, STRIDE_PX)

    def _decode(self, loc: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # the procedure takes no box that is not finite
            return boxes_from_distances(self._points, np.exp(loc))


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
    """Version 2; see `NetworkTracker` and `Settings` for the arguments."""
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
    """Version 3; see `NetworkTracker` and `Settings` for the arguments."""
    return NanoTrack(V3, Settings(penalty_k, window_influence, lr, temperature=temperature), weights, device, precision)
