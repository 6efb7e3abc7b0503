"""Every sink behaves alike: complete after each frame, safe to close twice, one clear line on failure. Then what is in each file."""

import errno
import json
import math
import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sftrack.contracts import ChannelResult, Frame, ResultSink, TrackResult
from sftrack.errors import SinkError
from sftrack.sinks import AnnotatedVideoSink, BoxesSink, JsonLinesSink, MasksSink, SinkGroup, TimesSink, open_sinks
from sftrack.sinks import video as video_module
from tests.clips import SIZE_WH, index_shown, picture

COUNT = 12


def frame(index: int, size_wh: tuple[int, int] = SIZE_WH) -> Frame:
    return Frame(picture(index, size_wh), index, index / 30)


def result(index: int) -> TrackResult:
    mask = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.float32)
    mask[10:20, 10 : 20 + index] = 0.8
    mask[0, 0] = 0.3
    channels = (
        ChannelResult("mosse", np.array([9.5, 9.5, 11.0, 10.0]), 0.5, 0.75, restarts=1),
        ChannelResult("kcf", None, 0.0, 0.25, failures=2, error="went wrong"),
    )
    return TrackResult(
        np.array([10.12345, 10.0, 10.0 + index, 10.0]), 0.9, "tracking", mask, channels, {"channels": 0.004, "total": 0.0123456}
    )


Make = Callable[[Path], ResultSink]
SINKS: dict[str, Make] = {
    "boxes": lambda folder: BoxesSink(folder / "boxes.txt"),
    "times": lambda folder: TimesSink(folder / "times.txt"),
    "jsonl": lambda folder: JsonLinesSink(folder / "track.jsonl"),
    "masks": lambda folder: MasksSink(folder / "masks"),
    "video": lambda folder: AnnotatedVideoSink(folder / "annotated.mp4", frame_size_wh=SIZE_WH, frames_per_second=30.0),
    "group": lambda folder: open_sinks(folder, frame_size_wh=SIZE_WH, frames_per_second=None, masks=True),
}


@pytest.fixture(params=sorted(SINKS))
def make(request: pytest.FixtureRequest) -> Make:
    return SINKS[request.param]


def entries(folder: Path) -> dict[str, int]:
    """How many frames each file holds, by reading it as a user would."""
    found: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            found[path.name] = sum(cv2.imread(str(item), cv2.IMREAD_UNCHANGED) is not None for item in path.iterdir())
        elif path.suffix == ".mp4":
            found[path.name] = len(video_frames(path))
        else:
            text = path.read_text()
            assert text == "" or text.endswith("\n")
            found[path.name] = len(text.splitlines())
    return found


def video_frames(path: Path) -> list[np.ndarray]:
    """The pictures up to the end or to where the file breaks off."""
    images: list[np.ndarray] = []
    with av.open(str(path)) as container, suppress(av.InvalidDataError):
        images.extend(decoded.to_ndarray(format="rgb24") for decoded in container.decode(video=0))
    return images


def test_holds_every_frame_once_closed_and_closes_twice(make: Make, tmp_path: Path) -> None:
    sink = make(tmp_path)
    assert isinstance(sink, ResultSink)
    for index in range(COUNT):
        sink.write(frame(index), result(index))
    sink.close()
    sink.close()
    counts = entries(tmp_path)
    assert counts
    assert set(counts.values()) == {COUNT}


