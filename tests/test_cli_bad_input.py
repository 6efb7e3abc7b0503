"""Every mistake a user can make gets one line on stderr and exit code 2, and a source that breaks loses nothing that was tracked."""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sftrack.sources import CameraSource
from tests.conftest import ROOT, Clip, Run, moving_square, write_clip

RunCli = Callable[..., Run]
BOX = ("--box", "12,10,32,32", "--headless")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ["--video", "required"]),
        (("--videos", "clip.mp4"), ["sftrack track: error", "--videos"]),
        (("--video",), ["--video", "expected one argument"]),
        (("--video", "a.mp4", "--demo"), ["not allowed with"]),
        (("--demo", "--max-frames", "0"), ["--max-frames", "at least 1", "'0'"]),
        (("--demo", "--max-frames", "many"), ["--max-frames", "'many'"]),
        (("--demo", "--start-frame", "-1"), ["--start-frame"]),
        (("--demo", "--start-frame", "9999"), ["9999"]),
        (("--demo", "--colour", "red"), ["sftrack track: error", "--colour", "see sftrack track --help"]),
        (("--frames", "a/1.jpg", "a/2.jpg", "a/3.jpg", "--headless"), ["a/2.jpg a/3.jpg", "in quotes"]),
        (("--demo", "--headless", "--box", "10", "20", "30", "40"), ["20 30 40", "120,80,64,48"]),
        (("--video", "a" * 300, *BOX), ["nothing there"]),
        (("--video", ""), ["--video", "empty"]),
        (("--demo", "--out", ""), ["--out", "empty"]),
        (("--demo", "--headless", "--preset", "lihgt"), ["'lihgt'", "light"]),
        (("--demo", "--headless", "--channel", "mose"), ["'mose'", "did you mean 'mosse'"]),
        (("--demo", "--headless", "--channel", "mosse", "--channel", "mosse"), ["every name once", "mosse, mosse"]),
        (("--demo", "--headless", "--channel", "mosse", "--preset", "light"), ["not allowed with"]),
        (("--demo", "--headless", "--channel", "mosse", "--pytracking-root", "there"), ["pytracking:NAME/PARAMETERS", "got none"]),
        (("--demo", "--headless", "--channel", "pytracking:dimp/dimp50", "--pytracking-root", "no"), ["PyTracking checkout", "no'"]),
        (("--demo", "--headless", "--device", "gpu"), ["'gpu'", "cpu, cuda"]),
        (("--demo", "--headless", "--config", "no.toml"), ["no.toml"]),
        (("--demo", "--headless", "--box", "1,2,3"), ["four numbers", "'1,2,3'"]),
        (("--demo", "--headless", "--box", "a,b,c,d"), ["four numbers"]),
        (("--demo", "--headless", "--box", "nan,1,20,20"), ["finite", "nan"]),
        (("--demo", "--headless", "--box", "10,10,inf,20"), ["finite", "inf"]),
        (("--demo", "--headless", "--box", "10,10,0,0"), ["at least 2 pixels", "10,10,0,0"]),
        (("--demo", "--headless", "--box", "10,10,-20,20"), ["at least 2 pixels"]),
        (("--demo", "--headless", "--box", "9000,10,20,20"), ["inside the frame", "854x480"]),
        (("--video", "nowhere.mp4", *BOX), ["nowhere.mp4"]),
        (("--video", ".", *BOX), ["folder"]),
        (("--frames", "nowhere", *BOX), ["nowhere"]),
        (("--frames", "no*.png", *BOX), ["no*.png"]),
        (("--frames", ".", *BOX), ["image"]),
        (("--camera", "97", *BOX), ["camera", "97"]),
        (("--camera", "rtsp://127.0.0.1:9/x", *BOX), ["camera", "127.0.0.1"]),
        (("--video", "clip.mp4", "--headless"), ["--box x,y,w,h"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run_cli: RunCli, flags: tuple[str, ...], words: list[str]) -> None:
    done = run_cli(*flags)
    assert done.code == 2
    assert done.out == ""
    assert [word for word in words if word not in done.error] == [], done.error
    assert list(Path().iterdir()) == [], "a refused command leaves nothing behind"


def test_without_a_display_the_box_is_asked_for(run_cli: RunCli, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    done = run_cli("--video", clip.path)
    assert done.code == 2
    assert "--box" in done.error
    assert "display" in done.error or "PyQt5" in done.error
    assert run_cli("--demo", "--no-headless").code == 2
    shown = run_cli("--demo", "--max-frames", 2)
    assert shown.code == 0
    assert "no viewer: " in shown.err


def test_a_clone_without_its_packages_says_what_to_install() -> None:
    """-I -S: the same Python without anything that was installed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sftrack.cli import main; sys.exit(main(['track', '--demo', '--headless']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not installed" in done.stderr
    assert "pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 50, b"\x00" * 4096], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_video_is_refused(run_cli: RunCli, content: bytes) -> None:
    Path("bad.mp4").write_bytes(content)
    done = run_cli("--video", "bad.mp4", *BOX)
    assert done.code == 2
    assert "bad.mp4" in done.error


def test_a_video_without_frames_is_refused(run_cli: RunCli) -> None:
    write_clip(Path("none.mp4"), frames=0)
    done = run_cli("--video", "none.mp4", *BOX)
    assert done.code == 2
    assert "none.mp4" in done.error


def test_a_start_after_the_end_is_refused(run_cli: RunCli, clip: Clip) -> None:
    done = run_cli("--video", clip.path, *BOX, "--start-frame", 500)
    assert done.code == 2
    assert "500" in done.error


def test_a_damaged_video_is_tracked_around_the_damage(run_cli: RunCli) -> None:
    clip = write_clip(Path("whole.mp4"), frames=30, key_every=6)
    data = bytearray(clip.path.read_bytes())
    start = len(data) // 3
    data[start : start + len(data) // 8] = b"\xa5" * (len(data) // 8)
    Path("damaged.mp4").write_bytes(data)
    done = run_cli("--video", "damaged.mp4", *BOX, "--out", "out")
    assert done.code == 0, done.err
    tracked, failures = int(done.out.split()[0]), int(done.out.split(" not decoded")[0].split()[-1])
    assert failures > 0
    assert 10 < tracked < 30
    assert len(Path("out/boxes.txt").read_text().splitlines()) == tracked


def test_a_truncated_video_is_tracked_up_to_its_end(run_cli: RunCli) -> None:
    clip = write_clip(Path("whole.mkv"), frames=30, key_every=6)
    data = clip.path.read_bytes()
    Path("cut.mkv").write_bytes(data[: len(data) // 2])
    done = run_cli("--video", "cut.mkv", *BOX, "--out", "out")
    assert done.code == 0, done.err
    tracked = int(done.out.split()[0])
    assert 7 < tracked < 30
    assert len(Path("out/boxes.txt").read_text().splitlines()) == tracked


def test_a_folder_with_a_frame_of_another_size_and_a_broken_one_is_tracked(run_cli: RunCli) -> None:
    pictures, _ = moving_square(6)
    Path("images").mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(f"images/{index:04d}.png", cv2.resize(picture, (96, 64)) if index == 2 else picture)
    Path("images/0004.png").write_bytes(b"broken")
    done = run_cli("--frames", "images", *BOX, "--out", "out")
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    tracked = len(Path("out/boxes.txt").read_text().splitlines())
    assert done.out.startswith(f"{tracked} frames of images")
    assert " 0 not decoded" not in done.out
    assert tracked in (4, 5)


@pytest.mark.parametrize("out", ["taken/out", "/proc/sftrack/out", "a" * 300])
def test_an_output_folder_that_cannot_be_made_is_refused(run_cli: RunCli, clip: Clip, out: str) -> None:
    Path("taken").write_text("a file, not a folder")
    done = run_cli("--video", clip.path, *BOX, "--out", out)
    assert done.code == 2
    assert out in done.error
    assert "free some space" not in done.error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device of Linux that is always full")
@pytest.mark.parametrize("full", ["boxes.txt", "track.jsonl"])
def test_a_full_disk_ends_the_run_and_keeps_the_other_files(
    run_cli: RunCli, clip: Clip, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out").mkdir()
    os.symlink("/dev/full", f"out/{full}")
    monkeypatch.setattr("sftrack.sinks.folder.remove_results", lambda folder: None)
    done = run_cli("--video", clip.path, *BOX, "--out", "out", "--overwrite")
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "No space left" in last
    assert "Traceback" not in done.err
    for name in {"boxes.txt", "times.txt", "track.jsonl"} - {full}:
        assert len(Path("out", name).read_text().splitlines()) >= 1
    for line in Path("out/track.jsonl").read_text().splitlines() if full != "track.jsonl" else []:
        json.loads(line)


class FadingCamera:
    """Delivers frames for a while, then nothing; afterwards it cannot be opened again."""

    opened = 0

    def __init__(self, address: object) -> None:
        type(self).opened += 1
        self.alive = type(self).opened == 1
        self.pictures, _ = moving_square(12)

    def isOpened(self) -> bool:  # noqa: N802
        return self.alive

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.pictures:
            return False, None
        time.sleep(0.05)
        return True, self.pictures.pop(0)[..., ::-1].copy()

    def get(self, prop_id: int) -> float:
        return 25.0

    def release(self) -> None:
        self.alive = False


def test_a_camera_that_disappears_leaves_what_was_tracked(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    camera = functools.partial(CameraSource, open_capture=FadingCamera, wait=waits.append, read_timeout_s=0.5, open_timeout_s=0.5)
    monkeypatch.setattr("sftrack.sources.CameraSource", camera)
    monkeypatch.setattr(FadingCamera, "opened", 0)
    done = run_cli("--camera", "0", *BOX, "--out", "out")
    assert done.code == 2
    assert waits == [1.0, 2.0, 5.0]
    last = done.err.splitlines()[-1]
    assert "disappeared" in last
    assert "Traceback" not in done.err
    tracked = int(done.out.split()[0])
    assert tracked >= 1
    assert len(Path("out/boxes.txt").read_text().splitlines()) == tracked


def test_a_password_in_an_address_is_neither_shown_nor_put_into_a_folder_name(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = functools.partial(CameraSource, open_capture=FadingCamera, wait=lambda _seconds: None, read_timeout_s=0.5, open_timeout_s=0.5)
    monkeypatch.setattr("sftrack.sources.CameraSource", camera)
    monkeypatch.setattr(FadingCamera, "opened", 0)
    done = run_cli("--camera", "rtsp://me:secret@host/stream", *BOX, "--no-video", "--max-frames", 1, "--debug")
    assert done.code == 0, done.err
    assert "secret" not in done.err + done.out
    assert [path.name for path in Path("runs").iterdir()] == ["camera_rtsp_host_stream"]
    refused = run_cli("--camera", "rtsp://me:secret@host/stream", *BOX, "--debug")
    assert refused.code == 2
    assert "secret" not in refused.err
