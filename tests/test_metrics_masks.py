import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sftrack.metrics import boundary, boundary_f, jaccard

Measure = Callable[..., float]
masks = arrays(np.bool_, (12, 17))
EMPTY, FULL = np.zeros((12, 17), dtype=bool), np.ones((12, 17), dtype=bool)


def rectangle(x: int, y: int, w: int, h: int, size_hw: tuple[int, int] = (120, 160)) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_jaccard_of_shifted_squares_is_known() -> None:
    assert jaccard(rectangle(10, 10, 20, 20), rectangle(20, 10, 20, 20)) == pytest.approx(200 / 600)


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
def test_empty_masks_follow_the_convention_of_davis(measure: Measure) -> None:
    square = rectangle(3, 3, 5, 5, EMPTY.shape)
    assert measure(EMPTY, EMPTY) == 1.0
    assert measure(square, EMPTY) == 0.0
    assert measure(EMPTY, square) == 0.0


def test_a_mask_that_fills_the_frame_has_no_boundary() -> None:
    assert not boundary(FULL).any()
    assert boundary_f(FULL, EMPTY) == 1.0
    assert boundary_f(FULL, rectangle(3, 3, 5, 5, EMPTY.shape)) == 0.0


@given(masks, masks)
def test_measures_are_symmetric_and_lie_in_0_to_1(mask: np.ndarray, truth: np.ndarray) -> None:
    for measure in (jaccard, boundary_f):
        assert 0.0 <= measure(mask, truth) <= 1.0
        assert measure(mask, truth) == pytest.approx(measure(truth, mask))


@given(masks)
def test_a_mask_agrees_with_itself_and_in_its_boundary_with_its_complement(mask: np.ndarray) -> None:
    assert jaccard(mask, mask) == 1.0
    assert boundary_f(mask, mask) == 1.0
    assert boundary_f(mask, ~mask) == 1.0


def test_boundary_is_the_line_of_pixels_before_a_change() -> None:
    expected = np.zeros((6, 6), dtype=bool)
    expected[1:4, [1, 3]] = True
    expected[[1, 3], 1:4] = True
    np.testing.assert_array_equal(boundary(rectangle(2, 2, 2, 2, (6, 6))), expected)


@pytest.mark.parametrize(("size_hw", "tolerance_px"), [((120, 160), 2), ((90, 120), 2), ((480, 854), 8)])
def test_long_edges_match_up_to_0_8_percent_of_the_diagonal_rounded_up_and_not_beyond(size_hw: tuple[int, int], tolerance_px: int) -> None:
    """Bands from the top to the bottom of the frame: all boundary pixels lie on two vertical lines. 0.8 % are 1.6, 1.2 and 7.8 pixels."""
    truth = rectangle(40, 0, 60, size_hw[0], size_hw)
    for shift in (0, 1, tolerance_px):
        assert boundary_f(rectangle(40 + shift, 0, 60, size_hw[0], size_hw), truth) == 1.0
    assert boundary_f(rectangle(40 + tolerance_px + 1, 0, 60, size_hw[0], size_hw), truth) == 0.0


def test_precision_and_recall_combine_to_their_harmonic_mean() -> None:
    """The band beside the true one is wrong: precision 1/2, recall 1."""
    truth = rectangle(20, 0, 30, 120)
    assert boundary_f(truth | rectangle(90, 0, 30, 120), truth) == pytest.approx(2 / 3)


def test_tolerance_can_be_given_in_pixels() -> None:
    assert boundary_f(rectangle(45, 0, 60, 120), rectangle(40, 0, 60, 120), tolerance=5) == 1.0
    assert boundary_f(rectangle(45, 0, 60, 120), rectangle(40, 0, 60, 120), tolerance=4) == 0.0


def test_pixels_that_are_exactly_as_far_apart_as_the_tolerance_match() -> None:
    """Also where float32 holds a little more than that: single pixels 1 pixel right and 2 below, whose boundaries are blocks of 2x2."""
    assert boundary_f(rectangle(11, 12, 1, 1), rectangle(10, 10, 1, 1), tolerance=np.hypot(1, 2)) == 1.0
    assert boundary_f(rectangle(11, 12, 1, 1), rectangle(10, 10, 1, 1), tolerance=2.2) == 0.75


@given(masks, masks, st.integers(1, 4))
def test_matching_equals_dilation_with_a_disk(mask: np.ndarray, truth: np.ndarray, radius: int) -> None:
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    found, wanted = boundary(mask), boundary(truth)
    near_wanted, near_found = (cv2.dilate(line.astype(np.uint8), disk).astype(bool) for line in (wanted, found))
    if not (found.any() and wanted.any()):
        return
    precision, recall = (found & near_wanted).sum() / found.sum(), (wanted & near_found).sum() / wanted.sum()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert boundary_f(mask, truth, tolerance=radius) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
@pytest.mark.parametrize("bad", [EMPTY[:5], EMPTY[0], EMPTY[None], EMPTY.astype(np.uint8), EMPTY.astype(np.float32)])
def test_refuses_what_is_no_pair_of_masks(measure: Measure, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="boolean masks"):
        measure(bad, EMPTY)
    with pytest.raises(ValueError, match=r"boolean masks.* got bool \(0, 4\)"):
        measure(np.zeros((0, 4), np.bool_), np.zeros((0, 4), np.bool_))
    with pytest.raises(TypeError, match="masks as NumPy arrays, got list and ndarray"):
        measure(EMPTY.tolist(), EMPTY)


@pytest.mark.parametrize("bad", [EMPTY[0], EMPTY[:0], EMPTY.astype(np.uint8)])
def test_refuses_what_has_no_boundary_to_find(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="boolean masks"):
        boundary(bad)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_tolerance_that_is_none(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        boundary_f(EMPTY, EMPTY, tolerance=tolerance)
