"""Our trackers in other people's harnesses: the GOT-10k toolkit and the VOT toolkit.

Stand-ins for `got10k` and `trax` hold our side to the contract everywhere; where the packages are installed, the real ones drive us.
"""

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sftrack.benchmark.guest import Guest
from sftrack.boxes import iou
from sftrack.config import ChannelConfig
from sftrack.errors import BoxError, ConfigError
from sftrack.trackers import create
from tests.benchmark_data import write_otb
from tests.conftest import ROOT, moving_square

FRAMES = 12


def write_frames(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Image files of a moving square, and its true boxes, 0-based."""
    pictures, boxes = moving_square(FRAMES)
    paths = [folder / f"{number:08d}.png" for number in range(1, FRAMES + 1)]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture[..., ::-1])
    return paths, boxes


def test_a_guest_says_what_the_tracker_itself_says_and_starts_anew_on_every_sequence(tmp_path: Path) -> None:
    pictures, boxes = moving_square(FRAMES)
    guest, plain = Guest("template", "cpu"), create("template", device="cpu")
    plain.init(pictures[0], boxes[0])
    alone = [plain.update(picture).box_xywh for picture in pictures[1:]]
    for _ in range(2):
        guest.init(pictures[0], boxes[0])
        np.testing.assert_array_equal([guest.update(picture).box_xywh for picture in pictures[1:]], alone)


def test_a_guest_may_be_a_fusion(tmp_path: Path) -> None:
    pictures, boxes = moving_square(4)
    settings = tmp_path / "mine.toml"
    settings.write_text('[[channels]]\nname = "a"\ntracker = "template"\n[[channels]]\nname = "b"\ntracker = "mosse"\n')
    guest = Guest(str(settings), "cpu")
    assert (guest.name, guest._entrant.channels) == ("mine", (ChannelConfig("a", "template"), ChannelConfig("b", "mosse")))
    guest.init(pictures[0], boxes[0])
    assert iou(guest.update(pictures[1]).box_xywh[None], boxes[1:2])[0] > 0.6
    guest.close()
    with pytest.raises(RuntimeError, match="init before update"):
        guest.update(pictures[2])


def test_a_guest_refuses_what_is_unknown_or_cannot_be_tracked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'template'"):
        Guest("templat", "cpu")
    with pytest.raises(BoxError):
        Guest("template", "cpu").init(moving_square(1)[0][0], np.array([0.0, 0.0, np.nan, 5.0]))


class StandInTracker:
    """The part of `got10k.trackers.Tracker` that experiments call."""

    def __init__(self, name: str, is_deterministic: bool = False) -> None:
        self.name, self.is_deterministic = name, is_deterministic

    def track(self, img_files: list[Path], box: np.ndarray) -> np.ndarray:
        from PIL import Image

        boxes = [box]
        for index, path in enumerate(img_files):
            image = Image.open(path).convert("RGB")
            if index == 0:
                self.init(image, box)  # type: ignore[attr-defined]
            else:
                boxes.append(self.update(image))  # type: ignore[attr-defined]
        return np.array(boxes)


@pytest.fixture
def without_adapters() -> Iterator[None]:
    """Import the adapters anew: they take the package that is there."""
    yield
    for name in ("sftrack.benchmark.got10k", "sftrack.benchmark.vot"):
        sys.modules.pop(name, None)


def test_the_got10k_adapter_takes_pil_images_and_counts_pixels_as_the_data_set_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_adapters: None
) -> None:
    package = types.ModuleType("got10k.trackers")
    package.Tracker = StandInTracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "got10k", types.ModuleType("got10k"))
    monkeypatch.setitem(sys.modules, "got10k.trackers", package)
    sys.modules.pop("sftrack.benchmark.got10k", None)
    from sftrack.benchmark.got10k import SFTrackTracker

    paths, truth = write_frames(tmp_path)
    tracker = SFTrackTracker("template", "cpu")
    assert (tracker.name, tracker.is_deterministic) == ("template", True)
    guest = Guest("template", "cpu")
    pictures = moving_square(FRAMES)[0]
    guest.init(pictures[0], truth[0])
    expected = np.array([truth[0], *(guest.update(picture).box_xywh for picture in pictures[1:])])
    one = np.array([1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(tracker.track(paths, truth[0] + one), expected + one)
    np.testing.assert_allclose(SFTrackTracker("template", "cpu", name="mine", first_pixel=0).track(paths, truth[0]), expected)


def test_the_real_got10k_toolkit_runs_us_and_reads_our_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_adapters: None
) -> None:
    pytest.importorskip("got10k", reason="needs the package got10k: pip install 'sftrack[toolkits]'")
    from got10k.datasets import OTB
    from got10k.experiments import ExperimentOTB

    from sftrack.benchmark.got10k import SFTrackTracker

    root = write_otb(tmp_path / "otb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OTB, "_OTB__version_dict", {2015: ["Deer", "Girl", "Jogging"]})
    monkeypatch.setattr(OTB, "_download", lambda *_: None)
    experiment = ExperimentOTB(str(root), version=2015)
    experiment.run(SFTrackTracker("template", "cpu"))
    lines = Path("results/OTB2015/template/Jogging.1.txt").read_text().splitlines()
    assert len(lines) == FRAMES
    theirs = experiment.report(["template"])["template"]["overall"]["success_score"]
    from sftrack.benchmark.boards import read_board
    from sftrack.benchmark.foreign import find_contenders
    from sftrack.benchmark.plan import read_course
    from sftrack.benchmark.suites import SUITES

    course = read_course(SUITES["otb"], root)
    overall = read_board(course, find_contenders(course, Path("results"))).rows[0].standing.overall
    assert overall is not None
    assert overall.success_auc == pytest.approx(theirs, abs=1e-9)


class StandInServer:
    """The part of `trax.Server` that we call, with a client that starts on a target, follows it, and quits."""

    answers: list[tuple[Any, dict[str, str]]]
    quits: int

    def __init__(self, paths: list[Path], box: np.ndarray) -> None:
        self.answers, self.quits = [], 0
        region = types.SimpleNamespace(bounds=lambda: tuple(box))
        images = [{"color": types.SimpleNamespace(path=lambda path=path: str(path))} for path in paths]
        kinds = ["initialize"] + ["frame"] * (len(paths) - 1)
        objects: list[Any] = [[(region, {})]] + [None] * (len(paths) - 1)
        self._requests = [
            types.SimpleNamespace(type=kind, image=image, objects=those) for kind, image, those in zip(kinds, images, objects, strict=True)
        ] + [types.SimpleNamespace(type="quit", image=None, objects=None)]

    def __call__(self, region_formats: list[str], image_formats: list[str], *, tracker_name: str) -> "StandInServer":
        assert (region_formats, image_formats, tracker_name) == (["rectangle"], ["path"], "sftrack")
        return self

    def __enter__(self) -> "StandInServer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.quits += 1

    def wait(self) -> Any:  # noqa: ANN401
        return self._requests.pop(0)

    def status(self, objects: list[tuple[Any, dict[str, str]]]) -> None:
        self.answers += objects


@pytest.fixture
def trax(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandInServer], None]:
    def install(server: StandInServer) -> None:
        module = types.ModuleType("trax")
        names = types.SimpleNamespace
        for name, value in {
            "Server": server,
            "Region": names(RECTANGLE="rectangle"),
            "Image": names(PATH="path"),
            "TraxStatus": names(INITIALIZE="initialize", FRAME="frame", QUIT="quit"),
            "Rectangle": names(create=lambda *numbers: numbers),
        }.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, "trax", module)

    return install


def test_the_vot_entry_point_answers_every_frame_and_keeps_stdout_clean(
    tmp_path: Path, trax: Callable[[StandInServer], None], capfd: pytest.CaptureFixture[str]
) -> None:
    from sftrack.benchmark.vot import main

    paths, truth = write_frames(tmp_path)
    server = StandInServer(paths, truth[0])
    trax(server)
    cv2.setNumThreads(2)
    assert main(["--tracker", "template", "--device", "cpu"]) == 0
    assert cv2.getNumThreads() == 1, "threads of OpenCV and BLAS get in the way of the channels'"
    assert (len(server.answers), server.quits) == (FRAMES, 1)
    boxes = np.array([region for region, _ in server.answers])
    np.testing.assert_array_equal(boxes[0], truth[0])
    assert (iou(boxes, truth) > 0.6).all()
    assert all(0.0 <= float(properties["confidence"]) <= 1.0 for _, properties in server.answers)
    assert capfd.readouterr().out == ""


def test_the_vot_entry_point_says_in_a_line_what_is_wrong(
    tmp_path: Path, trax: Callable[[StandInServer], None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sftrack.benchmark.vot import main

    paths, truth = write_frames(tmp_path)
    paths[3].write_bytes(b"damaged")
    server = StandInServer(paths, truth[0])
    trax(server)
    assert main(["--tracker", "template", "--device", "cpu"]) == 2
    assert (len(server.answers), server.quits) == (3, 1)
    assert capfd.readouterr().err == f"error: expected an image at {paths[3]}, the file is no picture\n"
    monkeypatch.setitem(sys.modules, "trax", None)
    assert main([]) == 2
    assert capfd.readouterr().err == "error: the package 'trax' is not installed; pip install vot-trax\n"


def test_the_real_vot_toolkit_runs_us_on_its_synthetic_sequence(tmp_path: Path) -> None:
    pytest.importorskip("trax", reason="needs the package vot-trax: pip install 'sftrack[toolkits]'")
    pytest.importorskip("vot", reason="needs the package vot-toolkit: pip install vot-toolkit")
    (tmp_path / "trackers.ini").write_text(
        "[sftrack]\nlabel = SFTrack\nprotocol = trax\n"
        f"command = {sys.executable} -m sftrack.benchmark.vot --tracker template --device cpu\n"
        f"env_PYTHONPATH = {ROOT}:{':'.join(sys.path[1:])}\n"
    )
    program = f"import sys; sys.path[:] = {sys.path!r}; from vot.utilities.cli import main; sys.argv = ['vot', 'test', 'sftrack']; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "Test concluded successfuly" in done.stdout + done.stderr, done.stdout[-2000:] + done.stderr[-2000:]
