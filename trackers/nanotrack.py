"""NanoTrack v2 and v3: light anchor-free Siamese trackers, fast on a CPU. No paper; docs/trackers.md tells the procedure."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .registry import register
from .siamese.nano import v2, v3
from .siamese.penalty import boxes_from_distances, grid_points
from .siamese.procedure import Settings
from .siamese.runner import NetworkTracker, Variant

STRIDE_PX = 16
"""Distance of neighbouring cells of the score map in the search crop."""

V2 = Variant("nanotrack-v2", v2, Settings(penalty_k=0.150, window_influence=0.490, lr=0.385), 16)
V3 = Variant("nanotrack-v3", v3, Settings(penalty_k=0.138, window_influence=0.455, lr=0.348), 15)


class NanoTrack(NetworkTracker):
    """Subclasses name the version; see `NetworkTracker` and `Settings` for the arguments."""

    version: ClassVar[Variant]

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (see the signature)
        super().__init__(self.version, 1, **options)
        self._points = grid_points(self.version.score_size, STRIDE_PX)

    def _decode(self, loc: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # the procedure takes no box that is not finite
            return boxes_from_distances(self._points, np.exp(loc))


@register("nanotrack-v2")
class NanoTrackV2(NanoTrack):
    """Version 2."""

    version = V2


@register("nanotrack-v3")
class NanoTrackV3(NanoTrack):
    """Version 3."""

    version = V3
