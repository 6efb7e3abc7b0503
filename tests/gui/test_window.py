"""What a user does in the window and what comes of it, by real mouse and key events."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from PyQt5.QtCore import Qt
from pytestqt.qtbot import QtBot

from sftrack.errors import BoxError, SinkError, SourceLostError
from sftrack.gui.roles import Phase
from sftrack.gui.window import ViewerWindow

from .conftest import OpenWindow
from .fakes import SIZE_WH, FakeSink, FakeSource, FakeTracker
from .hand import drag, key, move, press, release

BOX = np.array([10.0, 20.0, 40.0, 30.0])
Dialogs = Callable[[ViewerWindow], list[str]]


def wait_for_phase(qtbot: QtBot, window: ViewerWindow, phase: Phase) -> None:
    qtbot.waitUntil(lambda: window.worker.phase is phase, timeout=3000)
    qtbot.waitUntil(lambda: window.canvas.has_picture, timeout=3000)


def wait_for_frames(qtbot: QtBot, window: ViewerWindow, count: int) -> None:
    qtbot.waitUntil(lambda: window.worker.frames_tracked >= count, timeout=3000)


def test_without_a_box_the_first_frame_waits_for_a_drag(qtbot: QtBot, open_window: OpenWindow) -> None:
    source, tracker, sink = FakeSource(), FakeTracker(), FakeSink()
    window = open_window(source, tracker, sinks=[sink])
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    assert "drag a box around the target" in window.message
    assert "drag a box around the target" in window.canvas.banner
    qtbot.wait(50)
    assert tracker.updates == 0

    drag(window.canvas, (10, 20), (50, 50))
    wait_for_frames(qtbot, window, 5)
    assert tracker.boxes_given[0] == pytest.approx([10, 20, 40, 30], abs=0.5)
    assert tracker.init_frames == [0]
    qtbot.waitUntil(lambda: window.canvas.result is not None)
    assert sink.frames[:5] == [0, 1, 2, 3, 4]
    assert len(sink.threads) == 1


def test_a_given_box_starts_at_once_and_every_frame_is_tracked_and_written(qtbot: QtBot, open_window: OpenWindow) -> None:
    source, tracker, sink = FakeSource(30), FakeTracker(seconds=0.0), FakeSink()
    window = open_window(source, tracker, box_xywh=BOX, sinks=[sink])
    wait_for_phase(qtbot, window, Phase.ENDED)
    qtbot.waitUntil(lambda: "end of video" in window.message)
    assert window.worker.wait(2000)
    assert sink.frames == list(range(30))
    assert sink.closes == 1
    assert source.closed.is_set()
    assert window.worker.reached_end
    assert window.isVisible()
    assert len(window.worker.seconds_per_frame) == 30
    qtbot.waitUntil(lambda: "frame 29 / 29" in window.status.info.full_text)
    assert "dropped" in window.status.info.full_text


def test_frames_are_numbered_as_in_the_source_where_tracking_begins_late(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(20, first_index=100), FakeTracker(seconds=0.0), box_xywh=BOX)
    qtbot.waitUntil(lambda: "frame 119 / 119" in window.status.info.full_text)


def test_at_the_end_the_last_frame_is_the_last_whatever_the_header_had_promised(qtbot: QtBot, open_window: OpenWindow) -> None:
    source = FakeSource(20)
    source.frame_count = 254
    window = open_window(source, FakeTracker(seconds=0.0), box_xywh=BOX)
    qtbot.waitUntil(lambda: "frame 19 / 19" in window.status.info.full_text)


def test_close_at_end_closes_the_window(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(5), FakeTracker(), box_xywh=BOX, close_at_end=True)
    qtbot.waitUntil(lambda: not window.isVisible(), timeout=3000)


def test_live_size_while_dragging_and_escape_cancels(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    press(window.canvas, (20, 20))
    move(window.canvas, (20, 20), (60, 45))
    assert window.canvas.dragged_box() == pytest.approx([20, 20, 40, 25], abs=0.5)
    window.grab()
    key(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not window.canvas.is_dragging)
    release(window.canvas, (60, 45))
    qtbot.wait(50)
    assert tracker.boxes_given == []
    assert window.worker.phase is Phase.CHOOSING


@pytest.mark.parametrize("end", [(22, 22), (20, 20), (80, 23), (23, 80)])
def test_a_slip_of_the_mouse_is_refused_in_words(qtbot: QtBot, open_window: OpenWindow, end: tuple[float, float]) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    drag(window.canvas, (20, 20), end)
    assert "at least 5 x 5 px" in window.message
    assert window.canvas.banner == window.message
    assert tracker.boxes_given == []
    drag(window.canvas, (20, 20), (60, 60))
    wait_for_frames(qtbot, window, 2)


def test_a_drag_that_leaves_the_frame_is_clipped(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    drag(window.canvas, (100, 90), (400, 300))
    wait_for_frames(qtbot, window, 2)
    assert tracker.boxes_given[0] == pytest.approx([100, 90, SIZE_WH[0] - 100, SIZE_WH[1] - 90], abs=0.5)


def test_the_mouse_does_nothing_while_tracking(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker, box_xywh=BOX)
    wait_for_frames(qtbot, window, 2)
    drag(window.canvas, (20, 20), (60, 60))
    qtbot.wait(50)
    assert len(tracker.boxes_given) == 1


def test_space_pauses_a_file_and_goes_on(qtbot: QtBot, open_window: OpenWindow) -> None:
    source, tracker = FakeSource(), FakeTracker()
    window = open_window(source, tracker, box_xywh=BOX)
    wait_for_frames(qtbot, window, 3)
    key(window, Qt.Key.Key_Space)
    wait_for_phase(qtbot, window, Phase.PAUSED)
    qtbot.wait(80)
    tracked = window.worker.frames_tracked
    qtbot.wait(80)
    assert window.worker.frames_tracked == tracked
    assert "paused" in window.message
    key(window, Qt.Key.Key_Space)
    wait_for_frames(qtbot, window, tracked + 3)
    assert window.worker.frames_tracked - 1 <= tracker.updates <= window.worker.frames_tracked


def test_a_paused_live_picture_runs_on_untracked(qtbot: QtBot, open_window: OpenWindow) -> None:
    source, tracker, sink = FakeSource(100_000, is_live=True), FakeTracker(), FakeSink()
    window = open_window(source, tracker, box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 3)
    key(window, Qt.Key.Key_Space)
    wait_for_phase(qtbot, window, Phase.PAUSED)
    qtbot.wait(80)
    updates, delivered = tracker.updates, source.delivered
    qtbot.waitUntil(lambda: source.delivered > delivered + 5)
    assert tracker.updates == updates
    key(window, Qt.Key.Key_Space)
    wait_for_frames(qtbot, window, updates + 4)
    assert sink.frames == sorted(set(sink.frames))


def test_a_live_picture_runs_until_the_mouse_is_pressed(qtbot: QtBot, open_window: OpenWindow) -> None:
    source, tracker = FakeSource(100_000, is_live=True), FakeTracker()
    window = open_window(source, tracker)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    qtbot.waitUntil(lambda: source.delivered > 8)
    press(window.canvas, (20, 20))
    assert window.canvas._image_rgb is not None
    shown = int(window.canvas._image_rgb[0, 0, 0])
    delivered = source.delivered
    qtbot.waitUntil(lambda: source.delivered > delivered + 5)
    assert int(window.canvas._image_rgb[0, 0, 0]) == shown
    release(window.canvas, (60, 60))
    wait_for_frames(qtbot, window, 2)
    assert tracker.init_frames == [shown]


def test_reselecting_while_running_starts_again_on_the_frame_that_is_shown(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker, sink = FakeTracker(), FakeSink()
    window = open_window(FakeSource(), tracker, box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 4)
    key(window, Qt.Key.Key_R)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    qtbot.wait(80)
    tracked = window.worker.frames_tracked
    drag(window.canvas, (60, 30), (100, 70))
    wait_for_frames(qtbot, window, tracked + 4)
    assert tracker.boxes_given[1] == pytest.approx([60, 30, 40, 40], abs=0.5)
    assert tracker.init_frames == [0, tracked - 1]
    window.worker.finish()
    assert sink.frames == list(range(len(sink.frames)))
    assert window.worker.frames_tracked == len(sink.frames)


def test_escape_keeps_the_old_target(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker, box_xywh=BOX)
    wait_for_frames(qtbot, window, 2)
    key(window, Qt.Key.Key_R)
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    key(window, Qt.Key.Key_Escape)
    wait_for_phase(qtbot, window, Phase.PAUSED)
    tracked = window.worker.frames_tracked
    key(window, Qt.Key.Key_Space)
    wait_for_frames(qtbot, window, tracked + 2)
    assert len(tracker.boxes_given) == 1


def test_space_without_a_target_says_what_is_missing(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(), FakeTracker())
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    key(window, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: "no target yet" in window.message)


def test_overlays_are_toggled(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker()
    window = open_window(FakeSource(), tracker, box_xywh=BOX)
    wait_for_frames(qtbot, window, 2)
    for letter, layer in ((Qt.Key.Key_B, "boxes"), (Qt.Key.Key_C, "channels"), (Qt.Key.Key_M, "mask")):
        before = getattr(window.canvas.layers, layer)
        key(window, letter)
        qtbot.waitUntil(lambda layer=layer, before=before: getattr(window.canvas.layers, layer) != before)
        window.grab()
    assert tracker.masks_wanted[0]
    qtbot.waitUntil(lambda: not tracker.masks_wanted[-1], timeout=2000)


def test_help_lists_the_keys_and_goes_away_again(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(), FakeTracker(), box_xywh=BOX)
    key(window, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: window.help_box is not None and window.help_box.isVisible())
    assert window.help_box is not None
    assert "choose the target again" in window.help_box.text()
    window.toggle_help()
    assert not window.help_box.isVisible()


@pytest.mark.parametrize(("letter", "control"), [(Qt.Key.Key_Q, False), (Qt.Key.Key_Q, True), (Qt.Key.Key_W, True)])
def test_closing_while_tracking_ends_everything_within_two_seconds(
    qtbot: QtBot, open_window: OpenWindow, letter: Qt.Key, control: bool
) -> None:
    source, sink = FakeSource(100_000), FakeSink()
    window = open_window(source, FakeTracker(seconds=0.05), box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 2)
    start_s = time.monotonic()
    key(window, letter, Qt.KeyboardModifier.ControlModifier if control else Qt.KeyboardModifier.NoModifier)
    qtbot.waitUntil(lambda: not window.isVisible())
    assert window.worker.finish()
    assert time.monotonic() - start_s < 2.0
    assert source.closed.is_set()
    assert sink.closes == 1
    assert sink.frames == list(range(window.worker.frames_tracked))


@pytest.mark.parametrize("ignores_close", [False, True])
def test_closing_ends_a_source_that_blocks(qtbot: QtBot, open_window: OpenWindow, ignores_close: bool) -> None:
    source, sink = FakeSource(3, blocks_at_end=True, ignores_close=ignores_close), FakeSink()
    window = open_window(source, FakeTracker(), box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 3)
    start_s = time.monotonic()
    window.close()
    assert window.worker.finish()
    assert time.monotonic() - start_s < 2.0
    assert sink.closes == 1
    source.let_go.set()


def test_a_silent_source_is_said_to_be_waited_for(qtbot: QtBot, open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftrack.gui.window.WAITING_AFTER_S", 0.1)
    window = open_window(FakeSource(3, blocks_at_end=True), FakeTracker(), box_xywh=BOX)
    qtbot.waitUntil(lambda: "waiting for the next frame of fake.mp4" in window.message, timeout=2000)


def test_results_are_closed_even_if_the_tracker_never_returns(qtbot: QtBot, open_window: OpenWindow) -> None:
    sink = FakeSink()
    window = open_window(FakeSource(), FakeTracker(seconds=1.6), box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 1)
    qtbot.wait(60)
    window.close()
    assert not window.worker.finish(limit_s=0.05)
    assert sink.closes == 1
    assert window.worker.wait(3000)
    assert sink.frames == [0]


def test_a_sink_that_takes_long_to_close_is_waited_for(qtbot: QtBot, open_window: OpenWindow) -> None:
    sink = FakeSink(close_s=0.5)
    window = open_window(FakeSource(), FakeTracker(), box_xywh=BOX, sinks=[sink])
    wait_for_frames(qtbot, window, 2)
    window.close()
    assert window.worker.finish(limit_s=0.1)
    assert sink.closes == 1


def test_an_exception_in_the_tracker_is_words_and_another_target_can_be_chosen(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker, sink = FakeTracker(error=RuntimeError("boom"), error_at=3), FakeSink()
    window = open_window(FakeSource(), tracker, box_xywh=BOX, sinks=[sink])
    wait_for_phase(qtbot, window, Phase.CHOOSING)
    qtbot.waitUntil(lambda: "the tracker failed: boom (RuntimeError)" in window.message)
    assert "Traceback" not in window.message
    assert isinstance(window.worker.error, RuntimeError)
    drag(window.canvas, (60, 30), (100, 70))
    wait_for_frames(qtbot, window, 6)
    assert window.worker.error is None
    window.worker.finish()
    assert sink.frames == list(range(len(sink.frames)))


def test_a_box_that_the_tracker_refuses_can_be_dragged_again(qtbot: QtBot, open_window: OpenWindow) -> None:
    tracker = FakeTracker(error=BoxError("expected a box inside the frame"))
    window = open_window(FakeSource(), tracker, box_xywh=BOX)
    qtbot.waitUntil(lambda: "expected a box inside the frame" in window.message)
    tracker._error = None
    drag(window.canvas, (60, 30), (100, 70))
    wait_for_frames(qtbot, window, 2)
    qtbot.waitUntil(lambda: "expected" not in window.message)


def test_a_lost_source_is_told_in_a_dialog_and_the_results_are_complete(qtbot: QtBot, open_window: OpenWindow, dialogs: Dialogs) -> None:
    sink = FakeSink()
    window = open_window(FakeSource(4, error=SourceLostError("camera 0 is gone")), FakeTracker(), box_xywh=BOX, sinks=[sink])
    qtbot.waitUntil(lambda: dialogs(window) == ["camera 0 is gone"], timeout=3000)
    assert window.message == "camera 0 is gone"
    assert window.worker.wait(2000)
    assert sink.frames == [0, 1, 2, 3]
    assert sink.closes == 1
    assert not window.worker.reached_end


def test_a_full_disk_ends_the_tracking_in_words(qtbot: QtBot, open_window: OpenWindow, dialogs: Dialogs) -> None:
    full, other = FakeSink(error=SinkError("the disk is full"), error_at=3, close_error=SinkError("the disk is full")), FakeSink()
    window = open_window(FakeSource(), FakeTracker(), box_xywh=BOX, sinks=[other, full])
    qtbot.waitUntil(lambda: dialogs(window) == ["the disk is full"], timeout=3000)
    assert window.worker.wait(2000)
    qtbot.wait(50)
    assert dialogs(window) == ["the disk is full"]
    assert isinstance(window.worker.error, SinkError)
    assert (full.closes, other.closes) == (1, 1)


def test_one_sink_that_cannot_be_closed_does_not_keep_the_others_open(qtbot: QtBot, open_window: OpenWindow) -> None:
    broken, other = FakeSink(close_error=OSError("no space left")), FakeSink()
    window = open_window(FakeSource(3), FakeTracker(), box_xywh=BOX, sinks=[broken, other])
    qtbot.waitUntil(lambda: "no space left" in window.message, timeout=3000)
    qtbot.waitUntil(lambda: other.closes == 1, timeout=3000)  # the failure is told before the rest is closed
    assert isinstance(window.worker.error, OSError)


def test_a_source_without_frames_is_told(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(0), FakeTracker(), box_xywh=BOX)
    qtbot.waitUntil(lambda: window.worker.phase is Phase.ENDED)
    qtbot.waitUntil(lambda: "no frames" in window.message)


def test_a_slow_window_drops_frames_and_says_so(qtbot: QtBot, open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FakeSink()
    window = open_window(FakeSource(60), FakeTracker(seconds=0.001), box_xywh=BOX, sinks=[sink])
    paint = type(window.canvas).paintEvent
    monkeypatch.setattr(type(window.canvas), "paintEvent", lambda canvas, event: (time.sleep(0.05), paint(canvas, event))[1])
    wait_for_phase(qtbot, window, Phase.ENDED)
    assert window.worker.wait(2000)
    qtbot.waitUntil(lambda: "frame 59 / 59" in window.status.info.full_text)
    assert sink.frames == list(range(60))
    assert " 0 dropped" not in window.status.info.full_text


def test_failed_channels_are_shown(qtbot: QtBot, open_window: OpenWindow) -> None:
    window = open_window(FakeSource(5), FakeTracker(), box_xywh=BOX)
    qtbot.waitUntil(lambda: "failed: csrt (3x)" in window.status.info.full_text, timeout=3000)


@pytest.mark.parametrize("state", ["tracking", "uncertain", "lost"])
def test_the_state_has_its_colour_on_the_picture(qtbot: QtBot, open_window: OpenWindow, state: str) -> None:
    window = open_window(FakeSource(3), FakeTracker(state=state), box_xywh=BOX)
    wait_for_phase(qtbot, window, Phase.ENDED)
    qtbot.waitUntil(lambda: window.status.state.text() == state)
    assert window.canvas.result is not None
    left, top, width, _ = window.canvas.letterbox.box_to_widget(window.canvas.result.box_xywh)
    picture = window.canvas.grab().toImage()
    colors = [picture.pixelColor(round(left) + x, round(top)) for x in range(0, round(width), 2)]
    reddish = sum(color.red() > 200 for color in colors) / len(colors)
    greenish = sum(color.green() > 150 for color in colors) / len(colors)
    if state == "tracking":
        assert greenish > 0.9
        assert reddish < 0.1
    elif state == "uncertain":
        assert min(greenish, reddish) > 0.9
    else:
        assert 0.3 < reddish < 0.9  # dashed
        assert greenish < 0.1
