"""Geometry of boxes: what is accepted, how it is clipped, and overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrack.boxes import (
    MIN_SIDE_PX,
    box_around,
    center_xy,
    checked_box,
    checked_image,
    clip_box,
    iou,
    keep_in_frame,
    keep_visible,
    parse_box,
)
from sftrack.errors import BoxError, FrameError

FRAME_WH = (100, 60)
number = st.floats(-300.0, 300.0)
side = st.floats(0.0, 300.0)
boxes = st.tuples(number, number, side, side).map(np.array)


@pytest.mark.parametrize("text", ["1,2,3,4.5", "1 2 3 4.5", "1\t2\t3\t4.5", " 1, 2, 3, 4.5 "])
def test_a_box_is_read_with_any_separator(text: str) -> None:
    np.testing.assert_array_equal(parse_box(text), [1.0, 2.0, 3.0, 4.5])


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d"])
def test_a_text_that_is_no_box_is_named_in_the_error(text: str) -> None:
    with pytest.raises(BoxError, match=f"got '{text}'"):
        parse_box(text)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 3), "four finite numbers"),
        ("1,2,3,4", "four finite numbers"),
        (("left", 2, 3, 4), "four finite numbers"),
        ((1, 2, np.nan, 4), "four finite numbers"),
        ((1, 2, np.inf, 4), "four finite numbers"),
        ((10, 10, 0, 20), "pixels wide and high"),
        ((10, 10, 20, -4), "pixels wide and high"),
        ((100, 10, 20, 20), "inside the frame of 100x60"),
        ((-30, 10, 20, 20), "inside the frame of 100x60"),
        ((99, 10, 20, 20), "inside the frame of 100x60"),
    ],
)
def test_a_box_that_cannot_be_tracked_is_refused_with_the_reason(box: object, expected: str) -> None:
    with pytest.raises(BoxError, match=expected):
        checked_box(box, FRAME_WH)


@given(boxes)
def test_a_clipped_box_lies_in_the_frame_and_in_the_box(box: np.ndarray) -> None:
    x, y, w, h = clip_box(box, FRAME_WH)
    assert 0 <= x <= x + w <= FRAME_WH[0]
    assert 0 <= y <= y + h <= FRAME_WH[1]
    assert w <= box[2] + 1e-9
    assert h <= box[3] + 1e-9
    np.testing.assert_allclose(clip_box(clip_box(box, FRAME_WH), FRAME_WH), (x, y, w, h))


@pytest.mark.filterwarnings("error")
def test_a_box_whose_far_corner_is_no_number_any_more_is_refused_in_words() -> None:
    with pytest.raises(BoxError, match="inside the frame"):
        checked_box([1e308, 0, 1e308, 3], FRAME_WH)


@given(boxes)
def test_a_box_kept_in_the_frame_stays_visible_and_keeps_its_size_up_to_the_frames(box: np.ndarray) -> None:
    kept = keep_in_frame(box, FRAME_WH)
    np.testing.assert_array_equal(kept[2:], np.clip(box[2:], MIN_SIDE_PX, FRAME_WH))
    assert (clip_box(kept, FRAME_WH)[2:] >= MIN_SIDE_PX - 1e-9).all()


@given(boxes)
def test_a_box_kept_visible_has_its_size_and_moves_no_farther_than_that_needs(box: np.ndarray) -> None:
    box = np.concatenate([box[:2], np.maximum(box[2:], 1e-3)])
    kept = keep_visible(box, FRAME_WH)
    np.testing.assert_array_equal(kept[2:], box[2:])
    needed = np.minimum(box[2:], MIN_SIDE_PX)
    assert (clip_box(kept, FRAME_WH)[2:] >= needed - 1e-6).all()
    was_visible = clip_box(box, FRAME_WH)[2:] >= needed
    np.testing.assert_allclose(kept[:2][was_visible], box[:2][was_visible], atol=1e-9)


def test_a_box_that_is_well_in_the_frame_is_kept_as_it_is() -> None:
    box = np.array([12.3, 4.5, 33.3, 21.7])
    np.testing.assert_array_equal(keep_in_frame(box, FRAME_WH), box)
    np.testing.assert_array_equal(keep_visible(box, FRAME_WH), box)


@given(boxes)
def test_a_box_is_given_by_its_centre_and_size(box: np.ndarray) -> None:
    np.testing.assert_allclose(box_around(center_xy(box), box[2:]), box, atol=1e-9)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_a_share(a: np.ndarray, b: np.ndarray) -> None:
    assert 0.0 <= float(iou(a, b)) <= 1.0
    assert float(iou(a, b)) == pytest.approx(float(iou(b, a)))


def test_overlap_known_values_and_broadcast() -> None:
    a = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5], [np.nan] * 4, [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(a, a[0]), [1.0, 1 / 3, 0.0, 0.0, 0.0])
    assert iou(a[:, None], a[None]).shape == (5, 5)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1, 2, 3]],
        None,
    ],
    ids=["grey", "with alpha", "float", "empty", "list", "none"],
)
def test_what_is_no_rgb_image_is_refused(image: object) -> None:
    with pytest.raises(FrameError, match="expected an RGB image"):
        checked_image(image)  # type: ignore[arg-type]


def test_an_image_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(FrameError, match=r"expected a frame of 8x6 pixels.*\(6, 7, 3\)"):
        checked_image(np.zeros((6, 7, 3), np.uint8), (8, 6))
