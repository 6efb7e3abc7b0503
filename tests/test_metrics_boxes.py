import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sftrack.benchmark.results import fit_length
from sftrack.benchmark.suites import find_suite
from sftrack.datasets import read_boxes
from sftrack.metrics import CONVENTIONS, BoxScores, Conventions, mean_scores, score_boxes, success_auc

TRUTH = np.array([[0, 0, 10, 20], [5, 5, 10, 20], [10, 10, 10, 20], [15, 15, 10, 20]], dtype=float)


def moved(by_px: float, frames: slice = slice(1, None)) -> NDArray[np.float64]:
    """The true boxes, some of them moved to the right."""
    boxes = TRUTH.copy()
    boxes[frames, 0] += by_px
    return boxes


def absent(frame: int) -> NDArray[np.float64]:
    truth = TRUTH.copy()
    truth[frame] = np.nan
    return truth


def test_perfect_boxes_have_perfect_scores() -> None:
    scores = score_boxes(TRUTH, TRUTH)
    assert scores.success_auc == pytest.approx(20 / 21)  # nothing is above an overlap of 1
    assert scores.overlap_precision_50 == scores.overlap_precision_75 == scores.precision_20px == scores.average_overlap == 1.0
    assert scores.normalised_precision_20 == scores.normalised_precision_auc == scores.precision_auc == 1.0
    assert (scores.frames, scores.failures) == (4, 0)


WHOLE, HALF = np.tile([0.0, 0.0, 10.0, 10.0], (3, 1)), np.tile([0.0, 0.0, 5.0, 10.0], (3, 1))


def test_overlap_precision_is_above_and_precision_at_most() -> None:
    scores = score_boxes(HALF, WHOLE, Conventions(first_frame="left_out"))
    assert scores.average_overlap == pytest.approx(0.5)
    assert scores.overlap_precision_50 == 0.0
    assert score_boxes(moved(20.0), TRUTH, Conventions(first_frame="left_out")).precision_20px == 1.0
    assert score_boxes(moved(20.01), TRUTH, Conventions(first_frame="left_out")).precision_20px == 0.0


def test_normalised_precision_divides_by_the_true_size() -> None:
    scores = score_boxes(moved(2.0), TRUTH, Conventions(first_frame="left_out"))  # 0.2 of the width
    assert scores.normalised_precision_20 == 1.0
    assert scores.normalised_precision[19] == 0.0
    assert scores.normalised_precision_auc == pytest.approx(31 / 51)
    down = TRUTH + np.array([0.0, 2.0, 0.0, 0.0])  # 0.1 of the height
    assert score_boxes(down, TRUTH, Conventions(first_frame="left_out")).normalised_precision[10] == 1.0


@pytest.mark.parametrize(("first_frame", "expected"), [("truth", 2 / 4), ("left_out", 1 / 3), ("as_written", 1 / 4)])
def test_what_the_first_frame_counts(first_frame: str, expected: float) -> None:
    boxes = moved(1000.0, slice(0, 3))
    assert score_boxes(boxes, TRUTH, Conventions(first_frame=first_frame)).overlap_precision_50 == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("absent_overlap", "success"), [("left_out", 1.0), ("miss", 3 / 4)])
def test_what_an_absent_target_counts_in_success(absent_overlap: str, success: float) -> None:
    scores = score_boxes(TRUTH, absent(2), Conventions(absent_overlap=absent_overlap))  # type: ignore[arg-type]
    assert scores.overlap_precision_50 == success


@pytest.mark.parametrize(("absent_distance", "precision"), [("left_out", 2 / 3), ("miss", 2 / 4), ("hit", 3 / 4)])
def test_what_an_absent_target_counts_in_precision(absent_distance: str, precision: float) -> None:
    """The published precision of UAV123 counts frames without a target as hits."""
    scores = score_boxes(moved(100.0, slice(3, None)), absent(2), Conventions(absent_distance=absent_distance))  # type: ignore[arg-type]
    assert scores.precision_20px == precision
    assert scores.normalised_precision_20 == precision
    assert CONVENTIONS["uav123"].absent_distance == "hit"


def test_true_box_without_area_is_an_absent_target() -> None:
    truth = TRUTH.copy()
    truth[2, 2:] = 0.0
    assert score_boxes(TRUTH, truth).as_dict() == score_boxes(TRUTH, absent(2)).as_dict()


def test_box_without_area_is_a_miss_or_the_box_before_it() -> None:
    boxes = np.tile(TRUTH[0], (4, 1))
    boxes[2] = [7.0, 7.0, 0.0, 0.0]
    truth = np.tile(TRUTH[0], (4, 1))
    assert score_boxes(boxes, truth).overlap_precision_50 == 3 / 4
    assert score_boxes(boxes, truth, Conventions(empty_boxes="previous")).overlap_precision_50 == 1.0


