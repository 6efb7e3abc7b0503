"""The spectral step on a stream: what the window of the last frames makes of the newest segmentation."""

from collections.abc import Callable

import numpy as np
import pytest

from sftrack.spectral import OnlineSFSeg
from sftrack.window import Window

WINDOW = Window((0, 0), (32, 32), (32, 32))


def disc(center_xy: tuple[float, float], radius_px: float = 8.0, window: Window = WINDOW) -> np.ndarray:
    """A soft disc at a place given in frame pixels, seen in a window of scale 1."""
    ys, xs = np.mgrid[: window.size_wh[1], : window.size_wh[0]] + 0.5
    distance = np.hypot(xs + window.origin_xy[0] - center_xy[0], ys + window.origin_xy[1] - center_xy[1])
    return np.clip(radius_px - distance + 0.5, 0.0, 1.0).astype(np.float32)


def test_a_flickering_segmentation_is_steadied() -> None:
    rng = np.random.default_rng(5)
    true = disc((16, 16))
    spectral = OnlineSFSeg(5)
    given_maps, refined_maps = [], []
    for _ in range(12):
        flicker = np.kron(rng.random((8, 8)) < 0.25, np.ones((4, 4)))
        given_maps.append(np.abs(true - 0.6 * flicker).astype(np.float32))
        refined_maps.append(spectral.push(given_maps[-1], WINDOW))

    def change(maps: list[np.ndarray]) -> float:
        return float(np.abs(np.diff(np.stack(maps[5:]), axis=0)).mean())

    def error(maps: list[np.ndarray]) -> float:
        return float(np.abs(np.stack(maps[5:]) - true).mean())

    assert change(refined_maps) < 0.8 * change(given_maps)
    assert error(refined_maps) < error(given_maps)


def test_what_only_one_frame_shows_is_weakened() -> None:
    spectral = OnlineSFSeg(5)
    for _ in range(4):
        spectral.push(disc((16, 16)), WINDOW)
    speck = disc((16, 16)) + disc((28, 28), 2.0)
    refined = spectral.push(speck, WINDOW)
    assert refined[16, 16] > 0.9
    assert refined[28, 28] < 0.7 * refined[16, 16]


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_refined_segmentation_keeps_its_peak_and_range(iterations: int) -> None:
    spectral = OnlineSFSeg(3, iterations=iterations)
    for level in (0.2, 0.9, 0.5):
        refined = spectral.push(np.float32(level) * disc((16, 16)), WINDOW)
        assert refined.dtype == np.float32
        assert refined.min() >= 0.0
        assert refined.max() == pytest.approx(level, abs=1e-3)


def test_no_iteration_leaves_the_segmentation_as_it_is() -> None:
    spectral = OnlineSFSeg(5, iterations=0)
    spectral.push(disc((10, 10)), WINDOW)
    np.testing.assert_allclose(spectral.push(disc((16, 16)), WINDOW), disc((16, 16)), atol=1e-4)


@pytest.mark.parametrize("make", [np.zeros, np.ones])
def test_an_empty_and_a_full_segmentation_stay_finite(make: Callable[..., np.ndarray]) -> None:
    spectral = OnlineSFSeg(5)
    for _ in range(3):
        refined = spectral.push(make((32, 32), np.float32), WINDOW)
        assert np.isfinite(refined).all()
    assert refined.max() == pytest.approx(float(make(1)[0]), abs=1e-3)


def test_only_the_frames_of_the_window_count() -> None:
    """Memory stays constant: what left the window has no influence any more."""
    long, short = OnlineSFSeg(4), OnlineSFSeg(4)
    for t in range(30):
        long.push(disc((3.0 + t / 2, 25.0)), WINDOW)
    for t in range(4):
        after_long, after_short = (spectral.push(disc((16.0 + t, 12.0)), WINDOW) for spectral in (long, short))
    np.testing.assert_array_equal(after_long, after_short)


def test_a_moving_window_gives_what_a_resting_one_gives() -> None:
    resting, moving = OnlineSFSeg(5), OnlineSFSeg(5)
    for t in range(6):
        window = Window((2 * t, t), (48, 48), (48, 48))
        rest = Window((0, 0), (64, 64), (64, 64))
        at = (24.0 + 2 * t, 24.0 + t)
        in_rest = resting.push(disc(at, window=rest), rest)
        in_moving = moving.push(disc(at, window=window), window)
    x, y = window.origin_xy
    np.testing.assert_allclose(in_moving, in_rest[y : y + 48, x : x + 48], atol=1e-4)


def test_clear_forgets_the_frames() -> None:
    spectral = OnlineSFSeg(5)
    for _ in range(5):
        spectral.push(disc((8, 8)), WINDOW)
    spectral.clear()
    np.testing.assert_array_equal(spectral.push(disc((20, 20)), WINDOW), OnlineSFSeg(5).push(disc((20, 20)), WINDOW))
