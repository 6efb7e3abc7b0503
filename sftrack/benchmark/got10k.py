"""Our trackers in the GOT-10k toolkit's experiments. Needs the package `got10k`.

from got10k.experiments import ExperimentOTB
from sftrack.benchmark.got10k import SFTrackTracker

ExperimentOTB("data/OTB", version=2015).run(SFTrackTracker("light"))
"""

import numpy as np
from got10k.trackers import Tracker
from numpy.typing import ArrayLike, NDArray

from sftrack.benchmark.guest import Guest


class SFTrackTracker(Tracker):  # type: ignore[misc]  # the package has no types
    """What `got10k.experiments` drive.

    Args:
        tracker: a preset, a single tracker or a settings file, as `sftrack bench run --tracker` takes it.
        device: `auto`, `cpu`, `cuda`, ...
        name: of the results' folder; default: the tracker's.
        first_pixel: what the data set calls the first pixel; 1 for OTB, UAV123, GOT-10k and LaSOT, 0 for NFS and TrackingNet.
    """

    def __init__(self, tracker: str = "auto", device: str = "auto", *, name: str | None = None, first_pixel: int = 1) -> None:
        self._guest = Guest(tracker, device)
        self._offset = np.array([first_pixel, first_pixel, 0.0, 0.0])
        super().__init__(name or self._guest.name, is_deterministic=True)

    def init(self, image: ArrayLike, box: ArrayLike) -> None:
        """A PIL image in RGB, and left, top, width, height as the data set counts pixels."""
        self._guest.init(np.asarray(image, dtype=np.uint8), np.asarray(box, dtype=np.float64) - self._offset)

    def update(self, image: ArrayLike) -> NDArray[np.float64]:
        """Left, top, width, height, `(4,)`, as the data set counts pixels."""
        return np.asarray(self._guest.update(np.asarray(image, dtype=np.uint8)).box_xywh + self._offset)
