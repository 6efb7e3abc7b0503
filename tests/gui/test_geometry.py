import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrack.gui.geometry import MIN_DRAG_PX, Letterbox, why_too_small

SIDES = st.integers(1, 8000)
SIZES = st.tuples(SIDES, SIDES)
POINTS = st.tuples(st.floats(-9000, 9000), st.floats(-9000, 9000))


@given(SIZES, SIZES, POINTS)
def test_a_point_comes_back_from_the_widget(frame: tuple[int, int], widget: tuple[int, int], point: tuple[float, float]) -> None:
    box = Letterbox(frame, widget)
    assert box.to_frame(*box.to_widget(*point)) == pytest.approx(point, rel=1e-9, abs=1e-6 / box.scale)


@given(SIZES, SIZES)
def test_the_whole_frame_is_inside_the_widget_and_touches_two_sides(frame: tuple[int, int], widget: tuple[int, int]) -> None:
    box = Letterbox(frame, widget)
    left, top, width, height = box.box_to_widget(np.array([0.0, 0.0, *frame]))
    assert left >= -1e-6
    assert top >= -1e-6
    assert left + width <= widget[0] + 1e-6
    assert top + height <= widget[1] + 1e-6
    assert min(left, top) == pytest.approx(0.0, abs=1e-6)
    assert width / frame[0] == pytest.approx(height / frame[1])


@given(SIZES, SIZES, POINTS, POINTS)
def test_a_drag_is_inside_the_frame_and_needs_no_order(
    frame: tuple[int, int], widget: tuple[int, int], start: tuple[float, float], end: tuple[float, float]
) -> None:
    box = Letterbox(frame, widget)
    dragged = box.drag_to_box(start, end)
    assert (dragged == box.drag_to_box(end, start)).all()
    assert (dragged == box.drag_to_box((start[0], end[1]), (end[0], start[1]))).all()
    assert (dragged >= 0).all()
    assert (dragged[:2] + dragged[2:] <= np.array(frame) * (1 + 1e-12)).all()


def test_the_pixels_of_an_enlarged_frame_are_found_exactly() -> None:
    box = Letterbox((160, 120), (340, 240))  # twice as large, with 10 dark columns on either side
    assert box.scale == 2.0
    assert box.offset_xy == (10.0, 0.0)
    assert box.to_frame(10, 0) == (0.0, 0.0)
    assert box.drag_to_box((30, 40), (90, 80)) == pytest.approx([10, 20, 30, 20])
    assert box.drag_to_box((0, 200), (400, 500)) == pytest.approx([0, 100, 160, 20])


@pytest.mark.parametrize(("width", "height", "is_fine"), [(5, 5, True), (4.9, 50, False), (50, 4.9, False), (0, 0, False)])
def test_small_boxes_are_refused_in_words(width: float, height: float, is_fine: bool) -> None:
    reason = why_too_small(np.array([1.0, 1.0, width, height]))
    assert (reason is None) == is_fine
    if reason is not None:
        assert f"{width:.0f} x {height:.0f} px" in reason
        assert f"at least {MIN_DRAG_PX:.0f}" in reason
