"""The command line, from a file on disk to the result files."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sftrack.boxes import iou
from sftrack.contracts import FrameSource, ResultSink
from sftrack.errors import SinkError
from sftrack.pipeline import SFTracker
from sftrack.presets import channels_of
from sftrack.sinks.folder import claim_folder
from tests.conftest import ROOT, Clip, Run, moving_square, write_clip
from tests.pytracking_checkout import make_checkout

RunCli = Callable[..., Run]
LIGHT_NAMES = [channel.name for channel in channels_of("light")]


def boxes_in(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "boxes.txt", delimiter=",", ndmin=2)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def assert_complete(folder: Path, frames: int) -> None:
    """Every file has one entry per frame."""
    assert len(boxes_in(folder)) == frames
    assert len((folder / "times.txt").read_text().splitlines()) == frames
    assert len([json.loads(line) for line in (folder / "track.jsonl").read_text().splitlines()]) == frames
    assert frames_in(folder / "annotated.mp4") == frames


def test_a_video_is_followed_and_all_files_are_written(run_cli: RunCli, clip: Clip) -> None:
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless", "--out", "out", "--save-masks")
    assert done.code == 0, done.err
    out = Path("out")
    assert_complete(out, 24)
    overlaps = iou(boxes_in(out), clip.boxes_xywh)
    assert overlaps[0] == 1.0
    assert overlaps.mean() > 0.6
    assert sorted(path.name for path in (out / "masks").iterdir()) == [f"{index:05d}.png" for index in range(24)]
    line = json.loads((out / "track.jsonl").read_text().splitlines()[5])
    assert [channel["name"] for channel in line["channels"]] == LIGHT_NAMES
    assert line["state"] in ("tracking", "uncertain", "lost")


def test_the_last_line_says_how_it_went_and_where_the_files_are(run_cli: RunCli, clip: Clip) -> None:
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 5)
    (line,) = done.out.splitlines()
    for words in ("5 frames of square.mp4", "frames/s", "p95 latency", "0 not decoded", "channel failures: none", "264", "runs/square/"):
        assert words in line
    assert "light" in done.error
    assert_complete(Path("runs/square"), 5)


def test_a_second_run_takes_a_folder_of_its_own(run_cli: RunCli, clip: Clip) -> None:
    flags = ("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 3, "--no-video")
    run_cli(*flags)
    before = Path("runs/square/boxes.txt").stat().st_mtime_ns
    assert "runs/square-2/" in run_cli(*flags).out
    assert Path("runs/square/boxes.txt").stat().st_mtime_ns == before


def test_results_in_a_named_folder_are_replaced_only_when_asked(run_cli: RunCli, clip: Clip) -> None:
    flags = ("--video", clip.path, "--box", clip.start_box, "--headless", "--out", "out")
    assert run_cli(*flags, "--max-frames", 4, "--save-masks").code == 0
    Path("out/notes.txt").write_text("mine")
    refused = run_cli(*flags, "--max-frames", 2)
    assert refused.code == 2
    assert "--overwrite" in refused.error
    assert len(boxes_in(Path("out"))) == 4
    assert run_cli(*flags, "--max-frames", 2, "--no-video", "--overwrite").code == 0
    assert len(boxes_in(Path("out"))) == 2
    assert sorted(path.name for path in Path("out").glob("*.*")) == ["boxes.txt", "notes.txt", "times.txt", "track.jsonl"]
    assert list(Path("out/masks").iterdir()) == []


@pytest.mark.parametrize("out", [(), ("--out", "runs/square")])
def test_a_run_that_was_faster_keeps_its_folder(run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch, out: tuple[str, ...]) -> None:
    """Another run begins to write to the same folder while this one still loads its networks."""

    def another_run() -> None:
        claim_folder(None, "square.mp4")
        Path("runs/square/times.txt").write_text("0.1\n")

    monkeypatch.setattr("sftrack.workers.limit_library_threads", another_run)
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 2, "--no-video", *out)
    assert Path("runs/square/times.txt").read_text() == "0.1\n"
    assert not Path("runs/square/boxes.txt").read_text()
    if out:
        assert done.code == 2
        assert "already holds results" in done.error
    else:
        assert done.code == 0
        assert len(boxes_in(Path("runs/square-2"))) == 2


def test_of_two_runs_only_one_takes_a_folder(run_cli: RunCli) -> None:
    """`run_cli` for its empty working folder."""
    assert claim_folder(None, "a.mp4") == Path("runs/a")
    assert claim_folder(None, "a.mp4") == Path("runs/a-2")
    assert claim_folder("out", "a.mp4") == Path("out")
    with pytest.raises(SinkError, match="already holds results"):
        claim_folder("out", "a.mp4")
    assert claim_folder("out", "a.mp4", overwrite=True) == Path("out")
    Path("dangling").mkdir()
    os.symlink("nowhere", "dangling/boxes.txt")
    with pytest.raises(SinkError, match="File exists"):
        claim_folder("dangling", "a.mp4")


@pytest.mark.parametrize("given", [("--video", "out/annotated.mp4"), ("--frames", "out/masks"), ("--frames", "out/masks/*.png")])
def test_results_that_are_being_read_are_not_replaced(run_cli: RunCli, clip: Clip, given: tuple[str, str]) -> None:
    flags = ("--box", clip.start_box, "--headless", "--out", "out")
    assert run_cli("--video", clip.path, *flags, "--max-frames", 2, "--save-masks").code == 0
    refused = run_cli(*given, *flags, "--overwrite")
    assert refused.code == 2
    assert "another --out" in refused.error
    assert_complete(Path("out"), 2)
    assert len(list(Path("out/masks").iterdir())) == 2


def test_ctrl_c_before_the_first_frame_leaves_no_file(run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sftrack.session.run_session", interrupted)
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless", "--out", "out", "--save-masks")
    assert done.code == 130
    assert "Traceback" not in done.err
    assert [path for path in Path("out").rglob("*") if path.is_file()] == []


def test_ctrl_c_while_the_flags_are_read_is_one_line(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(track_prog: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sftrack.cli.build_parser", interrupted)
    done = run_cli("--demo")
    assert done.code == 130
    assert done.error == "interrupted"


def test_sigterm_while_the_networks_are_loaded_is_one_line(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sftrack.workers.limit_library_threads", lambda: signal.raise_signal(signal.SIGTERM))
    # not the end of the tests where it is not caught
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        done = run_cli("--demo", "--headless", "--max-frames", 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.code == 130
    assert done.error == "interrupted"
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["ünï.mp4", os.fsdecode(b"caf\xe9.mp4")], ids=["not ASCII", "not UTF-8"])
def test_a_name_that_the_terminal_cannot_show_does_not_fail_a_run(
    run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    try:
        Path(name).write_bytes(clip.path.read_bytes())
    except OSError:
        pytest.skip("this file system takes no name that is not UTF-8")
    shown = {stream: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for stream in ("stdout", "stderr")}
    for stream, wrapper in shown.items():
        monkeypatch.setattr(sys, stream, wrapper)
    assert (
        run_cli("--video", name, "--box", clip.start_box, "--headless", "--max-frames", 2, "--channel", "mosse", "--out", "out").code == 0
    )
    assert shown["stdout"].buffer.getvalue().startswith(b"2 frames of ")  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_does_not_fail_a_run(run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    """As `>&-` and `2>&-` of a shell leave it."""
    monkeypatch.setattr(sys, stream, None)
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 2, "--channel", "mosse", "--out", "out")
    assert done.code == 0
    assert done.out.startswith("2 frames of ") == (stream == "stderr")


def test_a_part_of_a_video_is_tracked(run_cli: RunCli, clip: Clip) -> None:
    box = ",".join(f"{value:g}" for value in clip.boxes_xywh[8])
    done = run_cli("--video", clip.path, "--box", box, "--headless", "--start-frame", 8, "--max-frames", 6, "--out", "out", "--no-video")
    assert done.code == 0
    lines = [json.loads(line) for line in Path("out/track.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(8, 14))
    assert not Path("out/annotated.mp4").exists()
    assert iou(boxes_in(Path("out")), clip.boxes_xywh[8:14]).mean() > 0.6


def test_the_demo_needs_nothing(run_cli: RunCli) -> None:
    done = run_cli("--demo", "--headless", "--max-frames", 3)
    assert done.code == 0
    assert_complete(Path("runs/demo"), 3)


def test_a_folder_of_images_is_tracked(run_cli: RunCli) -> None:
    import cv2

    pictures, boxes = moving_square(4)
    Path("images").mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(f"images/{index:04d}.png", picture[..., ::-1])
    box = ",".join(f"{value:g}" for value in boxes[0])
    assert run_cli("--frames", "images", "--box", box, "--headless", "--out", "a").code == 0
    assert run_cli("--frames", "images/*.png", "--box", box, "--headless", "--out", "b").code == 0
    np.testing.assert_array_equal(boxes_in(Path("a")), boxes_in(Path("b")))


def test_a_box_partly_outside_is_clipped_and_that_is_said(run_cli: RunCli, clip: Clip) -> None:
    done = run_cli("--video", clip.path, "--box", "-4,10,30,30", "--headless", "--max-frames", 2, "--out", "out")
    assert done.code == 0
    assert "clipped to 0,10,26,30" in done.err
    np.testing.assert_array_equal(boxes_in(Path("out"))[0], [0, 10, 26, 30])


def test_a_box_inside_is_not_called_clipped(run_cli: RunCli, clip: Clip) -> None:
    assert "clipped" not in run_cli("--video", clip.path, "--box", "17.17,24.184,19.539,11.573", "--headless", "--max-frames", 1).err


def test_settings_come_from_a_file_and_flags_win(run_cli: RunCli, clip: Clip) -> None:
    Path("set.toml").write_text("device = 'gpu'\n[[channels]]\nname = 'only'\ntracker = 'mosse'\n")
    flags = ("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 3, "--config", "set.toml")
    refused = run_cli(*flags)
    assert refused.code == 2
    assert "'gpu'" in refused.error
    done = run_cli(*flags, "--device", "cpu", "--out", "one")
    assert done.code == 0
    assert "1 channel from set.toml;" in done.error
    assert [c["name"] for c in json.loads(Path("one/track.jsonl").read_text().splitlines()[1])["channels"]] == ["only"]
    assert run_cli(*flags, "--device", "cpu", "--preset", "light", "--out", "preset").code == 0
    assert [c["name"] for c in json.loads(Path("preset/track.jsonl").read_text().splitlines()[1])["channels"]] == LIGHT_NAMES


def test_channels_can_be_named_one_by_one(run_cli: RunCli, clip: Clip, tmp_path: Path) -> None:
    flags = ("--video", clip.path, "--box", clip.start_box, "--headless", "--max-frames", 3)
    done = run_cli(*flags, "--channel", "mosse", "--channel", "flow", "--out", "two")
    assert done.code == 0
    assert "channels mosse, flow;" in done.error
    checkout = make_checkout(tmp_path / "checkout")
    done = run_cli(*flags, "--channel", "pytracking:bright/default", "--pytracking-root", checkout, "--out", "foreign")
    assert done.code == 0
    for folder, names in (("two", ["mosse", "flow"]), ("foreign", ["pytracking:bright/default"])):
        assert [c["name"] for c in json.loads(Path(folder, "track.jsonl").read_text().splitlines()[1])["channels"]] == names


def test_a_failure_of_ours_is_one_line_and_a_traceback_only_on_request(
    run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("three\nlines\nlong")

    monkeypatch.setattr("sftrack.session.run_session", broken)
    flags = ("--video", clip.path, "--box", clip.start_box, "--headless")
    done = run_cli(*flags)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: unexpected ZeroDivisionError: three lines long")
    assert "Traceback" not in done.err
    assert "Traceback" in run_cli(*flags, "--debug").err


def test_a_gpu_without_enough_memory_is_for_the_user_to_mend(run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr("sftrack.session.run_session", full)
    done = run_cli("--video", clip.path, "--box", clip.start_box, "--headless")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: the memory of the GPU is full; ")
    assert "--device cpu" in done.err


def test_with_a_display_the_viewer_tracks_and_the_same_line_is_written(
    run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sftrack.gui import ViewerSummary

    asked: dict[str, object] = {}

    def viewer(source: FrameSource, tracker: SFTracker, *, box_xywh: object, sinks: list[ResultSink], with_mask: bool) -> ViewerSummary:
        """The user drags the true box, watches four frames and presses Ctrl+C in the terminal."""
        asked.update(box_xywh=box_xywh)
        with sinks[0], sinks[1], source:
            for count, frame in zip(range(4), source, strict=False):
                result = tracker.update(frame.image_rgb) if count else tracker.init(frame.image_rgb, clip.boxes_xywh[0])
                for sink in sinks:
                    sink.write(frame, result)
        return ViewerSummary(4, (0.01,) * 4, interrupted=True)

    monkeypatch.setattr("sftrack.gui.run_viewer", viewer)
    monkeypatch.setattr("sftrack.gui.why_not_shown", lambda: None)
    done = run_cli("--video", clip.path, "--out", "out")
    assert done.code == 130
    assert asked == {"box_xywh": None}
    assert done.out.startswith("4 frames of square.mp4; mean ")
    assert_complete(Path("out"), 4)


def test_version_and_help(run_cli: RunCli) -> None:
    assert run_cli("--version").out.startswith("sftrack ")
    shown = run_cli("--help").out
    assert "--video clip.mp4" in shown
    assert len(shown.splitlines()) < 55


def test_a_real_clip_is_tracked_end_to_end(run_cli: RunCli, shared: Path) -> None:
    done = run_cli("--video", shared / "data/videos/bag.avi", "--box", "312,146,106,98", "--headless", "--max-frames", 20, "--out", "out")
    assert done.code == 0, done.err
    assert_complete(Path("out"), 20)
    boxes = boxes_in(Path("out"))
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > 0).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_complete_files(tmp_path: Path, number: int) -> None:
    """A real process and a real signal, on a clip too long to be finished."""
    clip = write_clip(tmp_path / "long.mp4", frames=600, size_wh=(320, 240))
    command = [
        sys.executable,
        str(ROOT / "run_tracker.py"),
        "--video",
        str(clip.path),
        "--box",
        clip.start_box,
        "--headless",
        "--out",
        "out",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    boxes = tmp_path / "out" / "boxes.txt"
    deadline = time.monotonic() + 60
    while not (boxes.exists() and len(boxes.read_text().splitlines()) > 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    frames = int(out.split(" frames of ")[0])
    assert 5 < frames < 600
    assert_complete(tmp_path / "out", frames)
