"""Every source behaves alike: same kind of frames, right positions, and free to be left at any moment. Then what each does with damage."""

import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sftrack.contracts import FrameSource
from sftrack.errors import SourceError
from sftrack.sources import DemoSource, FrameFolderSource, VideoFileSource, open_source
from tests import clips
from tests.cameras import FakeCapture, camera
from tests.clips import COUNT, SIZE_WH, index_shown, picture


@dataclass
class Kind:
    """How to open one kind of source, and what it must say about itself."""

    open: Callable[..., FrameSource]
    size_wh: tuple[int, int] = SIZE_WH
    count: int | None = COUNT
    rate: float | None = float(clips.RATE)
    shown: Callable[[np.ndarray], int] | None = index_shown
    can_start_later: bool = True


KINDS: dict[str, Callable[[Path], Kind]] = {
    "mp4": lambda folder: Kind(lambda **k: VideoFileSource(clips.good_video(folder / "a.mp4"), **k)),
    "mkv": lambda folder: Kind(lambda **k: VideoFileSource(clips.good_video(folder / "a.mkv"), **k)),
    "avi": lambda folder: Kind(
        lambda **k: VideoFileSource(
            clips.write_video(folder / "a.avi", map(picture, range(COUNT)), codec="mpeg4", options={"bf": "2"}), **k
        )
    ),
    "ts": lambda folder: Kind(lambda **k: VideoFileSource(clips.good_video(folder / "a.ts"), **k)),
    "folder": lambda folder: Kind(lambda **k: FrameFolderSource(clips.image_folder(folder / "a"), **k), rate=None),
    "glob": lambda folder: Kind(lambda **k: FrameFolderSource(f"{clips.image_folder(folder / 'a')}/*.png", **k), rate=None),
    "numbered": lambda folder: Kind(
        lambda **k: FrameFolderSource(f"{clips.image_folder(folder / 'a', name='{:05d}.png'.format)}/%05d.png", **k), rate=None
    ),
    "camera": lambda folder: Kind(
        lambda **k: camera(FakeCapture(1000, size_wh=SIZE_WH), **k)[0], count=None, rate=25.0, shown=None, can_start_later=False
    ),
    "demo": lambda folder: Kind(DemoSource, size_wh=(854, 480), count=150, rate=30.0, shown=None),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    return KINDS[request.param](tmp_path)


def test_says_what_it_is_and_keeps_the_contract(kind: Kind) -> None:
    with kind.open(max_frames=COUNT) as source:
        assert isinstance(source, FrameSource)
        assert source.name
        assert source.frame_size_wh == kind.size_wh
        assert source.frames_per_second == (None if kind.rate is None else pytest.approx(kind.rate))
        assert source.frame_count == (None if kind.count is None else min(kind.count, COUNT))
        assert source.is_live is (kind.count is None)
        assert source.decode_failures == 0


def test_frames_are_rgb_of_one_size_in_order(kind: Kind) -> None:
    with kind.open(max_frames=12) as source:
        frames = list(source)
    assert len(frames) == 12
    for frame in frames:
        assert frame.image_rgb.dtype == np.uint8
        assert frame.image_rgb.shape == (kind.size_wh[1], kind.size_wh[0], 3)
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    assert min(times) >= 0
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    if kind.shown is not None:
        assert indices == list(range(12))
        assert [kind.shown(frame.image_rgb) for frame in frames] == indices
        red, green, blue = frames[0].image_rgb[20, 4]
        assert (red > 180, green < 60, blue < 60) == (True, True, True)


@pytest.mark.parametrize("start", [1, 7, 19])
def test_start_frame_keeps_the_position_in_the_file(kind: Kind, start: int) -> None:
    if not kind.can_start_later:
        with pytest.raises(SourceError, match="start frame"):
            open_source(camera=0, start_frame=start)
        return
    with kind.open(start_frame=start, max_frames=3) as source:
        frames = list(source)
    expected = list(range(start, min(start + 3, kind.count or 0)))
    assert [frame.index for frame in frames] == expected
    if kind.shown is not None:
        assert [kind.shown(frame.image_rgb) for frame in frames] == expected


def test_start_frame_behind_the_end_is_one_clear_line(kind: Kind) -> None:
    if not kind.can_start_later:
        return
    with pytest.raises(SourceError, match=r"start frame") as caught:
        kind.open(start_frame=100000)
    assert "\n" not in str(caught.value)


def test_can_be_left_in_the_middle_and_closed_twice(kind: Kind) -> None:
    source = kind.open()
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert len(list(frames)) <= 1


def test_close_from_another_thread_ends_the_loop(kind: Kind) -> None:
    source = kind.open()
    closer = threading.Timer(0.02, source.close)
    start_s = time.monotonic()
    closer.start()
    for _frame in source:
        time.sleep(0.001)
    closer.join()
    source.close()
    assert time.monotonic() - start_s < 3


# --- video files -------------------------------------------------------------------------------------------------------------------------


def test_damage_in_the_middle_is_skipped_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoFileSource(clips.damaged_in_the_middle(tmp_path / "a.mp4", (9, 10))) as source:
        shown = [(frame.index, index_shown(frame.image_rgb)) for frame in source]
    assert shown == [(index, index) for index in range(COUNT) if index not in (9, 10)]
    assert source.decode_failures == 2
    assert "frame 9 cannot be decoded" in caplog.text


def test_long_damage_does_not_flood_the_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoFileSource(clips.damaged_in_the_middle(tmp_path / "a.mp4", range(3, 17))) as source:
        assert len(list(source)) == COUNT - 14
    assert source.decode_failures == 14
    assert len(caplog.records) == 6
    assert "further messages" in caplog.text


def test_truncated_file_is_read_up_to_the_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoFileSource(clips.cut_off(tmp_path / "a.mp4", index_first=True)) as source:
        frames = list(source)
    assert 3 < len(frames) < COUNT - 3
    assert len(frames) + source.decode_failures == COUNT
    assert "truncated" in caplog.text


@pytest.mark.parametrize("start", [0, 2])
def test_a_truncated_matroska_file_is_noticed_though_it_counts_no_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, start: int
) -> None:
    with VideoFileSource(clips.cut_off(tmp_path / "a.mkv", index_first=False), start_frame=start) as source:
        frames = list(source)
    assert 3 < len(frames) < COUNT - 3
    assert start + len(frames) + source.decode_failures == COUNT
    assert "of 20 frames (truncated?)" in caplog.text


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_whole_file_of_variable_rate_is_not_taken_for_a_truncated_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    pts = [index * index * 1001 for index in range(COUNT)]
    codec = "libvpx" if name.endswith("webm") else "libx264"
    with VideoFileSource(clips.write_video(tmp_path / name, map(picture, range(COUNT)), pts=pts, codec=codec)) as source:
        assert len(list(source)) == COUNT
    assert source.decode_failures == 0
    assert not caplog.text


