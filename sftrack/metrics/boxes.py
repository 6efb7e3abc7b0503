"""How well boxes follow the truth, as the official toolkits of the data sets measure it, with their differences as switches.

Success and precision: Wu, Lim, Yang, TPAMI 2015 (OTB). Normalised precision: Müller et al., ECCV 2018 (TrackingNet: area under its
curve) and Fan et al., CVPR 2019 (LaSOT: its value at 0.2). AO and SR: Huang, Zhao, Huang, TPAMI 2019 (GOT-10k).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftrack.boxes import center_xy, clip_box, iou

OVERLAP_THRESHOLDS: NDArray[np.float64] = np.arange(21) / 20.0
"""0, 0.05, ..., 1."""
DISTANCE_THRESHOLDS_PX: NDArray[np.float64] = np.arange(51, dtype=np.float64)
"""0, 1, ..., 50 pixels."""
NORMALISED_THRESHOLDS: NDArray[np.float64] = np.arange(51) / 100.0
"""0, 0.01, ..., 0.5 of the true box's width and height."""

PRECISION_AT_PX = 20
NORMALISED_AT = 20
"""Index of 0.2 in `NORMALISED_THRESHOLDS`."""


@dataclass(frozen=True)
class Conventions:
    """What the official toolkits do differently. `CONVENTIONS` has those of each data set.

    Attributes:
        first_frame: its box was given. `truth` counts it as found exactly, `left_out` not at all, `as_written` judges what is in the file.
        absent_overlap: frames without a true box in the success curve: not counted, or a miss.
        absent_distance: the same in the precision curve, where OTB's and UAV123's toolkits count them as hits (an error of -1 pixels).
        thresholds: number of overlap thresholds from 0 to 1.
        averaged: overall curves are the mean over sequences or over frames.
        clipped: both boxes are cut to the frame before their overlap is taken.
        empty_boxes: predicted boxes without area are misses, or stand for the box before them.
    """

    first_frame: Literal["truth", "left_out", "as_written"] = "truth"
    absent_overlap: Literal["left_out", "miss"] = "left_out"
    absent_distance: Literal["left_out", "miss", "hit"] = "left_out"
    thresholds: int = 21
    averaged: Literal["sequences", "frames"] = "sequences"
    clipped: bool = False
    empty_boxes: Literal["miss", "previous"] = "miss"

    def lines(self) -> tuple[str, ...]:
        """The conventions in words, for a report."""
        first = {
            "truth": "the first frame counts as found",
            "left_out": "the first frame is left out",
            "as_written": "the first frame counts",
        }
        absent = {"left_out": "left out", "miss": "misses", "hit": "hits"}
        of_overlap, of_distance = absent[self.absent_overlap], absent[self.absent_distance]
        return (
            first[self.first_frame],
            "frames without target: "
            + (of_overlap if of_overlap == of_distance else f"{of_overlap} of success, {of_distance} of precision"),
            f"{self.thresholds} overlap thresholds",
            f"mean over {self.averaged}",
            *(("boxes are cut to the frame",) if self.clipped else ()),
            *(("boxes without area stand for the one before",) if self.empty_boxes == "previous" else ()),
        )


CONVENTIONS: Mapping[str, Conventions] = {
    "otb": Conventions(absent_overlap="miss", absent_distance="hit"),
    "uav123": Conventions(absent_overlap="miss", absent_distance="hit"),
    "nfs": Conventions(),
    "lasot": Conventions(),
    "trackingnet": Conventions(),
    "davis": Conventions(),
    "got10k": Conventions(first_frame="left_out", thresholds=101, averaged="frames", clipped=True),
    "pytracking": Conventions(absent_overlap="miss", absent_distance="miss", empty_boxes="previous"),
}
"""By the name of the toolkit. `pytracking` is that project's analysis on all data sets but UAV123, where it counts as `uav123` does."""


