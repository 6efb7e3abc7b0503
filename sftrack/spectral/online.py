"""SFSeg on the last frames of a stream: the window of SFTrack++ (paper, Sec. 4.6)."""

from collections import deque

import numpy as np

from sftrack.contracts import SoftMask
from sftrack.spectral.power import ArrayGraph
from sftrack.window import Window

EPSILON = 1e-6


class OnlineSFSeg:
    """Keeps the segmentations of the last frames and refines the newest one with what they have in common.

    The maps live in the coordinates of a window that follows the object; when it moves, the older maps are resampled into the new one.
    """

    def __init__(
        self, window: int = 5, *, iterations: int = 1, p: float = 0.1, alpha: float = 0.5, kernel_size: tuple[int, int, int] = (5, 5, 5)
    ) -> None:
        """See `power_step`; one iteration is what the paper found best for tracking (Table 9)."""
        self._maps: deque[tuple[Window, SoftMask]] = deque(maxlen=window)
        self._iterations, self._p, self._alpha, self._kernel_size = iterations, p, alpha, kernel_size

    def push(self, segmentation: SoftMask, window: Window) -> SoftMask:
        """Add the newest soft segmentation `(h, w)` in [0, 1] and return its refined version in [0, 1], which keeps its peak value."""
        self._maps.append((window, segmentation))
        s = np.concatenate([window.move(mask[None], source) for source, mask in self._maps])
        graph = ArrayGraph(s, [s], p=self._p, alpha=self._alpha, kernel_size=self._kernel_size)
        x = s
        for iteration in range(self._iterations):
            x = graph.multiply(x, len(s) - 1 if iteration == self._iterations - 1 else 0)
            x = x / (np.sqrt(np.square(x).sum()) + EPSILON)
        newest = x[-1]
        # The eigenvector has no scale; the peak of the input says how sure the segmentation was.
        refined: SoftMask = np.clip(newest * (segmentation.max() / (newest.max() + EPSILON)), 0.0, 1.0).astype(np.float32)
        return refined

    def clear(self) -> None:
        """Forget all frames, after the target was lost or chosen anew."""
        self._maps.clear()
