"""The parts of the viewer that need no window: pace, reader, words, keys, and whether there is a display."""

import time
from pathlib import Path

import numpy as np
import pytest

from sftrack.contracts import ChannelResult, TrackResult
from sftrack.errors import SFTrackError, SourceError
from sftrack.gui import display, run_viewer, why_not_shown
from sftrack.gui.clock import Pace, RateMeter
from sftrack.gui.display import DisplayError, forget_opencv_qt
from sftrack.gui.reader import FrameReader
from sftrack.gui.roles import Phase, Snapshot
from sftrack.gui.shortcuts import SHORTCUTS, help_html
from sftrack.gui.window import ViewerWindow
from sftrack.gui.words import error_text, info_text, phase_text

from .fakes import FakeSource, FakeTracker


def play(pace: Pace, seconds_of_work: float, frames: int) -> float:
    """Seconds that so many frames take."""
    now = 0.0
    pace.restart(now)
    for _ in range(frames):
        now += max(pace.remaining_s(now), 0.0)
        pace.advance(now)
        now += seconds_of_work
    return now


def test_a_file_is_played_at_its_rate_and_never_faster() -> None:
    assert play(Pace(25.0), 0.01, 100) == pytest.approx(100 / 25, abs=0.05)


def test_a_slow_tracker_is_not_held_back() -> None:
    assert play(Pace(25.0), 0.1, 100) == pytest.approx(100 * 0.1, abs=0.05)


def test_a_long_delay_is_not_caught_up_in_a_rush() -> None:
    pace = Pace(10.0)
    pace.restart(0.0)
    pace.advance(60.0)
    assert pace.remaining_s(60.0) <= 0.1
    pace.advance(60.0)
    assert pace.remaining_s(60.0) > 0.05


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, float("nan")])
def test_without_a_rate_nothing_is_held_back(rate: float | None) -> None:
    assert play(Pace(rate), 0.0, 100) == 0.0


def test_the_rate_is_measured() -> None:
    meter = RateMeter()
    assert meter.per_second is None
    for index in range(100):
        meter.count(index / 20)
    assert meter.per_second == pytest.approx(20.0)


def read_all(reader: FrameReader) -> list[int]:
    indices = []
    while not reader.ended:
        frame = reader.poll(1.0)
        if frame is not None:
            indices.append(frame.index)
    return indices


def test_the_reader_hands_out_every_frame_in_order() -> None:
    source = FakeSource(20)
    reader = FrameReader(source)
    first = reader.poll(1.0)
    assert first is not None
    reader.put_back(first)
    assert read_all(reader) == list(range(20))
    reader.close()
    assert source.closed.is_set()


def test_the_reader_asks_a_live_source_only_when_a_frame_is_wanted() -> None:
    source = FakeSource(20, is_live=True)
    reader = FrameReader(source)
    reader.poll(1.0)
    time.sleep(0.05)
    assert source.delivered == 1
    reader.close()


def test_the_reader_raises_what_the_source_raises() -> None:
    reader = FrameReader(FakeSource(0, error=SourceError("no frames")))
    with pytest.raises(SourceError, match="no frames"):
        reader.poll(1.0)
    assert reader.ended
    reader.close()


@pytest.mark.parametrize("ignores_close", [False, True])
def test_the_reader_leaves_a_blocked_source_behind(ignores_close: bool) -> None:
    source = FakeSource(0, blocks_at_end=True, ignores_close=ignores_close)
    reader = FrameReader(source)
    assert reader.poll(0.01) is None
    start_s = time.monotonic()
    reader.close(limit_s=0.1)
    assert time.monotonic() - start_s < 1.0
    assert source.closed.is_set()
    source.let_go.set()


def test_the_figures_name_everything() -> None:
    source = FakeSource(200, frames_per_second=25.0)
    source.decode_failures = 2
    box = np.array([1.0, 2, 30, 40])
    channels = (ChannelResult("kcf", box, 0.5, 1.0), ChannelResult("csrt", None, 0.0, 0.0, failures=4, error="it broke"))
    result = TrackResult(box, 0.834, "uncertain", channels=channels)
    frame = next(iter(source))
    text = info_text(source, Snapshot(frame, result, 11, 24.66, 3, 7, last_index=199))
    for part in (
        "fake.mp4",
        "160 x 120",
        "25 fps in",
        "frame 0 / 199",
        "24.7 fps tracked",
        "3 dropped",
        "7 skipped",
        "2 damaged",
        "score 0.83",
    ):
        assert part in text
    assert "failed: csrt (4x)" in text
    assert "kcf" not in text


def test_every_phase_says_what_to_do() -> None:
    texts = {phase_text(phase, FakeSource(), has_target) for phase in Phase for has_target in (False, True)}
    assert all(texts)
    assert "drag a box" in phase_text(Phase.CHOOSING, FakeSource(), False)


def test_errors_are_words() -> None:
    assert error_text(SourceError("no such file"), "reading") == "no such file"
    assert error_text(RuntimeError("boom\nat line 3"), "the tracker") == "the tracker failed: boom (RuntimeError); --debug shows more"
    assert "no reason given" in error_text(ValueError(), "the tracker")


def test_the_table_of_keys_is_complete_and_free_of_doubles() -> None:
    keys = [key for shortcut in SHORTCUTS for key in shortcut.keys]
    assert len(keys) == len(set(keys))
    for shortcut in SHORTCUTS:
        assert callable(getattr(ViewerWindow, shortcut.action))
        assert shortcut.help in help_html()


def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "neither DISPLAY nor WAYLAND_DISPLAY" in str(why_not_shown({}, "linux"))
    assert why_not_shown({"QT_QPA_PLATFORM": "offscreen"}, "linux") is None
    assert why_not_shown({"WAYLAND_DISPLAY": "wayland-0"}, "linux") is None
    assert why_not_shown({}, "darwin") is None
    assert "does not answer" in str(why_not_shown({"DISPLAY": ":9999"}, "linux"))
    monkeypatch.setattr(display.importlib.util, "find_spec", lambda _name: None)
    assert "not installed" in str(why_not_shown())
    with pytest.raises(DisplayError, match=r'pip install "sftrack\[gui\]"') as caught:
        run_viewer(FakeSource(), FakeTracker())
    assert isinstance(caught.value, SFTrackError)
    assert "\n" not in str(caught.value)


def test_only_the_qt_paths_of_opencv_are_forgotten(tmp_path: Path) -> None:
    environ = {
        "QT_QPA_PLATFORM_PLUGIN_PATH": str(tmp_path / "cv2" / "qt" / "plugins"),
        "QT_QPA_FONTDIR": "/usr/share/fonts",
        "HOME": "/root",
    }
    forget_opencv_qt(environ)
    assert environ == {"QT_QPA_FONTDIR": "/usr/share/fonts", "HOME": "/root"}
