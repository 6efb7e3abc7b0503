"""The viewer as a user starts it: a process of its own on a real X server, with real mouse and key events."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "xvfb xdotool libgl1 libegl1 libfontconfig1 libdbus-1-3 and what sftrack.gui.display.XCB_PACKAGES names"

# The target is a red square on grey that moves a pixel per frame; the program prints what it was given and what it tracked.
PROGRAM = """
import sys, threading
from sftrack.gui import run_viewer
from tests.gui.fakes import FakeSink, FakeSource, FakeTracker

class TellingTracker(FakeTracker):
    def init(self, image_rgb, box_xywh, *, with_mask=False):
        result = super().init(image_rgb, box_xywh, with_mask=with_mask)
        print("init", *(round(float(value), 1) for value in box_xywh), flush=True)
        return result

sink = FakeSink()
summary = run_viewer(FakeSource(100_000, frames_per_second=50.0), TellingTracker(), sinks=sink)
print("end", summary.frames_tracked, sink.closes, [t.name for t in threading.enumerate()].count("sftrack-reader"), summary.error)
"""


@pytest.fixture
def display() -> Iterator[str]:
    """A free X display, served by Xvfb for the time of the test."""
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip(f"Xvfb is not installed; on Debian or Ubuntu: apt-get install {PACKAGES}")
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed; on Debian or Ubuntu: apt-get install xdotool")
    reading, writing = os.pipe()
    command = [server, "-displayfd", str(writing), "-screen", "0", "1000x800x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()  # Xvfb picks a free display and writes its number when it is ready.
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.terminate()
        process.wait(10)


class Desktop:
    """xdotool on one display, and the viewer on it."""

    def __init__(self, address: str, log: Path) -> None:
        self._environ = {name: value for name, value in os.environ.items() if name not in ("QT_QPA_PLATFORM", "WAYLAND_DISPLAY")}
        self._environ["DISPLAY"] = address
        self._log = log

    def start(self, program: str) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            command = [sys.executable, "-c", program]
            self._viewer = subprocess.Popen(command, cwd=ROOT, env=self._environ, stdout=log, stderr=subprocess.STDOUT)
        return self._viewer

    def wait_until(self, is_so: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
        """Fails with what the viewer said if it takes too long or the viewer ends."""
        end_s = time.monotonic() + limit_s
        while not is_so():
            assert self._viewer.poll() is None, f"the viewer ended before {what}: {self.said()}"
            assert time.monotonic() < end_s, f"waited {limit_s:.0f} s for {what}: {self.said()}"
            time.sleep(0.05)

    def said(self) -> str:
        return self._log.read_text()

    def do(self, *arguments: object) -> str:
        command = ["xdotool", *(str(argument) for argument in arguments)]
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=20).stdout

    def window(self, title: str) -> tuple[int, int, int, int]:
        """Its id, left, top and width, once it is there."""
        self.wait_until(lambda: self.do("search", "--onlyvisible", "--name", title), f"the window '{title}'")
        number = int(self.do("search", "--onlyvisible", "--name", title).split()[0])
        found = dict(re.findall(r"(\w+)=(-?\d+)", self.do("getwindowgeometry", "--shell", number)))
        return number, int(found["X"]), int(found["Y"]), int(found["WIDTH"])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.do("mousemove", round(start[0]), round(start[1]), "mousedown", 1)
        for share in (0.25, 0.5, 0.75, 1.0):
            self.do("mousemove", *(round(a + share * (b - a)) for a, b in zip(start, end, strict=True)))
        self.do("mouseup", 1)


def drag_until_told(desktop: Desktop, start: tuple[float, float], end: tuple[float, float], count: int) -> list[float]:
    """Drag until the program has been given its n-th box, and return that; again, because nothing tells when the first frame is there."""
    last_drag_s = 0.0

    def is_told() -> bool:
        nonlocal last_drag_s
        if desktop.said().count("init") >= count:
            return True
        if time.monotonic() - last_drag_s > 2.0:
            desktop.drag(start, end)
            last_drag_s = time.monotonic()
        return False

    desktop.wait_until(is_told, f"target {count}")
    line = [line for line in desktop.said().splitlines() if line.startswith("init")][-1]
    return [float(value) for value in line.split()[1:]]


def test_a_target_is_dragged_tracked_and_chosen_again_on_a_real_display(display: str, tmp_path: Path) -> None:
    desktop = Desktop(display, tmp_path / "said.txt")
    viewer = desktop.start(PROGRAM)
    try:
        number, left, top, width = desktop.window("fake.mp4 - sftrack")
        scale = width / 160
        desktop.do("windowfocus", number)
        box = drag_until_told(desktop, (left + 20 * scale, top + 30 * scale), (left + 70 * scale, top + 60 * scale), 1)
        assert box == pytest.approx([20, 30, 50, 30], abs=1.0)

        time.sleep(0.3)
        desktop.do("key", "r")
        time.sleep(0.3)
        box = drag_until_told(desktop, (left + 100 * scale, top + 90 * scale), (left + 60 * scale, top + 50 * scale), 2)
        assert box == pytest.approx([60, 50, 40, 40], abs=1.0)

        desktop.do("key", "q")
        assert viewer.wait(10) == 0, desktop.said()
    finally:
        viewer.kill()
    last = desktop.said().splitlines()[-1].split()
    assert last[0] == "end"
    assert int(last[1]) > 5
    assert last[2:] == ["1", "0", "None"]


def test_it_starts_on_a_real_display_where_opencv_has_set_qts_plugin_path(display: str, tmp_path: Path) -> None:
    desktop = Desktop(display, tmp_path / "said.txt")
    broken = tmp_path / "cv2" / "qt" / "plugins"
    (broken / "platforms").mkdir(parents=True)
    (broken / "platforms" / "libqxcb.so").write_bytes(b"not a library")
    viewer = desktop.start(f"import os\nos.environ['QT_QPA_PLATFORM_PLUGIN_PATH'] = {str(broken)!r}\n{PROGRAM}")
    try:
        number, *_ = desktop.window("fake.mp4 - sftrack")
        desktop.do("windowfocus", number, "key", "ctrl+w")
        assert viewer.wait(10) == 0, desktop.said()
    finally:
        viewer.kill()
    assert "end 0 1 0 None" in desktop.said()