def test_missing_predictions_are_misses_and_failures_are_counted() -> None:
    boxes = fit_length(TRUTH[:2], 4)
    scores = score_boxes(boxes, TRUTH)
    assert (scores.overlap_precision_50, scores.precision_20px, scores.failures) == (0.5, 0.5, 2)
    assert len(fit_length(TRUTH, 3)) == 3


def test_frames_with_a_target_are_counted_where_absent_ones_are_misses() -> None:
    truth = TRUTH.copy()
    truth[1] = np.nan
    scores = [score_boxes(moved(1000.0), truth, Conventions(absent_overlap=rule)) for rule in ("miss", "left_out")]
    assert [(score.frames, score.frames_with_target, score.failures) for score in scores] == [(4, 3, 2), (3, 3, 2)]
    assert mean_scores(scores).frames_with_target == 6


def test_got10k_cuts_boxes_to_the_frame_and_averages_frames() -> None:
    rules = CONVENTIONS["got10k"]
    truth = np.tile([90.0, 0.0, 10.0, 10.0], (3, 1))
    boxes = np.tile([90.0, 0.0, 20.0, 10.0], (3, 1))
    assert score_boxes(boxes, truth, rules, frame_size_wh=(100, 100)).average_overlap == 1.0
    assert len(score_boxes(boxes, truth, rules, frame_size_wh=(100, 100)).success) == 101
    with pytest.raises(ValueError, match="size of the frame"):
        score_boxes(boxes, truth, rules)
    short, long = score_boxes(TRUTH[:2], TRUTH[:2]), score_boxes(moved(1000.0), TRUTH)
    assert mean_scores([short, long]).average_overlap == pytest.approx((1 + 1 / 4) / 2)
    assert mean_scores([short, long], "frames").average_overlap == pytest.approx((2 * 1 + 4 / 4) / 6)


def test_conventions_say_in_words_where_they_differ() -> None:
    assert "frames without target: misses of success, hits of precision" in " ".join(CONVENTIONS["uav123"].lines())
    assert len({rules.lines() for rules in CONVENTIONS.values()}) == len(set(CONVENTIONS.values()))


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        score_boxes(TRUTH, np.full_like(TRUTH, np.nan))
    with pytest.raises(ValueError, match="same length"):
        score_boxes(TRUTH, TRUTH[:3])
    with pytest.raises(ValueError, match="at least one sequence"):
        mean_scores([])


SIDE = st.just(0.0) | st.floats(0.5, 60)
BOX = st.tuples(st.floats(-50, 50), st.floats(-50, 50), SIDE, SIDE)


@settings(deadline=None)
@given(st.lists(st.tuples(BOX, BOX), min_size=2, max_size=12), st.sampled_from(sorted(CONVENTIONS)))
def test_curves_are_shares_and_monotone(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]], toolkit: str) -> None:
    boxes, truth = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    truth[:2, 2:] = 10.0
    scores: BoxScores = score_boxes(boxes, truth, CONVENTIONS[toolkit], frame_size_wh=(100, 100))
    for curve, direction in ((scores.success, -1), (scores.precision, 1), (scores.normalised_precision, 1)):
        assert ((curve >= 0) & (curve <= 1)).all()
        assert (direction * np.diff(curve) >= 0).all()
    assert abs(scores.success_auc - scores.average_overlap) <= 1 / len(scores.success) + 0.05 * (toolkit != "got10k") + 1e-9


def struck(shared: Path, suite_key: str) -> list[BoxScores]:
    """STRUCK's raw boxes judged as OTB does, without one file left out."""
    folder, suite = shared / "data" / "published_boxes" / "OTB2015", find_suite(suite_key)
    truths = {re.sub(r"[^a-z0-9]", "", path.stem.lower()): path for path in (folder / "ground_truth").glob("*.txt")}
    scores = []
    for path in sorted((folder / "STRUCK").glob("*.txt")):
        if suite.name_of(path.stem) is None:
            continue
        truth = read_boxes(truths[re.sub(r"[^a-z0-9]", "", path.stem.lower())])
        scores.append(score_boxes(fit_length(read_boxes(path), len(truth)), truth, suite.conventions))
    return scores


@pytest.mark.parametrize(("suite_key", "count", "published"), [("otb", 100, 0.461), ("otb2013", 51, 0.474)])
def test_struck_has_its_published_success_auc(shared: Path, suite_key: str, count: int, published: float) -> None:
    scores = struck(shared, suite_key)
    assert len(scores) == count
    assert mean_scores(scores).success_auc == pytest.approx(published, abs=0.002)


def test_strict_auc_is_that_of_the_conventions_without_first_and_absent_frames() -> None:
    truth = absent(2)
    assert success_auc(moved(3.0), truth) == score_boxes(moved(3.0), truth, Conventions(first_frame="left_out")).success_auc
