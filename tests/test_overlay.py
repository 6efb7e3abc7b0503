"""The drawing says what the result says, at every size of frame and wherever the boxes lie."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrack.contracts import ChannelResult, State, TrackResult
from sftrack.overlay import CHANNEL_RGB, STATE_RGB, draw_result

SIZE_WH = (640, 360)


def blank(size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)


def result(state: State = "tracking", *, score: float = 0.8, with_mask: bool = False) -> TrackResult:
    mask = None
    if with_mask:
        mask = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.float32)
        mask[120:180, 220:280] = 0.9
    channels = (
        ChannelResult("csrt", np.array([300.0, 90.0, 90.0, 90.0]), 0.5, 0.5),
        ChannelResult("kcf", None, 0.0, 0.5, failures=1, error="went wrong"),
    )
    return TrackResult(np.array([200.0, 100.0, 100.0, 100.0]), score, state, mask, channels)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour)).all(axis=-1)


@pytest.mark.parametrize("state", ["tracking", "uncertain", "lost"])
def test_the_box_has_the_colour_of_the_state(state: State) -> None:
    drawn = draw_result(blank(), result(state), show_status=False)
    others = [colour for other, colour in STATE_RGB.items() if other != state]
    edge = has(drawn, STATE_RGB[state])[100, 200:300]
    assert edge.mean() > (0.3 if state == "lost" else 0.9)
    assert edge.all() != (state == "lost")  # dashed while lost
    assert not any(has(drawn, colour).any() for colour in others)


def test_the_edges_of_the_box_enclose_it() -> None:
    rows, columns = np.nonzero(has(draw_result(blank(), result(), show_status=False, show_channels=False), STATE_RGB["tracking"]))
    assert abs(int(rows.min()) - 100) <= 1
    assert abs(int(rows.max()) - 199) <= 1
    assert abs(int(columns.min()) - 200) <= 1
    assert abs(int(columns.max()) - 299) <= 1


def test_each_channel_has_its_box_and_a_place_in_the_legend() -> None:
    drawn = draw_result(blank(), result())
    assert has(drawn, CHANNEL_RGB[0])[90, 310:380].all()
    assert has(drawn, CHANNEL_RGB[0])[300:].any()
    assert not has(drawn, CHANNEL_RGB[1]).any()  # it failed: no box, and grey in the legend
    without = draw_result(blank(), result(), show_channels=False)
    assert not has(without, CHANNEL_RGB[0]).any()
    assert (without[300:] == 90).all()


def test_the_mask_tints_what_it_covers_and_nothing_else() -> None:
    drawn = draw_result(blank(), result(with_mask=True), show_box=False, show_channels=False, show_status=False)
    changed = (drawn != 90).any(axis=-1)
    assert changed[121:179, 221:279].all()
    assert not changed[:118].any()
    assert not changed[182:].any()
    hidden = draw_result(blank(), result(with_mask=True), show_mask=False, show_box=False, show_channels=False, show_status=False)
    assert (hidden == 90).all()


def test_the_score_bar_grows_with_the_score() -> None:
    widths = [
        has(draw_result(blank(), result(score=score), frame_index=3, show_box=False), STATE_RGB["tracking"])[:26, :140].sum()
        for score in (0.2, 0.6, 1.0)
    ]
    assert widths[0] < widths[1] < widths[2]


def test_the_frame_itself_is_not_changed() -> None:
    image = blank()
    image.setflags(write=False)
    drawn = draw_result(image, result(with_mask=True), frame_index=1, frames_per_second=30)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 90).all()


@given(
    box=st.lists(st.floats(-1e7, 1e7), min_size=4, max_size=4),
    size_wh=st.tuples(st.integers(2, 400), st.integers(2, 400)),
    state=st.sampled_from(["tracking", "uncertain", "lost"]),
    score=st.floats(allow_nan=True),
)
def test_draws_any_box_on_any_size(box: list[float], size_wh: tuple[int, int], state: State, score: float) -> None:
    mask = np.ones((size_wh[1], size_wh[0]), np.float32)
    drawn = draw_result(blank(size_wh), replace(result(state, score=score), box_xywh=np.array(box), mask=mask), frame_index=10**6)
    assert drawn.shape == (size_wh[1], size_wh[0], 3)


@pytest.mark.parametrize("size_wh", [(16, 16), (64, 48), (101, 77), (160, 120), (320, 240)])
def test_text_does_not_hide_a_small_frame(size_wh: tuple[int, int]) -> None:
    channels = tuple(ChannelResult(f"channel number {number}", None, 0.5, 0.2) for number in range(5))
    drawn = draw_result(blank(size_wh), replace(result(), box_xywh=np.array([-9.0, -9.0, 1.0, 1.0]), channels=channels), frame_index=12)
    hidden = (drawn != blank(size_wh)).any(axis=-1)
    assert hidden.mean() < 0.35
    assert hidden.any() == (size_wh[0] > 101)