def bad_file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nothing.mp4", "nothing there"),
        (lambda folder: folder / ("a" * 300), "nothing there"),
        (lambda folder: folder, "use --frames"),
        (a_pipe, "a device or a pipe"),
        (bad_file("empty.mp4", b""), "0 bytes"),
        (bad_file("text.mp4", b"I am a letter, not a video.\n" * 50), "is not one"),
        (lambda folder: clips.cut_off(folder / "cut.mp4", index_first=False), "moov"),
        (lambda folder: clips.video_without_frames(folder / "none.y4m"), "has none that can be decoded"),
        (lambda folder: clips.sound_only(folder / "sound.mp4"), "no video stream"),
        (lambda folder: clips.damaged_in_the_middle(folder / "all.mp4", range(COUNT)), "has none that can be decoded"),
    ],
    ids=["missing", "long name", "folder", "pipe", "empty", "text", "no index", "no frames", "sound only", "all damaged"],
)
def test_what_is_not_a_video_is_one_clear_line(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path)
    with pytest.raises(SourceError, match=words) as caught:
        VideoFileSource(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).startswith("expected")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_rotation_and_mirroring_in_the_metadata_are_applied(tmp_path: Path, turns: int, is_mirrored: bool) -> None:
    clockwise = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][turns]
    a, b, c, d = (-clockwise[0], -clockwise[1], *clockwise[2:]) if is_mirrored else clockwise
    stored = picture(0)
    stored[:12] = (20, 20, 220)
    clips.write_video(tmp_path / "stored.mp4", [stored])
    with VideoFileSource(clips.turned(tmp_path / "stored.mp4", a, b, c, d)) as source:
        image = next(iter(source)).image_rgb
    expected = np.rot90(stored[:, ::-1] if is_mirrored else stored, -turns)
    assert source.frame_size_wh == expected.shape[1::-1]
    assert np.abs(image.astype(int) - expected)[3:-3, 3:-3].mean() < 6


def test_pictures_are_freed_as_soon_as_they_are_delivered(tmp_path: Path) -> None:
    """Those that wait for Python to look for cycles are hundreds of megabytes."""

    def alive() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    path = clips.write_video(tmp_path / "a.mp4", map(picture, range(COUNT)))
    gc.collect()
    gc.disable()
    try:
        before = alive()
        with VideoFileSource(path) as source:
            assert max(alive() - before for _ in source) < COUNT // 2
    finally:
        gc.enable()


def test_times_of_a_variable_frame_rate_come_from_the_file(tmp_path: Path) -> None:
    pts = [index * 1001 + (9000 if index > 5 else 0) for index in range(COUNT)]
    with VideoFileSource(clips.write_video(tmp_path / "a.mp4", map(picture, range(COUNT)), pts=pts)) as source:
        times = [frame.time_s for frame in source]
    assert times == pytest.approx([value / 30000 for value in pts], abs=1e-3)
    with VideoFileSource(tmp_path / "a.mp4", start_frame=8) as source:
        assert next(iter(source)).time_s == pytest.approx(pts[8] / 30000, abs=1e-3)


