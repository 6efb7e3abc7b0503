"""Trackers of a PyTracking checkout as channels: a folder with the same entry points takes the place of one."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from sftrack import SFTracker
from sftrack.config import ChannelConfig
from sftrack.errors import ConfigError, MissingWeightsError, TrackerProcessError
from sftrack.presets import create_channels
from sftrack.trackers import create
from sftrack.trackers.pytracking import PyTracking
from tests.conftest import moving_square
from tests.pytracking_checkout import make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


@pytest.fixture
def tracker(checkout: Path, request: pytest.FixtureRequest) -> Iterator[PyTracking]:
    """With the parameters that the test asks for."""
    tracker = PyTracking(tracker=f"bright/{getattr(request, 'param', 'default')}", root=checkout, time_limit_s=2.0)
    yield tracker
    tracker.close()


FRAMES, BOXES = moving_square(6)


def test_a_tracker_of_a_checkout_is_a_channel(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTRACKING_ROOT", str(checkout))
    tracker = create("pytracking:bright/default")
    tracker.init(FRAMES[0], BOXES[0])
    for frame, box in zip(FRAMES[1:], BOXES[1:], strict=True):
        estimate = tracker.update(frame)
        np.testing.assert_allclose(estimate.box_xywh, box)
        assert estimate.score == pytest.approx(0.75)


def test_a_box_without_size_is_a_lost_target(tracker: PyTracking) -> None:
    tracker.init(FRAMES[0], BOXES[0])
    estimate = tracker.update(np.zeros_like(FRAMES[0]))
    assert estimate.score == 0.0
    np.testing.assert_array_equal(estimate.box_xywh, BOXES[0])


def test_one_process_serves_all_starts_and_ends_with_the_tracker(checkout: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    tracker = PyTracking(tracker="bright/default", root=checkout)
    for _ in range(2):
        tracker.init(FRAMES[0], BOXES[0])
        tracker.update(FRAMES[1])
    (process,) = [child for child in psutil.Process().children() if child.pid not in before]
    del tracker
    assert not process.is_running()


@pytest.mark.parametrize("tracker", ["hangs"], indirect=True)
def test_a_tracker_that_takes_too_long_is_ended_and_can_be_started_again(tracker: PyTracking) -> None:
    tracker._limit_s = 0.3
    tracker.init(FRAMES[0], BOXES[0])
    begin = time.monotonic()
    with pytest.raises(TrackerProcessError, match=r"bright/hangs of PyTracking to answer within 0.3 s, it was ended"):
        tracker.update(FRAMES[1])
    assert time.monotonic() - begin < 10
    with pytest.raises(TrackerProcessError, match="started again with init"):
        tracker.update(FRAMES[1])
    tracker.init(FRAMES[0], BOXES[0])


@pytest.mark.parametrize(
    ("tracker", "how"), [("exits", "exit code 3, after 'goodbye'$"), ("crashes", "SIGSEGV, after 'PyTracking prints")], indirect=["tracker"]
)
def test_of_a_tracker_that_ends_by_itself_one_learns_how_and_its_last_words(tracker: PyTracking, how: str) -> None:
    tracker.init(FRAMES[0], BOXES[0])
    with pytest.raises(TrackerProcessError, match=f"ended by itself: {how}"):
        tracker.update(FRAMES[1])


@pytest.mark.parametrize("tracker", ["hangs"], indirect=True)
def test_closing_an_ensemble_does_not_wait_for_a_process_that_hangs(tracker: PyTracking) -> None:
    tracker._limit_s = 60.0
    ensemble = SFTracker({"hangs": tracker})
    ensemble.init(FRAMES[0], BOXES[0])
    ensemble._pool.begin(FRAMES[1])
    time.sleep(0.2)
    began = time.monotonic()
    ensemble.close()
    assert time.monotonic() - began < 10.0
    assert tracker._process is None


@pytest.mark.skipif(sys.platform == "win32", reason="groups of processes are POSIX's")
@pytest.mark.parametrize("tracker", ["spawns"], indirect=True)
def test_what_the_process_has_started_ends_with_it(tracker: PyTracking) -> None:
    tracker._limit_s = 5.0
    tracker.init(FRAMES[0], BOXES[0])
    tracker.update(FRAMES[1])
    assert tracker._process is not None
    children = psutil.Process(tracker._process._process.pid).children()
    assert len(children) == 1
    tracker._limit_s = 0.1
    with pytest.raises(TrackerProcessError, match="it was ended"):
        tracker.update(FRAMES[2])
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in psutil.wait_procs(children, timeout=5.0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="groups of processes are POSIX's")
def test_a_ctrl_c_of_the_terminal_does_not_reach_the_process(tracker: PyTracking) -> None:
    tracker.init(FRAMES[0], BOXES[0])
    assert tracker._process is not None
    assert os.getpgid(tracker._process._process.pid) != os.getpgrp()
    assert os.getsid(tracker._process._process.pid) != os.getsid(0)


@pytest.mark.parametrize("tracker", ["raises"], indirect=True)
def test_a_tracker_that_fails_on_a_frame_may_go_on_with_the_next(tracker: PyTracking) -> None:
    tracker.init(FRAMES[0], BOXES[0])
    for frame in FRAMES[1:3]:
        with pytest.raises(TrackerProcessError, match=r"failed in track: RuntimeError: CUDA out of memory$"):
            tracker.update(frame)


@pytest.mark.parametrize("tracker", ["on_cpu"], indirect=True)
def test_on_the_cpu_tracker_and_networks_are_told_so(tracker: PyTracking) -> None:
    tracker.init(FRAMES[0], BOXES[0])
    assert tracker.update(FRAMES[1]).score > 0


def test_a_channel_may_use_the_gpu_of_its_own_environment(checkout: Path) -> None:
    """Whatever PyTorch there is here, and wherever the other channels run."""
    config = ChannelConfig("far", "pytracking:bright/on_cuda", {"root": str(checkout), "device": "cuda"})
    tracker = create_channels([config], "cpu")["far"]
    tracker.init(FRAMES[0], BOXES[0])
    assert tracker.update(FRAMES[1]).score > 0


@pytest.mark.parametrize("tracker", ["loads"], indirect=True)
def test_checkpoints_with_objects_in_them_are_loaded_as_the_checkout_does_it(tracker: PyTracking) -> None:
    tracker._limit_s = 60.0
    tracker.init(FRAMES[0], BOXES[0])
    assert tracker.update(FRAMES[1]).score > 0


@pytest.mark.parametrize(("tracker", "what"), [("untrained", "bright.pth"), ("nowhere", "Failed to load network")], indirect=["tracker"])
def test_missing_weights_say_where_they_belong(tracker: PyTracking, what: str) -> None:
    with pytest.raises(MissingWeightsError, match=rf"weights of {tracker._name} in the network_path of .*local.py .*{what}"):
        tracker.init(FRAMES[0], BOXES[0])


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("uninstalled", r"cannot \(ModuleNotFoundError: No module named 'torch_of_another_age'\); give .*PYTHON"),
        ("uncompiled", r"expected CUDA for bright/uncompiled .*\(ImportError: Can not compile .*\); give .*device = \"cuda\".*ninja"),
        ("unlinked", r"failed in import: ImportError: libGL.so.1: cannot open shared object file$"),
    ],
    indirect=["tracker"],
)
def test_what_the_environment_lacks_is_named(tracker: PyTracking, message: str) -> None:
    with pytest.raises(TrackerProcessError, match=message):
        tracker.init(FRAMES[0], BOXES[0])


@pytest.mark.skipif(sys.platform == "win32", reason="scripts with an interpreter in their first line are POSIX's")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho Welcome\n", "prints nothing by itself, '.*python' printed 'Welcome'; give another one"),
        ("#!/bin/sh\necho 3\n", "printed '3'"),
        ("#!/bin/sh\nexit 2\n", "ended by itself: exit code 2$"),
        ("nothing that runs", "cannot be run: .*Exec format error"),
    ],
)
def test_what_is_no_python_is_said_in_a_line(checkout: Path, tmp_path: Path, script: str, message: str) -> None:
    other = tmp_path / "python"
    other.write_text(script)
    other.chmod(0o755)
    tracker = PyTracking(tracker="bright/default", root=checkout, python=other)
    with pytest.raises(TrackerProcessError, match=message) as caught:
        tracker.init(FRAMES[0], BOXES[0])
    assert "\n" not in str(caught.value)


def test_another_interpreter_can_be_given(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, other = tmp_path / "was here", tmp_path / "python"
    other.write_text(f'#!/bin/sh\ntouch "{marker}"\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("PYTRACKING_PYTHON", str(other))
    tracker = create("pytracking:bright/default", root=checkout)
    tracker.init(FRAMES[0], BOXES[0])
    assert marker.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracker": "bright"}, r"and its parameters, as dimp/dimp50, got 'bright'"),
        ({"tracker": "brigth/default"}, r"out of bright, got 'brigth'; did you mean 'bright'\?"),
        ({"tracker": "bright/defualt"}, r"did you mean 'default'\?"),
        ({"tracker": "../etc/passwd"}, r"as dimp/dimp50, got '../etc/passwd'"),
        ({"root": "/nowhere/at/all"}, r"'/nowhere/at/all' has no pytracking/tracker in it"),
        ({"python": "no-such-python"}, r"'no-such-python' is none; give its path"),
        ({"time_limit_s": 0.0}, r"above 0, got 0.0"),
        ({"device": "gpu"}, r"expected the device cpu, cuda, mps for PyTracking, got 'gpu'"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(checkout: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("pytracking", **{"tracker": "bright/default", "root": checkout, **settings})


def test_without_a_checkout_the_ways_to_name_one_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTRACKING_ROOT", raising=False)
    with pytest.raises(ConfigError, match="--pytracking-root DIR, PYTRACKING_ROOT or root="):
        create("pytracking:dimp/dimp50")


def test_the_inner_folder_in_place_of_the_checkout_is_recognised(checkout: Path) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{checkout}'"):
        create("pytracking:bright/default", root=checkout / "pytracking")


def test_a_checkout_that_was_never_set_up_is_recognised(checkout: Path) -> None:
    os.remove(checkout / "pytracking/evaluation/local.py")
    with pytest.raises(ConfigError, match="has no local"):
        create("pytracking:bright/default", root=checkout)


def test_a_colon_is_for_trackers_of_other_programs_only() -> None:
    with pytest.raises(ConfigError, match="expected a setting of 'csrt'"):
        create("csrt:fast")
