"""What every registered tracker promises, whoever wrote it."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from sftrack import engine
from sftrack.boxes import iou
from sftrack.contracts import Estimate, Tracker
from sftrack.errors import BoxError, ConfigError, FrameError, NotInitialisedError
from sftrack.trackers import create, registry, siamban, siamrpn, tracker_names
from sftrack.weights.checkpoints import read_checkpoint
from tests.pytracking_checkout import make_checkout
from tests.stand_ins import small_atom, small_d3s, small_dimp, small_siamese

SIZE_WH = (200, 150)
STEPS = 12
Clip = tuple[list[NDArray[np.uint8]], NDArray[np.float64]]


def texture(size_wh: tuple[int, int], seed: int, low: int, high: int) -> NDArray[np.uint8]:
    """Coloured blobs of about 6 pixels: something to hold on to for gradients, flow and colours."""
    rng = np.random.default_rng(seed)
    small = rng.integers(low, high, (max(size_wh[1] // 6, 2), max(size_wh[0] // 6, 2), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, size_wh, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def clip(start_xy: tuple[int, int] = (60, 50), side: int = 36, step_xy: tuple[int, int] = (3, 2), grey: bool = False) -> Clip:
    """A bright textured square that moves over a dark background, and its true boxes `(STEPS, 4)`."""
    background, target = texture(SIZE_WH, 1, 20, 90), texture((side, side), 2, 110, 255)
    target[..., 2] //= 3
    frames, boxes = [], []
    for index in range(STEPS):
        x, y = start_xy[0] + index * step_xy[0], start_xy[1] + index * step_xy[1]
        frame = background.copy()
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, SIZE_WH[0]), min(y + side, SIZE_WH[1])
        frame[y0:y1, x0:x1] = target[y0 - y : y1 - y, x0 - x : x1 - x]
        if grey:
            frame = np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        frames.append(frame)
        boxes.append((x0, y0, x1 - x0, y1 - y0))
    return frames, np.array(boxes, dtype=np.float64)


def run(tracker: Tracker, frames: list[NDArray[np.uint8]], box_xywh: NDArray[np.float64]) -> list[Estimate]:
    tracker.init(frames[0], box_xywh)
    return [tracker.update(frame) for frame in frames[1:]]


def check(estimate: Estimate) -> None:
    assert estimate.box_xywh.shape == (4,)
    assert estimate.box_xywh.dtype == np.float64
    assert np.isfinite(estimate.box_xywh).all()
    assert (estimate.box_xywh[2:] > 0).all()
    assert 0.0 <= estimate.score <= 1.0


REAL_WEIGHTS = {"nanotrack-v2": "nanotrack/nanotrackv2.pth", "nanotrack-v3": "nanotrack/nanotrackv3.pth"}
"""Files under shared/weights."""

STAND_INS: dict[str, Callable[[pytest.MonkeyPatch], dict[str, Any]]] = {
    "atom18": small_atom,
    "d3s": small_d3s,
    "siamban": functools.partial(small_siamese, siamban),
    "siamrpn++": functools.partial(small_siamese, siamrpn),
    **{name: functools.partial(small_dimp, name) for name in ("dimp18", "dimp50", "prdimp18", "prdimp50", "super_dimp")},
}
"""Trackers whose weights nobody may pass on: small networks take the place of theirs, and all the rest is as it is."""


@functools.cache
def state_of(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path).tensors


@pytest.fixture(params=tracker_names())
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Tracker]:
    """A builder of one of the registered trackers; a test that is not for all of them gives the names itself."""
    # Exporting takes 0.3 s, and every test here builds several; tests/test_nanotrack.py compares the engines.
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)
    name: str = request.param
    params: dict[str, Any] = {"boxes_xywh": clip()[1]} if name == "replay" else {}
    if name in REAL_WEIGHTS:
        params["weights"] = state_of(request.getfixturevalue("shared") / "weights" / REAL_WEIGHTS[name])
    if name == "pytracking":
        params |= {"tracker": "bright/default", "root": make_checkout(request.getfixturevalue("tmp_path"))}
    if name in STAND_INS:
        params |= STAND_INS[name](monkeypatch)
    return lambda: create(name, **params)


def test_is_a_tracker(make: Callable[[], Tracker]) -> None:
    assert isinstance(make(), Tracker)


def test_follows_a_moving_square(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    estimates = run(make(), frames, truth[0])
    for estimate in estimates:
        check(estimate)
    assert iou(estimates[-1].box_xywh, truth[-1]) > 0.6
    assert estimates[-1].score > 0.2


def test_follows_on_grey_images(make: Callable[[], Tracker]) -> None:
    frames, truth = clip(grey=True)
    assert iou(run(make(), frames, truth[0])[-1].box_xywh, truth[-1]) > 0.5


def test_images_stay_unchanged(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    for frame in frames:
        frame.setflags(write=False)
    copies = [frame.copy() for frame in frames]
    run(make(), frames, truth[0])
    assert all(np.array_equal(frame, copy) for frame, copy in zip(frames, copies, strict=True))


def test_two_runs_agree(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    first, second = (run(make(), frames, truth[0]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.score == other.score
        np.testing.assert_array_equal(one.box_xywh, other.box_xywh)


def test_objects_share_no_state(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    alone = run(make(), frames, truth[0])
    tracker, disturber = make(), make()
    tracker.init(frames[0], truth[0])
    disturber.init(frames[5], np.array([10.0, 10.0, 50.0, 30.0]))
    for frame, expected in zip(frames[1:], alone, strict=True):
        disturber.update(frames[0])
        np.testing.assert_array_equal(tracker.update(frame).box_xywh, expected.box_xywh)


def test_handed_out_boxes_are_copies(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    expected = run(make(), frames, truth[0])[-1].box_xywh
    tracker, start = make(), truth[0].copy()
    tracker.init(frames[0], start)
    start[:] = 0.0
    for frame in frames[1:]:
        estimate = tracker.update(frame)
        last = estimate.box_xywh.copy()
        estimate.box_xywh[:] = 0.0
    np.testing.assert_array_equal(last, expected)


@pytest.mark.parametrize("make", [name for name in tracker_names() if name != "replay"], indirect=True)
def test_init_again_starts_afresh(make: Callable[[], Tracker]) -> None:
    """Not for the replay of a file, which goes on with its rows by design."""
    frames, truth = clip()
    expected = run(make(), frames, truth[0])
    tracker = make()
    run(tracker, clip((20, 20), side=60)[0], np.array([20.0, 20.0, 60.0, 60.0]))
    np.testing.assert_array_equal(run(tracker, frames, truth[0])[-1].box_xywh, expected[-1].box_xywh)


@pytest.mark.parametrize(
    ("start_xy", "side", "step_xy"),
    [((60, 50), 8, (1, 1)), ((0, 0), 36, (1, 1)), ((164, 114), 36, (3, 2)), ((4, 60), 36, (-3, 0)), ((50, 20), 110, (1, 1))],
    ids=["small", "top-left corner", "leaves at the bottom right", "leaves at the left", "large"],
)
def test_boxes_stay_sound(make: Callable[[], Tracker], start_xy: tuple[int, int], side: int, step_xy: tuple[int, int]) -> None:
    frames, truth = clip(start_xy, side, step_xy)
    for estimate in run(make(), frames, truth[0]):
        check(estimate)
        visible = np.minimum(estimate.box_xywh[:2] + estimate.box_xywh[2:], SIZE_WH) - np.maximum(estimate.box_xywh[:2], 0.0)
        assert (visible > 0).all()


def test_box_of_fractions(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    estimates = run(make(), frames, truth[0] + np.array([0.3, -0.4, 0.25, 0.6]))
    assert iou(estimates[-1].box_xywh, truth[-1]) > 0.5


@pytest.mark.parametrize("value", [0, 255])
def test_flat_frames_do_not_crash(make: Callable[[], Tracker], value: int) -> None:
    frames, truth = clip()
    flat = np.full_like(frames[0], value)
    for estimate in [*run(make(), [frames[0], flat, flat, frames[1]], truth[0]), *run(make(), [flat, flat, frames[0]], truth[0])]:
        check(estimate)


def test_update_needs_init(make: Callable[[], Tracker]) -> None:
    with pytest.raises(NotInitialisedError, match="init"):
        make().update(clip()[0][0])


def test_refuses_bad_frames_and_boxes(make: Callable[[], Tracker]) -> None:
    frames, truth = clip()
    tracker = make()
    with pytest.raises(BoxError):
        tracker.init(frames[0], np.array([10.0, 10.0, np.nan, 20.0]))
    with pytest.raises(BoxError):
        tracker.init(frames[0], np.array([500.0, 10.0, 20.0, 20.0]))
    with pytest.raises(FrameError):
        tracker.init(frames[0][..., 0], truth[0])
    tracker.init(frames[0], truth[0])
    with pytest.raises(FrameError):
        tracker.update(frames[0][:-10])
    check(tracker.update(frames[1]))


def test_unknown_tracker_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'csrt'"):
        create("cssrt")


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'target_px'"):
        create("csrt", target_pixels=3)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("flow", "target_px", 0),
        ("flow", "grid", 2.5),
        ("flow", "reach", -1.0),
        ("template", "target_px", 0.0),
        ("template", "first_share", 1.5),
        ("colour", "target_px", math.nan),
        ("colour", "size_step", "small"),
        ("dcf", "window_px", -5.0),
        ("dcf", "window_px", math.inf),
        ("dcf", "scales", 0),
        ("dcf", "constraint", -1),
        ("dcf", "output_sigma", 0.0),
        ("csrt", "scales", 3.5),
        ("csrt", "reach", None),
        ("csrt", "scales", True),
        ("kcf", "threshold", "0.5"),
        ("kcf", "threshold", True),
        ("online", "caution", "much"),
    ],
)
def test_a_setting_out_of_its_range_is_one_clear_line(name: str, setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^expected {setting} as a .*number from .*, got ") as refused:
        create(name, **{setting: value})
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("siamban", "variant", 3),
        ("siamrpn++", "precision", ["float16"]),
        ("nanotrack-v2", "precision", 16),
        ("replay", "path", 3),
        ("pytracking:dimp/dimp50", "root", 3),
    ],
)
def test_a_setting_that_is_no_text_is_one_clear_line(name: str, setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^expected {setting} .*, got ") as refused:
        create(name, **{setting: value})
    assert repr(value) in str(refused.value)


def test_what_breaks_inside_a_tracker_is_not_blamed_on_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *, size: int) -> None:
            len(None)  # type: ignore[arg-type]

    monkeypatch.setitem(registry._registered, "broken", Broken)
    with pytest.raises(TypeError, match="NoneType"):
        create("broken", size=1)
    with pytest.raises(ConfigError, match=r"expected other settings for tracker 'broken': missing a required .*'size'"):
        create("broken")


def test_classical_trackers_take_no_weights() -> None:
    with pytest.raises(ConfigError, match="no weights"):
        create("kcf", weights="net.pth")