def test_more_frames_may_be_asked_for_than_any_video_has(tmp_path: Path) -> None:
    with VideoFileSource(clips.good_video(tmp_path / "a.mp4"), max_frames=10**30) as source:
        assert len(list(source)) == COUNT


def test_a_time_lapse_has_no_rate_to_be_shown_at(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", map(picture, range(4)), pts=[index * 30000 * 60 for index in range(4)])
    with VideoFileSource(path) as source:
        assert source.frames_per_second is None
        assert [frame.time_s for frame in source] == pytest.approx([0, 60, 120, 180], abs=0.1)


@pytest.mark.parametrize("start", [0, 4])
def test_size_change_in_a_video_is_rescaled(tmp_path: Path, caplog: pytest.LogCaptureFixture, start: int) -> None:
    with VideoFileSource(clips.video_changing_size(tmp_path / "a.h264"), start_frame=start) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(start, COUNT))
    assert [index_shown(frame.image_rgb) for frame in frames] == list(range(start, COUNT))
    assert {frame.image_rgb.shape for frame in frames} == {(48, 64, 3)}
    assert caplog.text.count("changes size") == 1


@pytest.mark.parametrize(("name", "count"), [("01_dog.mp4", 289), ("05_default_juggle.mp4", 247), ("bag.avi", 196)])
def test_real_clips_are_read_to_their_last_frame(shared: Path, name: str, count: int) -> None:
    with VideoFileSource(shared / "data/videos" / name, start_frame=count - 3) as source:
        assert [frame.index for frame in source] == [count - 3, count - 2, count - 1]
        assert source.decode_failures == 0


# --- folders -----------------------------------------------------------------------------------------------------------------------------


def test_bad_pictures_are_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = clips.image_folder(tmp_path / "a")
    (folder / "4.png").write_bytes(b"not a picture")
    (folder / "5.png").write_bytes(b"")
    clips.save_image(folder / "11.png", picture(11, (80, 60)))
    (folder / "notes.txt").write_text("not an image, not counted")
    with FrameFolderSource(folder) as source:
        indices = [frame.index for frame in source]
    assert indices == [index for index in range(COUNT) if index not in (4, 5, 11)]
    assert source.decode_failures == 3
    assert "cannot read image '4.png'" in caplog.text
    assert "expected images of 64x48 pixels like the first one, '11.png' has 80x60" in caplog.text


@pytest.mark.parametrize("name", ["{}.jpg", "{}.bmp", "{}.tif", "{}.webp", "bild ä {}.png"])
def test_reads_the_usual_formats_and_names(tmp_path: Path, name: str) -> None:
    folder = clips.image_folder(tmp_path / "with [brackets]", name=name.format, count=12)
    with FrameFolderSource(folder) as source:
        assert [index_shown(frame.image_rgb) for frame in source] == list(range(12))


def two_sizes(folder: Path) -> Path:
    clips.save_image(folder / "1.png", picture(1, (80, 60)))
    clips.save_image(folder / "2.png", picture(2))
    return folder


def unreadable(folder: Path) -> Path:
    (folder / "1.png").write_bytes(b"no")
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing", "nothing is at"),
        (lambda folder: folder / ("a" * 300), "nothing is at"),
        (lambda folder: folder / "*.jpg", "nothing is at"),
        (lambda folder: folder, "found none"),
        (unreadable, "can be read"),
        (two_sizes, "'1.png' has 80x60 and '2.png' 64x48 pixels"),
    ],
    ids=["missing", "long name", "no match", "empty", "unreadable", "first two differ"],
)
def test_folder_without_usable_pictures_is_one_clear_line(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(SourceError, match=words.replace("*", r"\*")) as caught:
        FrameFolderSource(make(tmp_path))
    assert "\n" not in str(caught.value)


# --- choosing ----------------------------------------------------------------------------------------------------------------------------


def test_open_source_opens_the_one_that_is_given(tmp_path: Path) -> None:
    with open_source(frames=clips.image_folder(tmp_path / "a"), start_frame=2, max_frames=4) as source:
        assert [frame.index for frame in source] == [2, 3, 4, 5]
    with open_source(video=clips.good_video(tmp_path / "a.mp4")) as source:
        assert isinstance(source, VideoFileSource)
    with open_source(demo=True, max_frames=1) as source:
        assert isinstance(source, DemoSource)


@pytest.mark.parametrize("given", [{}, {"demo": True, "camera": 0}, {"demo": True, "start_frame": -1}, {"demo": True, "max_frames": 0}])
def test_open_source_wants_exactly_one_source_and_sensible_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="expected"):
        open_source(**given)
