"""SFSeg on the last frames of a stream: the window of SFTrack++ (paper, Sec. 4.5 and 4.6)."""

from collections import deque
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sftrack.contracts import RANGE_TOLERANCE, SoftMask
from sftrack.spectral.checks import check_count, check_settings
from sftrack.spectral.gaussian import KernelSize
from sftrack.spectral.plusplus import SFSegPlusPlus
from sftrack.spectral.power import ArrayGraph, Volume
from sftrack.window import Window

EPSILON = 1e-6


@dataclass
class Remembered:
    """What is kept of a frame, each in the window that it was made in.

    Attributes:
        maps: its unary and pairwise map `(2, h, w)`, or `(1, h, w)` where they are one and the same.
        solution: the last segmentation found for it, `(h, w)`, not negative.
    """

    window: Window
    maps: NDArray[np.float32]
    solution_window: Window
    solution: SoftMask


class OnlineSFSeg:
    """Keeps the last frames of a stream and refines the newest one with what they have in common.

    Uses past frames only, starts from the solutions that it found for them, and takes the same time and memory for every frame, however
    long the stream is. The maps live in the coordinates of a window that may follow an object; when it moves, the older maps are
    resampled into the new one. Without windows, all frames must have the same size.
    """

    def __init__(
        self,
        window: int = 5,
        *,
        iterations: int = 1,
        p: float = 0.1,
        alpha: float = 0.5,
        kernel_size: KernelSize = (5, 5, 5),
        warm_start: bool = True,
        keep: Literal["sum", "peak"] = "sum",
        model: SFSegPlusPlus | None = None,
    ) -> None:
        """Start with no frame.

        Args:
            window: number of frames, the newest included.
            iterations: per frame; one is what the paper found best for tracking (Table 9).
            p, alpha, kernel_size: see `power_step`.
            warm_start: start from the solutions of the earlier frames (Sec. 4.5), which so reach back beyond the window; otherwise from
                their unary maps, so that nothing older than the window counts.
            keep: what each refined frame has in common with its unary map, as an eigenvector has no scale. The sum: the object neither
                grows nor shrinks, as in `sfseg`. The peak: how sure the segmentation was, which suits those who read soft values.
            model: joins the channels of a frame by its learned weights; None: there is one channel. See also `from_model`.

        Raises:
            ValueError: less than one frame, less than 0 iterations, something else to keep, or settings that `power_step` refuses.
        """
        check_settings(p, alpha, kernel_size)
        if keep not in ("sum", "peak"):
            raise ValueError(f"expected to keep the 'sum' or the 'peak', got '{keep}'")
        check_count("window", window, at_least=1)
        check_count("iterations", iterations)
        self._frames: deque[Remembered] = deque(maxlen=window)
        self._iterations, self._p, self._alpha, self._kernel_size = iterations, p, alpha, kernel_size
        self._warm_start, self._keep, self._model = warm_start, keep, model

    @classmethod
    def from_model(cls, model: SFSegPlusPlus, window: int = 5, *, iterations: int = 1) -> Self:
        """With the weights and the graph of a learned model; what is refined online is not binarised."""
        return cls(window, iterations=iterations, p=model.p, alpha=model.alpha, kernel_size=model.kernel_size, model=model)

    def push(self, channels: ArrayLike, window: Window | None = None) -> SoftMask:
        """Add the newest frame and return its refined segmentation.

        Args:
            channels: soft segmentation `(h, w)` in [0, 1], or with a model `(C, h, w)`; copied.
            window: the part of the frame that it shows, `(h, w)` pixels; None: all of it.

        Returns:
            `(h, w) float32` in [0, 1]; a hard mask is the result > 0.5.

        Raises:
            ValueError: another shape than the window's or, without one, than the frame before; not finite, or outside [0, 1].
        """
        maps = self._join(channels)
        size_wh = (maps.shape[2], maps.shape[1])
        if window is None:
            window = Window((0, 0), size_wh, size_wh)
            if self._frames and self._frames[-1].window != window:
                raise ValueError(
                    f"expected frames of {self._frames[-1].window.size_wh} pixels like the one before, got {size_wh}; say which windows"
                )
        elif size_wh != window.size_wh:
            raise ValueError(f"expected channels of the window's size, {window.size_wh}, got {size_wh}")
        self._frames.append(Remembered(window, maps, window, maps[0]))
        moved = np.stack([window.move(frame.maps, frame.window) for frame in self._frames], axis=1)
        s, f = moved[0], moved[-1]
        x = np.stack([window.move(frame.solution[None], frame.solution_window)[0] for frame in self._frames]) if self._warm_start else s
        graph = ArrayGraph(s, [f], p=self._p, alpha=self._alpha, kernel_size=self._kernel_size)
        for left in reversed(range(self._iterations)):
            # Of the last step, only the newest frame is used.
            x = _unit(graph.multiply(x, 0 if left else len(s) - 1))
            if left == 1 and self._warm_start:
                for frame, solution in zip(self._frames, self._scale(x, s), strict=True):
                    frame.solution, frame.solution_window = solution, window
        newest = self._scale(x[-1:], s[-1:])[0]
        self._frames[-1].solution = newest
        return np.asarray(np.clip(newest, 0.0, 1.0))

    def clear(self) -> None:
        """Forget all frames, after the target was lost or chosen anew."""
        self._frames.clear()

    def _scale(self, x: Volume, s: Volume) -> NDArray[np.float32]:
        """Scale each frame of a solution to its unary map."""
        given, found = (volume.max((1, 2)) if self._keep == "peak" else volume.sum((1, 2)) for volume in (s, x))
        return np.asarray(x * (given / (found + EPSILON))[:, None, None], dtype=np.float32)

    def _join(self, channels: ArrayLike) -> NDArray[np.float32]:
        """The unary and the pairwise map of a frame, `(2, h, w)`; one map `(1, h, w)` where they are the same."""
        array = np.asarray(channels, dtype=np.float32)
        wanted = "(h, w)" if self._model is None else f"({self._model.channels}, h, w)"
        fits = array.ndim == 2 if self._model is None else array.ndim == 3 and len(array) == self._model.channels
        if not fits or not array.size:
            raise ValueError(f"expected channels of shape {wanted}, got {array.shape}")
        if not (array.min() >= -RANGE_TOLERANCE and array.max() <= 1.0 + RANGE_TOLERANCE):
            raise ValueError(
                f"expected channels finite and in [0, 1], got values from {array.min():.4g} to {array.max():.4g}; "
                "divide masks of 0 and 255 by 255"
            )
        if self._model is None:
            return array[None].copy()  # a stream may fill the same buffer again
        with torch.inference_mode():
            s, f = self._model.maps(torch.from_numpy(array)[None, :, None].to(self._model.w_s))
        maps = s if self._model.shared else torch.cat([s, f])
        return np.asarray(maps[:, 0].float().cpu().numpy())


def _unit(x: Volume) -> Volume:
    """Without negative values, which `alpha` above 1 allows, and with norm 1 (Eq. 8); changed in place."""
    np.maximum(x, 0, out=x)
    x /= np.linalg.norm(x) + EPSILON
    return x
