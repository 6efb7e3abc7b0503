"""The spectral step on a stream: what the window of the last frames makes of the newest segmentation."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sftrack.spectral import OnlineSFSeg, SFSegPlusPlus, power_step, sfseg
from sftrack.spectral.exact import angle_deg
from sftrack.spectral.power import ArrayGraph
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
    spectral = OnlineSFSeg(3, iterations=iterations, keep="peak")
    for level in (0.2, 0.9, 0.5):
        refined = spectral.push(np.float32(level) * disc((16, 16)), WINDOW)
        assert refined.dtype == np.float32
        assert refined.min() >= 0.0
        assert refined.max() == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_refined_segmentation_keeps_its_size(iterations: int) -> None:
    spectral = OnlineSFSeg(3, iterations=iterations)
    for level in (0.2, 0.6, 0.5):
        given = np.float32(level) * disc((16, 16))
        assert spectral.push(given).sum() == pytest.approx(given.sum(), rel=1e-3)


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
    """Without a warm start, what left the window has no influence any more."""
    long, short = OnlineSFSeg(4, warm_start=False), OnlineSFSeg(4, warm_start=False)
    for t in range(30):
        long.push(disc((3.0 + t / 2, 25.0)), WINDOW)
    for t in range(4):
        after_long, after_short = (spectral.push(disc((16.0 + t, 12.0)), WINDOW) for spectral in (long, short))
    np.testing.assert_array_equal(after_long, after_short)


def test_a_warm_start_reaches_back_beyond_the_window_and_fades() -> None:
    differences = []
    long, short = OnlineSFSeg(3), OnlineSFSeg(3)
    for _ in range(6):
        long.push(disc((12.0, 16.0)), WINDOW)
    for _ in range(12):
        after_long, after_short = (spectral.push(disc((18.0, 16.0)), WINDOW) for spectral in (long, short))
        differences.append(float(np.abs(after_long - after_short).max()))
    assert differences[3] > 1e-6
    assert differences[-1] < 0.1 * differences[0]


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_the_window_holds_what_algorithm_1_gives_for_its_frames(alpha: float) -> None:
    """All frames of a short stream in one window, from their unary maps: the whole algorithm, of which the newest frame is returned.

    Beyond `alpha = 1`, some affinities are negative.
    """
    rng = np.random.default_rng(0)
    maps = rng.random((4, 12, 10), dtype=np.float32)
    spectral = OnlineSFSeg(4, iterations=3, alpha=alpha, warm_start=False)
    for one in maps:
        refined = spectral.push(one)
    whole = sfseg(torch.from_numpy(maps), iterations=3, binarize_after=3, p=0.1, alpha=alpha)
    np.testing.assert_allclose(refined, (whole[-1] * maps[-1].sum() / whole[-1].sum()).clamp_max(1.0), atol=1e-4)


def test_a_warm_start_saves_iterations() -> None:
    """On a resting scene, five iterations per frame from the last solutions come as near to the eigenvector as ten from scratch."""
    rng = np.random.default_rng(1)
    scene = 0.2 * np.clip(disc((16, 16)) + 0.3 * rng.random((32, 32)), 0.0, 1.0).astype(np.float32)  # no value reaches 1
    converged = OnlineSFSeg(5, iterations=100, warm_start=False)
    warm, cold = OnlineSFSeg(5, iterations=5), OnlineSFSeg(5, iterations=10, warm_start=False)
    for _ in range(12):
        ends = [spectral.push(scene) for spectral in (converged, warm, cold)]
    assert angle_deg(ends[0], ends[1]) < angle_deg(ends[0], ends[2])


@pytest.mark.parametrize("shared", [True, False])
def test_channels_are_joined_by_a_learned_model(shared: bool) -> None:
    model = SFSegPlusPlus(3, shared)
    with torch.no_grad():
        model.w_s.copy_(torch.tensor([4.0, 0.0, 1.0]))
        model.w_f.copy_(torch.tensor([4.0, 0.0, 1.0]) if shared else torch.tensor([0.0, 5.0, 0.0]))
    channels = np.random.default_rng(2).random((5, 3, 9, 8), dtype=np.float32)
    spectral = OnlineSFSeg.from_model(model, window=5)
    for frame in channels:
        refined = spectral.push(frame)
    s, f = (maps[0].detach() for maps in model.maps(torch.from_numpy(channels).transpose(0, 1)[None]))
    # Each frame started from the solutions of those before it.
    x = s.clone()
    for newest in range(5):
        seen = slice(0, newest + 1)
        step = power_step(x[seen], s[seen], f[seen], p=model.p, alpha=model.alpha)[-1]
        x[newest] = step * s[newest].sum() / step.sum()
    np.testing.assert_allclose(refined, x[-1].clamp_max(1.0), atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_work_per_frame_does_not_grow(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    filtered: list[int] = []
    multiply = ArrayGraph.multiply

    def counted(graph: ArrayGraph, x: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        result = multiply(graph, x, start, stop)
        filtered.append(len(result))
        return result

    monkeypatch.setattr(ArrayGraph, "multiply", counted)
    spectral, counts = OnlineSFSeg(4, iterations=iterations), []
    for _ in range(20):
        filtered.clear()
        spectral.push(disc((16, 16)), WINDOW)
        counts.append(sum(filtered))
    assert set(counts[4:]) == {4 * (iterations - 1) + 1}


@pytest.mark.parametrize(
    ("channels", "window", "message"),
    [
        (np.zeros((2, 8, 8)), None, r"channels of shape \(h, w\), got \(2, 8, 8\)"),
        (np.zeros((0, 8)), None, r"got \(0, 8\)"),
        (np.full((8, 8), 255.0), None, r"finite and in \[0, 1\], got values from 255"),
        (np.full((8, 8), np.nan), None, r"finite and in \[0, 1\], got values from nan"),
        (np.zeros((8, 8)), WINDOW, r"the window's size, \(32, 32\), got \(8, 8\)"),
        (np.zeros((8, 9)), None, r"frames of \(32, 32\) pixels like the one before, got \(9, 8\)"),
    ],
)
def test_bad_frames_are_named(channels: np.ndarray, window: Window | None, message: str) -> None:
    spectral = OnlineSFSeg(3)
    spectral.push(disc((16, 16)))
    with pytest.raises(ValueError, match=message):
        spectral.push(channels, window)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="window to be a whole number of at least 1, got 0"):
        OnlineSFSeg(0)
    with pytest.raises(ValueError, match=r"iterations to be a whole number of at least 0, got 1\.5"):
        OnlineSFSeg(iterations=1.5)
    with pytest.raises(ValueError, match="to keep the 'sum' or the 'peak', got 'mean'"):
        OnlineSFSeg(keep="mean")
    with pytest.raises(ValueError, match="alpha to be a number from 0"):
        OnlineSFSeg(alpha=-1.0)
    with pytest.raises(ValueError, match=r"channels of shape \(2, h, w\), got \(8, 8\)"):
        OnlineSFSeg.from_model(SFSegPlusPlus(2)).push(np.zeros((8, 8)))


@pytest.mark.parametrize(("warm_start", "iterations"), [(False, 1), (True, 1), (True, 3)])
def test_a_moving_window_gives_what_a_resting_one_gives(warm_start: bool, iterations: int) -> None:
    resting, moving = (OnlineSFSeg(5, warm_start=warm_start, iterations=iterations) for _ in range(2))
    for t in range(6):
        window = Window((2 * t, t), (48, 48), (48, 48))
        rest = Window((0, 0), (64, 64), (64, 64))
        at = (24.0 + 2 * t, 24.0 + t)
        in_rest = resting.push(disc(at, window=rest), rest)
        in_moving = moving.push(disc(at, window=window), window)
    x, y = window.origin_xy
    np.testing.assert_allclose(in_moving, in_rest[y : y + 48, x : x + 48], atol=1e-4)


@pytest.mark.parametrize("model", [None, SFSegPlusPlus(2)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_stream_may_use_one_buffer_for_all_frames(
    kind: Callable[[np.ndarray], np.ndarray | torch.Tensor], model: SFSegPlusPlus | None
) -> None:
    reused, fresh = OnlineSFSeg(4, iterations=2, model=model), OnlineSFSeg(4, iterations=2, model=model)
    buffer = np.empty((32, 32) if model is None else (2, 32, 32), np.float32)
    for t in range(6):
        buffer[:] = disc((8.0 + 2 * t, 16.0))
        np.testing.assert_array_equal(reused.push(kind(buffer)), fresh.push(buffer.copy()))


def test_clear_forgets_the_frames() -> None:
    spectral = OnlineSFSeg(5)
    for _ in range(5):
        spectral.push(disc((8, 8)), WINDOW)
    spectral.clear()
    np.testing.assert_array_equal(spectral.push(disc((20, 20)), WINDOW), OnlineSFSeg(5).push(disc((20, 20)), WINDOW))