@dataclass(frozen=True, eq=False)
class BoxScores:
    """The curves of one sequence or of several, and the numbers that are read from them, all in [0, 1].

    Attributes:
        success: share of frames whose IoU is above each of `overlap_thresholds`.
        precision: share whose centre is at most so many pixels (`DISTANCE_THRESHOLDS_PX`) off.
        normalised_precision: the same in shares of the true box's width and height (`NORMALISED_THRESHOLDS`).
        average_overlap: mean IoU (AO).
        frames: how many frames the success curve counts.
        frames_with_target: how many of them have a true box.
        failures: how many of these the result does not touch.
    """

    success: NDArray[np.float64]
    precision: NDArray[np.float64]
    normalised_precision: NDArray[np.float64]
    average_overlap: float
    frames: int
    frames_with_target: int
    failures: int

    @property
    def overlap_thresholds(self) -> NDArray[np.float64]:
        return np.linspace(0.0, 1.0, len(self.success))

    @property
    def success_auc(self) -> float:
        """Mean of the success curve: OTB's AUC."""
        return float(self.success.mean())

    @property
    def overlap_precision_50(self) -> float:
        """Share of frames with an IoU above 0.5: OP50, SR50."""
        return float(self.success[round(0.5 * (len(self.success) - 1))])

    @property
    def overlap_precision_75(self) -> float:
        """Share of frames with an IoU above 0.75: OP75, SR75."""
        return float(self.success[round(0.75 * (len(self.success) - 1))])

    @property
    def precision_20px(self) -> float:
        return float(self.precision[PRECISION_AT_PX])

    @property
    def precision_auc(self) -> float:
        """Mean of the precision curve from 0 to 50 pixels."""
        return float(self.precision.mean())

    @property
    def normalised_precision_20(self) -> float:
        """At 0.2: LaSOT's."""
        return float(self.normalised_precision[NORMALISED_AT])

    @property
    def normalised_precision_auc(self) -> float:
        """Mean of the curve from 0 to 0.5: TrackingNet's."""
        return float(self.normalised_precision.mean())

    def as_dict(self) -> dict[str, float]:
        """Every number by its name, for tables and files."""
        names = (
            "success_auc",
            "overlap_precision_50",
            "overlap_precision_75",
            "precision_20px",
            "precision_auc",
            "normalised_precision_20",
            "normalised_precision_auc",
            "average_overlap",
        )
        counts = {"frames": self.frames, "frames_with_target": self.frames_with_target, "failures": self.failures}
        return {**{name: float(getattr(self, name)) for name in names}, **counts}


def score_boxes(
    boxes_xywh: ArrayLike, truth_xywh: ArrayLike, conventions: Conventions | None = None, *, frame_size_wh: tuple[int, int] | None = None
) -> BoxScores:
    """Judge the boxes of one sequence.

    A predicted box that is NaN is a miss. Frames whose true box is NaN or without area are absent. The coordinates of both must count
    from the same pixel.

    Args:
        boxes_xywh: `(N, 4)`.
        truth_xywh: `(N, 4)`, NaN where the target is absent.
        conventions: default: those of `Conventions()`.
        frame_size_wh: needed where the conventions cut boxes to the frame.

    Raises:
        ValueError: not two arrays `(N, 4)` of the same N, no frame left to judge, or no frame size where it is needed.
    """
    rules = conventions or Conventions()
    boxes, truth = _checked(boxes_xywh, truth_xywh)
    is_present = np.asarray(np.isfinite(truth).all(axis=1) & (np.nan_to_num(truth[:, 2:]) > 0).all(axis=1))
    if rules.empty_boxes == "previous":
        boxes = _without_gaps(boxes)
    if rules.first_frame == "truth" and is_present[0]:
        boxes[0] = truth[0]
    overlaps = iou(*_clipped(boxes, truth, frame_size_wh)) if rules.clipped else iou(boxes, truth)
    offsets = center_xy(boxes) - center_xy(truth)
    distances = np.linalg.norm(offsets, axis=1)
    shares = np.linalg.norm(np.divide(offsets, truth[:, 2:], out=np.full_like(offsets, np.inf), where=is_present[:, None]), axis=1)
    is_counted = np.ones(len(truth), dtype=np.bool_)
    is_counted[0] = rules.first_frame != "left_out"
    counted = is_counted & (is_present | (rules.absent_overlap == "miss"))
    if not (is_counted & is_present).any():
        raise ValueError("expected at least one frame with a true box to judge, got none")
    overlaps = np.where(is_present, overlaps, -1.0)[counted]
    by_distance = is_counted & (is_present | (rules.absent_distance != "left_out"))
    absent = -1.0 if rules.absent_distance == "hit" else np.inf
    thresholds = np.linspace(0.0, 1.0, rules.thresholds)
    return BoxScores(
        (overlaps[:, None] > thresholds).mean(axis=0),
        _share_within(np.where(is_present, distances, absent)[by_distance], DISTANCE_THRESHOLDS_PX),
        _share_within(np.where(is_present, shares, absent)[by_distance], NORMALISED_THRESHOLDS),
        float(np.clip(overlaps, 0.0, None).mean()),
        len(overlaps),
        int((is_counted & is_present).sum()),
        int((overlaps == 0.0).sum()),
    )


