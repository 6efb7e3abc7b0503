import numpy as np
import pytest

from sftrack.metrics import OVERLAP_THRESHOLDS, success_auc, success_curve

TRUTH = np.array([[0, 0, 10, 10], [5, 5, 10, 10], [10, 10, 10, 10]], dtype=float)


def test_thresholds_go_from_0_to_1_in_steps_of_5_percent() -> None:
    np.testing.assert_allclose(OVERLAP_THRESHOLDS, np.linspace(0, 1, 21))


def test_perfect_boxes_succeed_below_1_only() -> None:
    curve = success_curve(TRUTH, TRUTH)
    assert (curve[:-1] == 1.0).all()
    assert curve[-1] == 0.0
    assert success_auc(TRUTH, TRUTH) == pytest.approx(20 / 21)


def test_half_overlap_is_not_above_one_half() -> None:
    boxes = TRUTH.copy()
    boxes[1:, 2] = 5.0
    curve = success_curve(boxes, TRUTH)
    assert curve[9] == 1.0
    assert curve[10] == 0.0


def test_first_frame_is_left_out() -> None:
    boxes = TRUTH.copy()
    boxes[0] += 100.0
    assert success_auc(boxes, TRUTH) == success_auc(TRUTH, TRUTH)


def test_absent_target_is_left_out_and_missing_prediction_is_a_miss() -> None:
    truth, boxes = TRUTH.copy(), TRUTH.copy()
    truth[1] = np.nan
    boxes[1] += 100.0
    assert success_auc(boxes, truth) == success_auc(TRUTH, TRUTH)
    boxes = TRUTH.copy()
    boxes[1] = np.nan
    assert success_auc(boxes, TRUTH) == pytest.approx(10 / 21)


def test_refuses_what_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="same length"):
        success_curve(TRUTH[:2], TRUTH)
    with pytest.raises(ValueError, match="at least one frame"):
        success_curve(TRUTH[:1], TRUTH[:1])
