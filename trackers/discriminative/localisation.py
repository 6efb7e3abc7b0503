"""Where the target is in a score map, and how far that can be trusted (ATOM, section 3.4; the same in DiMP and D3S)."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .patches import Vector, vector


class Flag(IntEnum):
    """What a score map says: found; found beside a distractor, which is worth learning from; two places alike; nothing."""

    NORMAL = 0
    HARD_NEGATIVE = 1
    UNCERTAIN = 2
    NOT_FOUND = 3


@dataclass(frozen=True)
class Thresholds:
    """When a score map means what.

    Attributes:
        not_found: a peak below it is none.
        distractor: share of the first peak above which the second one is as good.
        hard_negative: share of the first peak above which the second one is a distractor (if it is above `not_found` too).
        neighbourhood: size around the first peak, in sizes of the target, within which there is no second one.
        displacement: share of half of the map that a target moves at most; decides between peaks that are as good.
    """

    not_found: float
    distractor: float = 0.8
    hard_negative: float = 0.5
    neighbourhood: float = 2.2
    displacement: float = 0.8


@dataclass(frozen=True)
class Localisation:
    """The place that was chosen.

    Attributes:
        translation: from the middle of the crop, `(y, x)` in pixels of the frame.
        flag: how far to trust it.
        peak: the highest score.
    """

    translation: Vector
    flag: Flag
    peak: float


def localise(
    scores: NDArray[np.float32], cell_px: float | np.float32, size: Vector, previous: Vector, thresholds: Thresholds
) -> Localisation:
    """Find the first and the second peak of a map, and judge them.

    Args:
        scores: `(S, S)`; cell `S // 2` is the middle of the crop.
        cell_px: pixels of the frame per cell.
        size: of the target in the frame, `(h, w)`.
        previous: from where distances are measured, `(y, x)` in cells from the middle.
        thresholds: see there.
    """
    cell = np.float32(cell_px)
    middle, reach = len(scores) // 2, thresholds.displacement * len(scores) / 2
    first, peak = _peak(scores)
    place = first - middle
    if not peak >= thresholds.not_found:  # a peak that is not a number is none
        return Localisation(place * cell, Flag.NOT_FOUND, peak)
    rest = scores.copy()
    rows, columns = (
        slice(max(round(float(at - extent / 2)), 0), max(round(float(at + extent / 2 + 1)), 0))
        for at, extent in zip(first, thresholds.neighbourhood * (size / cell), strict=True)
    )
    rest[rows, columns] = 0.0
    second, second_peak = _peak(rest)
    other = second - middle
    if second_peak > thresholds.distractor * peak:
        near, other_near = (np.hypot(*(at - previous)) < reach for at in (place, other))
        far, other_far = (np.hypot(*(at - previous)) > reach for at in (place, other))
        if other_far and near:
            return Localisation(place * cell, Flag.HARD_NEGATIVE, peak)
        if other_near and far:
            return Localisation(other * cell, Flag.HARD_NEGATIVE, peak)
        return Localisation(place * cell, Flag.UNCERTAIN, peak)
    if second_peak > thresholds.hard_negative * peak and second_peak > thresholds.not_found:
        return Localisation(place * cell, Flag.HARD_NEGATIVE, peak)
    return Localisation(place * cell, Flag.NORMAL, peak)


def _peak(scores: NDArray[np.float32]) -> tuple[Vector, float]:
    """Row and column of the highest score, and the score; of equal ones the leftmost."""
    peak = scores.max()
    column = int((scores == peak).any(axis=0).argmax())
    return vector((int(scores[:, column].argmax()), column)), float(peak)