def mean_scores(scores: Sequence[BoxScores], averaged: Literal["sequences", "frames"] = "sequences") -> BoxScores:
    """The scores of several sequences: the mean of their curves, each sequence or each frame counting the same.

    Raises:
        ValueError: nothing to average.
    """
    if not scores:
        raise ValueError("expected the scores of at least one sequence, got none")
    weights = np.array([score.frames if averaged == "frames" else 1.0 for score in scores])

    def mean(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(np.average(np.stack(values), axis=0, weights=weights), dtype=np.float64)

    return BoxScores(
        mean([score.success for score in scores]),
        mean([score.precision for score in scores]),
        mean([score.normalised_precision for score in scores]),
        float(np.average([score.average_overlap for score in scores], weights=weights)),
        sum(score.frames for score in scores),
        sum(score.frames_with_target for score in scores),
        sum(score.failures for score in scores),
    )


_STRICT = Conventions(first_frame="left_out")


def success_curve(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> NDArray[np.float64]:
    """Share of frames whose IoU is *above* (not equal to) each threshold of `OVERLAP_THRESHOLDS`, `(21,)`.

    The strictest of the conventions: the first frame is left out (its box was given), and so are frames whose true box is NaN. A predicted
    box that is NaN counts as a miss. IoU is that of continuous boxes. The last value is always 0.

    Raises:
        ValueError: not two arrays `(N, 4)` of the same N, or no frame left to judge.
    """
    return score_boxes(boxes_xywh, truth_xywh, _STRICT).success


def success_auc(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> float:
    """Area under `success_curve` of one sequence: the mean of its 21 values. Data sets report the mean over sequences."""
    return float(success_curve(boxes_xywh, truth_xywh).mean())


def _checked(boxes_xywh: ArrayLike, truth_xywh: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    boxes, truth = np.array(boxes_xywh, dtype=np.float64), np.array(truth_xywh, dtype=np.float64)
    if boxes.shape != truth.shape or boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"expected two arrays (N, 4) of the same length, got {boxes.shape} and {truth.shape}")
    return boxes, truth


def _without_gaps(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes without area replaced by the last one before them that has some."""
    has_area = ~(boxes_xywh[:, 2:] == 0.0).any(axis=1)
    source = np.maximum.accumulate(np.where(has_area, np.arange(len(boxes_xywh)), 0))
    return np.asarray(boxes_xywh[source], dtype=np.float64)


def _clipped(
    boxes_xywh: NDArray[np.float64], truth_xywh: NDArray[np.float64], frame_size_wh: tuple[int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if frame_size_wh is None:
        raise ValueError("expected the size of the frame, to which these conventions cut the boxes")
    return clip_box(boxes_xywh, frame_size_wh), clip_box(truth_xywh, frame_size_wh)


def _share_within(errors: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((errors[:, None] <= thresholds).mean(axis=0), dtype=np.float64)
