"""What all tests share: generated clips with known truth, the data beside the checkout, and a check that no thread is left behind."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads that wait for each other on a busy machine are far slower than one

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread alive which would keep the program from ending."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(timeout=2.0)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"left alive: {', '.join(alive)}"


@pytest.fixture(autouse=True, scope="session")
def no_weights_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let every test see an empty folder of weights, so that what it does is the same on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFTRACK_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and specifications; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("SFTRACK_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: no folder at {folder} (set SFTRACK_SHARED)")
    return folder


@dataclass(frozen=True)
class Clip:
    """A video file, and the true box `(T, 4)` of its target, 0-based x, y, w, h."""

    path: Path
    boxes_xywh: np.ndarray

    @property
    def start_box(self) -> str:
        return ",".join(f"{value:g}" for value in self.boxes_xywh[0])


def moving_square(frames: int, size_wh: tuple[int, int] = (192, 128), side: int = 32) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB pictures of a textured square moving 2 pixels right and 1 down per frame over a dim textured ground, and its true boxes."""
    rng = np.random.default_rng(0)
    width, height = size_wh
    ground = rng.integers(0, 80, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    square = rng.integers(120, 256, (side // 8, side // 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    pictures, boxes = [], []
    for index in range(frames):
        x, y = 12 + 2 * index % (width - side - 16), 10 + index % (height - side - 12)
        picture = ground.copy()
        picture[y : y + side, x : x + side] = square
        pictures.append(picture)
        boxes.append([x, y, side, side])
    return pictures, np.array(boxes, dtype=np.float64)


def write_clip(path: Path, frames: int = 24, size_wh: tuple[int, int] = (192, 128), rate: int = 25, key_every: int = 12) -> Clip:
    """Encode `moving_square` as H.264."""
    pictures, boxes = moving_square(frames, size_wh)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "ultrafast", "g": str(key_every)})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return Clip(path, boxes)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """24 frames of 192x128 at 25 frames/s."""
    return write_clip(tmp_path_factory.mktemp("clip") / "square.mp4")


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def runner(command: str, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs `sftrack COMMAND ARGS` in this process; what C libraries print counts as well."""
    from sftrack.cli import main

    def run(*args: object) -> Run:
        capfd.readouterr()
        code = main([command, *map(str, args)])
        captured = capfd.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run `sftrack bench ARGS` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner("bench", capfd)


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run `sftrack track ARGS` in this process, in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)

    return runner("track", capfd)
