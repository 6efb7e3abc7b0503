"""What the pipeline remembers of the target from one frame to the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftrack.appearance import Appearance
from sftrack.contracts import BoxXYWH, SoftMask, State
from sftrack.window import Window


@dataclass
class Target:
    """What is remembered of the target between frames; boxes in frame pixels, masks in their window's pixels.

    While it is lost, `box_xywh` is where the channels are now, and `last_good_xywh` what the user is told. `readable`, in [0, 1], says how
    well its box can be read from segmentations of it, by the first one.
    """

    box_xywh: BoxXYWH
    score: float
    state: State
    window: Window
    mask: SoftMask
    first_mask: SoftMask
    first_box_image: SoftMask
    first_descriptor: NDArray[np.float32]
    recent_descriptor: NDArray[np.float32]
    record: dict[str, float]
    appearance: Appearance
    last_good_xywh: BoxXYWH
    sure_size_wh: NDArray[np.float64]
    readable: float
    look: float = 1.0
    low_frames: int = 0
    outvoted_frames: int = 0
