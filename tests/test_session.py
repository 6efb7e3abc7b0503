"""The loop: however a run ends, what was tracked is written and the ending is told."""

import os
import pty
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sftrack.contracts import ChannelResult, Frame, TrackResult
from sftrack.errors import BoxError, SinkError, SourceError, SourceLostError
from sftrack.session import run_session

BOX = np.array([4.0, 4.0, 10.0, 10.0])


class FakeSource:
    """`count` grey frames; `before` is called with the index before each is delivered."""

    name, frame_size_wh, frames_per_second, frame_count, is_live, decode_failures = "fake", (32, 24), 25.0, None, False, 2

    def __init__(self, count: int, before: Callable[[int], None] = lambda index: None) -> None:
        self.count, self.before, self.closed = count, before, False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            self.before(index)
            yield Frame(np.full((24, 32, 3), 128, np.uint8), index, index / 25)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "FakeSource":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class FakeTracker:
    """Takes 10 ms for each frame by its own account; `at_update` is called with the number of the update."""

    def __init__(self, at_update: Callable[[int], None] = lambda number: None) -> None:
        self.at_update, self.updates, self.masks = at_update, 0, []
        self.announced: list[bool] = []

    def init(self, image_rgb: np.ndarray, box_xywh: np.ndarray, *, with_mask: bool = False) -> TrackResult:
        self.masks.append(with_mask)
        return TrackResult(box_xywh, 1.0, "tracking", timings_s={"total": 0.5})

    def update(self, image_rgb: np.ndarray, *, with_mask: bool = False, upcoming_rgb: np.ndarray | None = None) -> TrackResult:
        self.updates += 1
        self.announced.append(upcoming_rgb is not None)
        self.masks.append(with_mask)
        self.at_update(self.updates)
        state = "lost" if self.updates % 3 == 0 else "tracking"
        channels = (ChannelResult("a", None, 0.0, 0.0, failures=self.updates, error="broke"), ChannelResult("b", BOX, 1.0, 1.0))
        return TrackResult(BOX, 0.5, state, None, channels, {"total": 0.01})


class FakeSink:
    def __init__(self, fails_at: int | None = None) -> None:
        self.indices: list[int] = []
        self.closed, self.fails_at = 0, fails_at

    def write(self, frame: Frame, result: TrackResult) -> None:
        if frame.index == self.fails_at:
            raise SinkError("no space left")
        self.indices.append(frame.index)

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> "FakeSink":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def fail(error: Exception) -> None:
    raise error


def test_every_frame_is_tracked_written_and_counted() -> None:
    tracker, sink = FakeTracker(), FakeSink()
    summary = run_session(FakeSource(7), tracker, sink, BOX, with_mask=True)
    assert sink.indices == list(range(7))
    assert sink.closed == 1
    assert tracker.masks == [True] * 7
    assert (summary.frames, summary.states, summary.decode_failures) == (7, {"tracking": 5, "lost": 2}, 2)
    assert summary.latencies_s == [0.01] * 6
    assert summary.p95_latency_s == pytest.approx(0.01)
    assert summary.channel_failures == {"a": 6}
    assert not summary.interrupted
    assert summary.failure is None


@pytest.mark.parametrize(("live", "announced"), [(False, [True, True, False]), (True, [False, False, False])])
def test_a_file_announces_the_next_frame_and_a_camera_does_not_wait_for_it(live: bool, announced: list[bool]) -> None:
    source, tracker = FakeSource(4), FakeTracker()
    source.is_live = live
    run_session(source, tracker, FakeSink(), BOX)
    assert tracker.announced == announced


def test_a_source_that_is_lost_leaves_what_was_tracked() -> None:
    def before(index: int) -> None:
        if index == 3:
            raise SourceLostError("gone")

    sink = FakeSink()
    summary = run_session(FakeSource(9, before), FakeTracker(), sink, BOX)
    assert sink.indices == [0, 1, 2]
    assert sink.closed == 1
    assert isinstance(summary.failure, SourceLostError)


