"""The working window: its coordinates, what it shows, and how masks move with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.contracts import RegionMask
from sftrack.window import BORDER_VALUE, SIZE_MULTIPLE, Window, rasterise
from tests.targets import texture

IMAGE = texture((90, 60), 0, 0, 256)
place = st.integers(-250, 250)
extent = st.integers(1, 220)
working_side = st.sampled_from([16, 32, 64, 128])
windows = st.builds(
    lambda x, y, w, h, wide, high: Window((x, y), (w, h), (wide, high)), place, place, extent, extent, working_side, working_side
)
box_values = st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(0, 500), st.floats(0, 500))


@given(windows, box_values)
def test_to_frame_undoes_to_window(window: Window, values: tuple[float, ...]) -> None:
    boxes = np.array([values, (1.0, 2.0, 3.0, 4.0)])
    np.testing.assert_allclose(window.to_frame(window.to_window(boxes)), boxes, atol=1e-6)
    np.testing.assert_allclose(window.to_window(window.to_frame(boxes)), boxes, atol=1e-6)


def test_the_window_itself_has_the_working_size() -> None:
    window = Window((7, -3), (40, 20), (80, 80))
    np.testing.assert_allclose(window.to_window(np.array([7.0, -3.0, 40.0, 20.0])), [0, 0, 80, 80])
    np.testing.assert_allclose(window.frame_box((100, 50)), [-14, 12, 200, 200])


@given(st.floats(0.5, 400), st.floats(0.5, 400), st.floats(-200, 200), st.floats(-200, 200))
def test_a_window_around_a_box_is_centred_on_it_and_holds_it(w: float, h: float, x: float, y: float) -> None:
    box = np.array([x, y, w, h])
    window = Window.around(box, 128)
    left, top, wide, high = window.to_window(box)
    assert abs(left + wide / 2 - 64) <= 128 / window.extent_wh[0]
    assert abs(top + high / 2 - 64) <= 128 / window.extent_wh[1]
    assert window.extent_wh[0] == window.extent_wh[1] >= max(np.sqrt(w * h), 8)
    assert window.size_wh == (128, 128)


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_a_whole_frame_window_suits_the_networks_and_shows_the_frame(width: int, height: int) -> None:
    window = Window.whole_frame((width, height))
    assert all(side % SIZE_MULTIPLE == 0 and side >= SIZE_MULTIPLE for side in window.size_wh)
    assert max(window.size_wh) <= 480 + SIZE_MULTIPLE
    # all of the frame, up to less than one working pixel at its right and lower edge
    shown = window.frame_box((width, height))
    assert shown[0] == shown[1] == 0
    assert (shown[2:] <= np.array(window.size_wh) + 1.0).all()


@pytest.mark.parametrize("origin_xy", [(0, 0), (11, 7), (58, 28)])
def test_at_scale_1_the_content_is_the_pixels_themselves(origin_xy: tuple[int, int]) -> None:
    x, y = origin_xy
    np.testing.assert_array_equal(Window(origin_xy, (32, 32), (32, 32)).extract(IMAGE), IMAGE[y : y + 32, x : x + 32])


def test_grey_is_shown_beyond_the_frame() -> None:
    shown = Window((-10, -20), (64, 128), (64, 128)).extract(IMAGE)
    np.testing.assert_array_equal(shown[20:80, 10:64], IMAGE[:, :54])
    outside = np.ones(shown.shape[:2], dtype=bool)
    outside[20:80, 10:64] = False
    assert (shown[outside] == BORDER_VALUE).all()


@given(windows)
@settings(deadline=None, max_examples=80)
def test_any_window_can_be_shown(window: Window) -> None:
    shown = window.extract(IMAGE)
    assert shown.dtype == np.uint8
    assert shown.shape == (window.size_wh[1], window.size_wh[0], 3)
    (x, y), (w, h) = window.origin_xy, window.extent_wh
    if x >= 90 or y >= 60 or x + w <= 0 or y + h <= 0:
        assert (shown == BORDER_VALUE).all()


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    shown = Window((0, 0), (64, 64), (16, 16)).extract(checks)
    assert np.abs(shown.astype(int) - 127).max() <= 2


def _blob(window: Window, at_xy: tuple[float, float], radius_px: float) -> np.ndarray:
    """A soft disc at a place given in frame pixels."""
    x, y = window.to_window(np.array([*at_xy, 0.0, 0.0]))[:2]
    ys, xs = np.mgrid[: window.size_wh[1], : window.size_wh[0]] + 0.5
    distance = np.hypot((xs - x) / window.scale_xy[0], (ys - y) / window.scale_xy[1])
    return np.clip(radius_px - distance + 0.5, 0.0, 1.0).astype(np.float32)


def _center(mask: np.ndarray, window: Window) -> np.ndarray:
    """Centre of mass in frame pixels."""
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    at = np.array([(xs * mask).sum(), (ys * mask).sum(), 0.0, 0.0]) / mask.sum()
    return window.to_frame(at)[:2]


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(80, 160), st.integers(80, 160))
@settings(deadline=None, max_examples=50)
def test_a_moved_mask_stays_at_its_place_in_the_frame(dx: int, dy: int, before_px: int, after_px: int) -> None:
    source = Window((100 - before_px // 2, 100 - before_px // 2), (before_px, before_px), (64, 64))
    target = Window((100 - after_px // 2 + dx, 100 - after_px // 2 + dy), (after_px, after_px), (64, 64))
    at = (100.0 + dx / 2, 100.0 + dy / 2)
    moved = target.move(_blob(source, at, 12.0)[None], source)
    assert moved.shape == (1, 64, 64)
    np.testing.assert_allclose(_center(moved[0], target), at, atol=0.5)
    area = moved[0].sum() / target.scale_xy.prod()
    assert area == pytest.approx(np.pi * 12.0**2, rel=0.12)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(60, 160), st.integers(40, 200), st.integers(40, 200))
@settings(deadline=None, max_examples=50)
def test_a_trackers_mask_stays_at_its_place_in_the_frame(dx: float, dy: float, side_px: float, width: int, height: int) -> None:
    window = Window((60, 60), (80, 80), (64, 64))
    region = np.array([100.0 + dx - side_px / 2, 100.0 + dy - side_px / 2, side_px, side_px])
    at = (100.0 + dx / 4, 100.0 + dy / 4)
    ys, xs = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(xs * side_px / width + region[0] - at[0], ys * side_px / height + region[1] - at[1])
    values = np.clip(12.0 - distance + 0.5, 0.0, 1.0).astype(np.float32)
    seen = window.look_at(RegionMask(values, region))
    assert seen.dtype == np.float32
    coarse = side_px / min(width, height)  # frame pixels per value: what is drawn is no finer than that
    np.testing.assert_allclose(_center(seen, window), at, atol=max(0.3, 0.25 * coarse))
    assert seen.sum() / window.scale_xy.prod() == pytest.approx(np.pi * 12.0**2, rel=0.1 + 0.03 * coarse)


def test_where_a_tracker_did_not_look_its_mask_is_empty() -> None:
    seen = Window((0, 0), (64, 64), (64, 64)).look_at(RegionMask(np.ones((42, 20), np.float32), np.array([16.0, -10.0, 20.0, 42.0])))
    assert (seen[:32, 16:36] == 1.0).all()
    assert (seen[33:] == 0.0).all()
    assert (seen[:, :15] == 0.0).all()
    assert (seen[:, 37:] == 0.0).all()


def test_what_the_old_window_did_not_see_is_empty() -> None:
    source, target = Window((0, 0), (64, 64), (64, 64)), Window((40, 0), (64, 64), (64, 64))
    moved = target.move(np.ones((2, 64, 64), np.float32), source)
    assert (moved[:, :, :24] == 1.0).all()
    assert (moved[:, :, 25:] == 0.0).all()


def test_paste_then_look_returns_the_mask() -> None:
    window = Window((13, 9), (32, 32), (32, 32))
    mask = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    pasted = window.paste(mask, (90, 60))
    assert pasted.shape == (60, 90)
    np.testing.assert_allclose(pasted[9:41, 13:45], mask, atol=1e-6)
    assert pasted.sum() == pytest.approx(mask.sum(), rel=1e-5)


@given(windows)
@settings(deadline=None, max_examples=40)
def test_any_pasted_mask_has_the_frames_size_and_stays_in_0_to_1(window: Window) -> None:
    pasted = window.paste(np.ones((window.size_wh[1], window.size_wh[0]), np.float32), (90, 60))
    assert pasted.shape == (60, 90)
    assert pasted.min() >= 0.0
    assert pasted.max() <= 1.0


@given(st.floats(0, 40), st.floats(0, 30), st.floats(0, 24), st.floats(0, 18))
def test_the_area_of_a_drawn_box_is_the_boxs_area(x: float, y: float, w: float, h: float) -> None:
    drawn = rasterise(np.array([[x, y, w, h]]), (64, 48))
    assert drawn.shape == (1, 48, 64)
    assert drawn.sum() == pytest.approx(w * h, abs=1e-3)
    assert drawn.max(initial=0.0) <= 1.0


def test_a_box_of_whole_pixels_is_drawn_as_just_these() -> None:
    drawn = rasterise(np.array([[2.0, 1.0, 3.0, 2.0], [-4.0, -4.0, 2.0, 2.0]]), (8, 6))
    expected = np.zeros((6, 8))
    expected[1:3, 2:5] = 1.0
    np.testing.assert_array_equal(drawn[0], expected)
    assert not drawn[1].any()
