"""What one channel says about one sequence, recorded once so that later stages can be trained and studied without rerunning it."""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sftrack.config import ChannelConfig
from sftrack.datasets.sequence import Sequence
from sftrack.errors import BoxError
from sftrack.presets import lone_channel


class Recording(NamedTuple):
    """`boxes_xywh (N, 4)`, `scores (N,)`, `seconds (N,)` for the N frames from `start` to `stop - 1`; row 0 is the given box, score 1.

    `seconds` is processor time of the whole process (not wall time: that would measure what else runs on the machine), without
    reading the frame; row 0 is `init`.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]


def record(tracker_config: ChannelConfig, sequence: Sequence, start: int = 0, stop: int | None = None) -> Recording:
    """Start the channel on the true box of frame `start` and run it to frame `stop - 1` without any help.

    A frame on which the channel raises or gives a box that is not finite repeats the last box with score 0.

    Raises:
        BoxError: the target is absent on frame `start`.
        ConfigError: unknown tracker or parameter.
    """
    indices = range(*slice(start, stop).indices(len(sequence)))
    boxes, scores, seconds = np.zeros((len(indices), 4)), np.zeros(len(indices)), np.zeros(len(indices))
    if not np.isfinite(sequence.boxes_xywh[indices[0]]).all():
        raise BoxError(f"expected the target of {sequence.dataset}/{sequence.name} on frame {indices[0]}, it is absent there")
    with lone_channel(tracker_config) as tracker:
        for row, index in enumerate(indices):
            image_rgb = sequence.frame(index)
            began = time.process_time()
            if row == 0:
                boxes[0], scores[0] = sequence.boxes_xywh[index], 1.0
                tracker.init(image_rgb, boxes[0])
            else:
                boxes[row], scores[row] = boxes[row - 1], 0.0
                try:
                    estimate = tracker.update(image_rgb)
                    if np.isfinite(estimate.box_xywh).all():
                        boxes[row], scores[row] = estimate.box_xywh, estimate.score
                except (Exception, SystemExit):  # trackers of third parties raise anything; the pipeline leaves such a frame out as well
                    pass
            seconds[row] = time.process_time() - began
    return Recording(boxes, scores, seconds)