def test_a_file_that_cannot_be_written_ends_the_run_with_its_reason() -> None:
    sink = FakeSink(fails_at=2)
    summary = run_session(FakeSource(9), FakeTracker(), sink, BOX)
    assert sink.closed == 1
    assert isinstance(summary.failure, SinkError)


def test_no_frame_at_all_is_an_error() -> None:
    sink = FakeSink()
    with pytest.raises(SourceError, match="at least one frame from fake"):
        run_session(FakeSource(0), FakeTracker(), sink, BOX)
    assert sink.closed == 1


def test_a_refused_start_box_is_an_error_and_the_files_are_closed() -> None:
    tracker, sink = FakeTracker(), FakeSink()
    tracker.init = lambda *args, **kwargs: fail(BoxError("outside"))  # type: ignore[method-assign]
    with pytest.raises(BoxError):
        run_session(FakeSource(3), tracker, sink, BOX)
    assert sink.closed == 1


def test_a_failure_of_the_tracker_goes_up_after_the_files_are_closed() -> None:
    sink = FakeSink()
    with pytest.raises(ZeroDivisionError):
        run_session(FakeSource(9), FakeTracker(lambda number: fail(ZeroDivisionError()) if number == 2 else None), sink, BOX)
    assert sink.indices == [0, 1]
    assert sink.closed == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_tracking_ends_after_that_frame(number: int) -> None:
    before = signal.getsignal(number)
    sink = FakeSink()
    tracker = FakeTracker(lambda update: os.kill(os.getpid(), number) if update == 3 else None)
    summary = run_session(FakeSource(50), tracker, sink, BOX)
    assert summary.interrupted
    assert sink.indices == [0, 1, 2, 3]
    assert sink.closed == 1
    assert signal.getsignal(number) is before


def test_a_signal_while_waiting_for_a_frame_does_not_wait_on() -> None:
    def before(index: int) -> None:
        if index == 2:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            assert not threading.Event().wait(30), "the wait was not interrupted"

    sink = FakeSink()
    summary = run_session(FakeSource(9, before), FakeTracker(), sink, BOX)
    assert summary.interrupted
    assert sink.indices == [0, 1]


def test_a_second_signal_does_not_wait_for_the_frame() -> None:
    def at_update(number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    sink = FakeSink()
    summary = run_session(FakeSource(9), FakeTracker(at_update), sink, BOX)
    assert summary.interrupted
    assert sink.indices == [0, 1]
    assert sink.closed == 1


def test_interrupted_before_the_first_frame_is_no_error() -> None:
    summary = run_session(FakeSource(9, lambda index: os.kill(os.getpid(), signal.SIGINT)), FakeTracker(), FakeSink(), BOX)
    assert summary.interrupted
    assert summary.frames == 0
    line = summary.line("fake", Path("out"))
    assert line.startswith("0 frames of fake; ")
    assert line.endswith("no files")


def test_the_latency_of_one_frame_is_not_called_zero() -> None:
    line = run_session(FakeSource(1), FakeTracker(), FakeSink(), BOX).line("fake", Path("out"))
    assert "1 frame of fake" in line
    assert "p95 latency -;" in line
    assert line.endswith("files in out/")


def test_it_runs_outside_the_main_thread_too() -> None:
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(run_session(FakeSource(3), FakeTracker(), FakeSink(), BOX)))
    thread.start()
    thread.join(10)
    assert summaries[0].frames == 3


def test_the_bar_is_shown_only_on_request_or_on_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    run_session(FakeSource(3), FakeTracker(), FakeSink(), BOX)
    assert capfd.readouterr().err == ""
    run_session(FakeSource(3), FakeTracker(), FakeSink(), BOX, progress=True)
    assert "frames/s" in capfd.readouterr().err


def test_the_bar_is_seen_on_a_terminal_that_does_not_know_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()  # 0 columns, as in some containers
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        run_session(FakeSource(3), FakeTracker(), FakeSink(), BOX)
        terminal.write("end")
        terminal.flush()
        shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert "frames/s" in shown