def test_leaving_the_block_by_ctrl_c_leaves_complete_files(make: Make, tmp_path: Path) -> None:
    def interrupted() -> None:
        with make(tmp_path) as sink:
            for index in range(5):
                sink.write(frame(index), result(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(entries(tmp_path).values()) == {5}


def test_nothing_written_leaves_no_file_and_closes_twice(make: Make, tmp_path: Path) -> None:
    sink = make(tmp_path)
    sink.close()
    sink.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "masks"] == []


def test_neither_frame_nor_result_is_changed(make: Make, tmp_path: Path) -> None:
    the_frame, the_result = frame(3), result(3)
    image, box, mask = the_frame.image_rgb.copy(), the_result.box_xywh.copy(), the_result.mask
    assert mask is not None
    mask_before = mask.copy()
    with make(tmp_path) as sink:
        sink.write(the_frame, the_result)
    assert (the_frame.image_rgb == image).all()
    assert (the_result.box_xywh == box).all()
    assert (mask == mask_before).all()


def test_a_result_with_little_in_it_is_written_too(make: Make, tmp_path: Path) -> None:
    with make(tmp_path) as sink:
        sink.write(frame(0), TrackResult(np.array([1.0, 2.0, 3.0, 4.0]), 0.0, "lost"))
    assert set(entries(tmp_path).values()) == {1}


def test_a_place_that_cannot_be_written_is_one_clear_line(make: Make, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(SinkError, match="expected to write") as caught:
        make(in_the_way / "out")
    assert str(in_the_way) in str(caught.value)
    assert "\n" not in str(caught.value)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond this: the kernel refuses with an OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["boxes", "times", "jsonl", "masks", "video"])
def test_full_disk_is_one_clear_line_and_keeps_what_was_written(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    sink = SINKS[name](tmp_path)
    limit = {"boxes": 100, "times": 100, "jsonl": 3000, "masks": 60, "video": 300_000}[name]

    def write_all() -> None:
        for index in range(300):
            sink.write(replace(frame(index % 20), image_rgb=np.roll(noise, index), index=index), result(index % 9))
        sink.close()

    with largest_file(limit), pytest.raises(SinkError, match=r"expected to write .*; choose another output folder") as caught:
        write_all()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with suppress(SinkError):
        sink.close()
    count = sum(entries(tmp_path).values())
    assert 3 <= count < 300 or name == "masks"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("kind", [BoxesSink, TimesSink, JsonLinesSink])
def test_no_space_left_is_said_at_once(kind: type[BoxesSink | TimesSink | JsonLinesSink]) -> None:
    sink = kind("/dev/full")
    with pytest.raises(SinkError, match=f"{os.strerror(errno.ENOSPC)}'; free some space or choose another"):
        sink.write(frame(0), result(0))
    sink.close()


# --- the group ---------------------------------------------------------------------------------------------------------------------------


class Failing(BoxesSink):
    def line(self, frame: Frame, result: TrackResult) -> str:
        if frame.index == 4:
            raise SinkError("expected to write 'x', got 'full'; free some space")
        return super().line(frame, result)


def test_one_failing_sink_costs_only_its_own_file(tmp_path: Path) -> None:
    group = SinkGroup([Failing(tmp_path / "failing.txt"), BoxesSink(tmp_path / "boxes.txt"), TimesSink(tmp_path / "times.txt")])
    for index in range(4):
        group.write(frame(index), result(index))
    with pytest.raises(SinkError, match="got 'full'"):
        group.write(frame(4), result(4))
    group.write(frame(5), result(5))
    group.close()
    assert entries(tmp_path) == {"failing.txt": 4, "boxes.txt": 6, "times.txt": 6}


def test_a_file_that_cannot_be_removed_costs_no_other_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    group = open_sinks(tmp_path, frame_size_wh=SIZE_WH, frames_per_second=25)
    threads = threading.active_count()
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SinkError, match=r"expected to write '\S+boxes\.txt', got 'Permission denied'"):
        group.close()
    assert threading.active_count() == threads - 1, "the video is finished"


def test_group_writes_what_is_asked_for(tmp_path: Path) -> None:
    with open_sinks(tmp_path / "new" / "folder", frame_size_wh=SIZE_WH, frames_per_second=25, video=False) as sinks:
        assert sinks.codec_name is None
        sinks.write(frame(0), result(0))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["boxes.txt", "times.txt", "track.jsonl"]
    with open_sinks(tmp_path, frame_size_wh=SIZE_WH, frames_per_second=25) as sinks:
        assert sinks.codec_name == "libx264"


def test_ctrl_c_while_the_video_is_opened_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(video_module, "_add_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_sinks(tmp_path, frame_size_wh=SIZE_WH, frames_per_second=25)
    assert list(tmp_path.iterdir()) == []


def test_group_that_cannot_open_all_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("in the way")
    threads = threading.active_count()
    with pytest.raises(SinkError, match="masks"):
        open_sinks(tmp_path, frame_size_wh=SIZE_WH, frames_per_second=25, masks=True)
    assert threading.active_count() == threads


# --- what is in the files ----------------------------------------------------------------------------------------------------------------


@given(boxes=st.lists(arrays(np.float64, 4, elements=st.floats(-1e5, 1e5) | st.just(math.nan) | st.just(math.inf)), min_size=1, max_size=8))
def test_boxes_are_always_readable_numbers(tmp_path_factory: pytest.TempPathFactory, boxes: list[np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("boxes") / "boxes.txt"
    with BoxesSink(path) as sink:
        for index, box in enumerate(boxes):
            sink.write(Frame(picture(0), index, 0.0), TrackResult(box, 1.0, "tracking"))
    read = np.loadtxt(path, delimiter=",", ndmin=2)
    assert read.shape == (len(boxes), 4)
    assert np.isfinite(read).all()
    assert (read[:, 2:] >= 0).all()
    for box, line in zip(boxes, read, strict=True):
        if np.isfinite(box).all() and (box[2:] >= 0).all():
            assert line == pytest.approx(box, abs=0.0006)
    assert "-0.000" not in path.read_text()


def test_lines_are_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    with open_sinks(tmp_path, frame_size_wh=SIZE_WH, frames_per_second=30, video=False, masks=True) as sinks:
        for index in range(3):
            sinks.write(frame(index), result(index))
            assert set(entries(tmp_path).values()) == {index + 1}
    assert (tmp_path / "boxes.txt").read_text().splitlines()[1] == "10.123,10.000,11.000,10.000"
    assert (tmp_path / "times.txt").read_text().splitlines()[1] == "0.012346"


def test_jsonl_holds_everything_but_the_mask(tmp_path: Path) -> None:
    broken = replace(result(7), score=math.nan)
    with JsonLinesSink(tmp_path / "a.jsonl") as sink:
        sink.write(frame(7), result(7))
        sink.write(frame(8), broken)
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first == {
        "frame": 7,
        "time_s": 0.233333,
        "box_xywh": [10.123, 10.0, 17.0, 10.0],
        "score": 0.9,
        "state": "tracking",
        "channels": [
            {
                "name": "mosse",
                "box_xywh": [9.5, 9.5, 11.0, 10.0],
                "score": 0.5,
                "weight": 0.75,
                "failures": 0,
                "restarts": 1,
                "error": None,
            },
            {"name": "kcf", "box_xywh": None, "score": 0.0, "weight": 0.25, "failures": 2, "restarts": 0, "error": "went wrong"},
        ],
        "timings_s": {"channels": 0.004, "total": 0.012346},
    }
    assert second["score"] is None


@pytest.mark.parametrize(("soft", "inside", "corner", "tie"), [(False, 255, 0, 0), (True, 204, 76, 128)])
def test_masks_are_grey_pictures_named_by_the_frame(tmp_path: Path, soft: bool, inside: int, corner: int, tie: int) -> None:
    shown = result(5)
    assert shown.mask is not None
    shown.mask[0, 1] = 0.5
    with MasksSink(tmp_path, soft=soft) as sink:
        sink.write(frame(17), shown)
        sink.write(frame(18), replace(result(6), mask=None))
    mask = cv2.imread(str(tmp_path / "00017.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 64)
    assert mask.dtype == np.uint8
    assert mask[15, 15] == inside
    assert abs(int(mask[0, 0]) - corner) <= 1
    assert mask[0, 1] == tie, "as in the box that the pipeline reads, and in `sftrack segment`"
    assert cv2.imread(str(tmp_path / "00018.png"), cv2.IMREAD_UNCHANGED).max() == 0


def write_plain_video(path: Path, size_wh: tuple[int, int], rate: float | None) -> str:
    sink = AnnotatedVideoSink(path, frame_size_wh=size_wh, frames_per_second=rate, draw=lambda frame, _result: frame.image_rgb)
    with sink:
        for index in range(COUNT):
            sink.write(frame(index, size_wh), result(0))
    return sink.codec_name


@pytest.mark.parametrize("size_wh", [(64, 48), (65, 49), (64, 49)])
@pytest.mark.parametrize(("rate", "expected"), [(30000 / 1001, 30000 / 1001), (25.0, 25.0), (None, 30.0), (12.5, 12.5)])
def test_video_plays_in_a_browser_with_the_frames_that_were_given(
    tmp_path: Path, size_wh: tuple[int, int], rate: float | None, expected: float
) -> None:
    path = tmp_path / "a.mp4"
    assert write_plain_video(path, size_wh, rate) == "libx264"
    images = video_frames(path)
    assert [index_shown(image) for image in images] == list(range(COUNT))
    red, green, blue = images[0][20, 4].astype(int)
    assert (abs(red - 220) < 12, abs(green - 20) < 12, abs(blue - 20) < 12) == (True, True, True)
    assert images[0].shape == (size_wh[1] + size_wh[1] % 2, size_wh[0] + size_wh[0] % 2, 3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == pytest.approx(expected, rel=1e-4)


def test_pictures_of_a_camera_are_shown_when_they_were_taken(tmp_path: Path) -> None:
    taken_s = [7.0, 7.1, 7.11, 7.5, 7.5, 7.4, 9.0]  # the clock of a camera that was lost may go back
    with AnnotatedVideoSink(tmp_path / "a.mp4", frame_size_wh=SIZE_WH, frames_per_second=25.0, is_live=True) as sink:
        for index, time_s in enumerate(taken_s):
            sink.write(replace(frame(index), time_s=time_s), result(index))
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown_s = [float(decoded.time or 0.0) for decoded in container.decode(video=0)]
    assert shown_s == pytest.approx([0.0, 0.08, 0.12, 0.48, 0.52, 0.56, 2.0], abs=0.021)
    assert shown_s == sorted(set(shown_s))


def test_video_falls_back_to_an_encoder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "ENCODERS", {"no_such_encoder": {}, "mpeg4": video_module.ENCODERS["mpeg4"]})
    assert write_plain_video(tmp_path / "a.mp4", SIZE_WH, 30.0) == "mpeg4"
    assert len(video_frames(tmp_path / "a.mp4")) == COUNT
    monkeypatch.setattr(video_module, "ENCODERS", {"no_such_encoder": {}})
    with pytest.raises(SinkError, match="no_such_encoder"):
        write_plain_video(tmp_path / "b.mp4", SIZE_WH, 30.0)


def test_video_of_a_killed_program_plays(tmp_path: Path) -> None:
    program = f"""
        import os, time
        from sftrack.sinks import AnnotatedVideoSink
        from tests.conformance.test_sinks import frame, result
        sink = AnnotatedVideoSink({str(tmp_path / "a.mp4")!r}, frame_size_wh=(64, 48), frames_per_second=10.0)
        for index in range(100):
            sink.write(frame(index), result(0))
        while not sink._waiting.empty():
            time.sleep(0.01)
        os._exit(9)
    """
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=root, timeout=30, check=False)
    assert ended.returncode == 9
    assert len(video_frames(tmp_path / "a.mp4")) >= 80 - 20


def test_failure_of_drawing_is_reported_on_the_next_write_and_ends_the_thread(tmp_path: Path) -> None:
    def draw(frame: Frame, result: TrackResult) -> np.ndarray:
        raise ValueError("a fault\nof ours")

    threads = threading.active_count()
    sink = AnnotatedVideoSink(tmp_path / "a.mp4", frame_size_wh=SIZE_WH, draw=draw)

    def write_many() -> None:
        for index in range(50):
            sink.write(frame(index), result(0))

    with pytest.raises(SinkError, match="a fault of ours"):
        write_many()
    with pytest.raises(SinkError, match="a fault of ours"):
        sink.close()
    sink.close()
    assert threading.active_count() == threads
