"""The spectral step: filters that equal the explicit matrix of Eq. 2, and their online use on a moving window."""

import importlib.util
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.spectral import OnlineSFSeg, power_step
from sftrack.window import Window

WINDOW = Window((0, 0), (32, 32), (32, 32))


def explicit_matrix(s: np.ndarray, f: np.ndarray, *, p: float, alpha: float, kernel_size: tuple[int, int, int]) -> np.ndarray:
    """`M_ij = s_i^p s_j^p (1 - alpha (f_i - f_j)^2) G_ij` over all pairs of pixels of a volume, entry by entry, float64."""
    factors = []
    for size in kernel_size:
        weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / ((size - 1) / 4)) ** 2)
        factors.append(weights / weights.sum())
    places = list(product(*map(range, s.shape)))
    matrix = np.zeros((len(places), len(places)))
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            offsets = [q - r + size // 2 for q, r, size in zip(b, a, kernel_size, strict=True)]
            if all(0 <= offset < size for offset, size in zip(offsets, kernel_size, strict=True)):
                near = np.prod([factor[offset] for factor, offset in zip(factors, offsets, strict=True)])
                matrix[i, j] = s[a] ** p * s[b] ** p * (1.0 - alpha * (f[a] - f[b]) ** 2) * near
    return matrix


@pytest.mark.parametrize("kernel_size", [(3, 3, 3), (3, 5, 5), (5, 3, 7)])
@pytest.mark.parametrize(("p", "alpha"), [(0.1, 0.5), (0.5, 1.0), (1.0, 0.0)])
def test_the_filters_equal_the_explicit_matrix(kernel_size: tuple[int, int, int], p: float, alpha: float) -> None:
    rng = np.random.default_rng(3)
    x, s, f = rng.random((3, 3, 4, 5), dtype=np.float32)
    matrix = explicit_matrix(s.astype(np.float64), f.astype(np.float64), p=p, alpha=alpha, kernel_size=kernel_size)
    stepped = power_step(x, s, f, p=p, alpha=alpha, kernel_size=kernel_size)
    np.testing.assert_allclose(stepped.ravel(), matrix @ x.ravel(), atol=2e-6)


@pytest.fixture(scope="module")
def deterministic(shared: Path) -> ModuleType:
    """The recipe by which the reference values' inputs were made."""
    spec = importlib.util.spec_from_file_location("deterministic", shared / "parity" / "deterministic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("kernel_size", "p"), [((3, 5, 5), 0.5), ((5, 5, 5), 0.2)])
def test_repeated_steps_equal_the_reference_power_iteration(
    shared: Path, deterministic: ModuleType, kernel_size: tuple[int, int, int], p: float
) -> None:
    prefix = f"graph_k{'x'.join(map(str, kernel_size))}_p{p}_a1_eq2_"
    with np.load(shared / "parity" / "sfseg.npz") as stored:
        expected = {count: stored[f"{prefix}power_iteration_{count}"] for count in (1, 5, 50, 100)}
        eigenvector = stored[f"{prefix}principal_eigenvector"]
    s, f = (deterministic.tensor(1, f"graph.{name}", (6, 8, 8), "uniform") for name in "sf")
    x = s / np.linalg.norm(s)
    for count in range(1, 101):
        x = power_step(x, s, f, p=p, alpha=1.0, kernel_size=kernel_size)
        x = x / np.linalg.norm(x)
        if count in expected:
            np.testing.assert_allclose(x.ravel(), expected[count], atol=5e-6)
    assert float(x.ravel() @ eigenvector) > 1.0 - 1e-5


def test_pixels_beyond_the_volume_count_as_zero() -> None:
    ones = np.ones((1, 9, 9), np.float32)
    stepped = power_step(ones, ones, ones, p=1.0, alpha=1.0, kernel_size=(3, 3, 3))[0]
    in_time = 1.0 / (1.0 + 2.0 * np.exp(-2.0))
    side = in_time * (1.0 + np.exp(-2.0))
    assert stepped[4, 4] == pytest.approx(in_time, rel=1e-5)
    assert stepped[0, 4] == pytest.approx(in_time * side, rel=1e-5)
    assert stepped[0, 0] == pytest.approx(in_time * side * side, rel=1e-5)


def test_nothing_comes_from_frames_beyond_the_kernels_reach() -> None:
    x = np.zeros((7, 8, 8), np.float32)
    x[6] = 1.0
    ones = np.ones_like(x)
    stepped = power_step(x, ones, ones, p=1.0, alpha=0.5, kernel_size=(5, 3, 3))
    assert not stepped[:4].any()
    assert stepped[4:].min() > 0.0


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.floats(0.05, 2.0))
@settings(deadline=None, max_examples=40)
def test_the_result_is_not_negative_up_to_alpha_1(seed: int, alpha: float, p: float) -> None:
    x, s, f = np.random.default_rng(seed).random((3, 4, 9, 7), dtype=np.float32)
    assert power_step(x, s, f, p=p, alpha=alpha, kernel_size=(3, 5, 5)).min() > -1e-6


@pytest.mark.parametrize("size", [1, 2, 4, 0])
def test_a_kernel_that_has_no_middle_or_no_width_is_refused(size: int) -> None:
    ones = np.ones((3, 5, 5), np.float32)
    with pytest.raises(ValueError, match=f"odd kernel size of at least 3, got {size}"):
        power_step(ones, ones, ones, p=1.0, alpha=0.0, kernel_size=(3, size, 3))


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
