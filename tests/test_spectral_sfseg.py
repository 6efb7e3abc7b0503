"""The whole of Algorithm 1: the published code's numbers, and what the paper's form promises."""

import logging
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.spectral import exact, power_step, sfseg
from sftrack.spectral.checks import GREATEST, LEAST
from sftrack.spectral.iteration import stretch_frames
from tests.spectral_reference import made, reference, volumes

S = made("sfseg.unary", (1, 12, 24, 32))[0]
F = made("sfseg.pairwise", (1, 12, 24, 32))[0]
BY_NAME = [
    ("3x5x5", 0.5, 1),
    ("3x5x5", 0.5, 2),
    ("3x5x5", 0.5, 5),
    ("3x5x5", 0.2, 2),
    ("5x5x5", 0.5, 1),
    ("5x5x5", 0.5, 2),
    ("5x5x5", 0.5, 5),
    ("5x5x5", 0.2, 2),
    ("3x7x7", 0.5, 1),
    ("3x7x7", 0.5, 2),
    ("3x7x7", 0.5, 5),
    ("3x7x7", 0.2, 2),
]


def sizes(name: str) -> tuple[int, int, int]:
    kt, ky, kx = map(int, name.split("x"))
    return kt, ky, kx


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize(("kernel", "p", "iterations"), BY_NAME)
def test_official_mode_gives_the_published_codes_numbers(
    shared: Path, kernel: str, p: float, iterations: int, differentiable: bool
) -> None:
    s = S.clone().requires_grad_(differentiable)
    result = sfseg(s, F, p=p, alpha=1.0, iterations=iterations, kernel_size=sizes(kernel), mode="official")
    assert result.requires_grad == differentiable
    np.testing.assert_allclose(result.detach(), reference(shared)[f"out_k{kernel}_p{p}_a1_it{iterations}"], atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_official_mode_with_the_unary_map_as_feature(shared: Path, iterations: int) -> None:
    result = sfseg(S, p=0.1, alpha=0.5, iterations=iterations, mode="official")
    np.testing.assert_allclose(result, reference(shared)[f"out_k5x5x5_p0.1_a0.5_SequalsF_it{iterations}"], atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2])
def test_official_mode_leaves_a_short_video_unfiltered_and_says_so(shared: Path, iterations: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = sfseg(S[:8], F[:8], p=0.5, alpha=1.0, iterations=iterations, mode="official")
    np.testing.assert_allclose(result, reference(shared)[f"out_short_T8_k5x5x5_it{iterations}"], atol=1e-5)
    assert "filters no frame of a volume of 8: it leaves out 4 at each end" in caplog.text


def test_official_mode_treats_a_batch_volume_by_volume(shared: Path) -> None:
    s, f = (made(f"sfseg.{name}_b2", (2, 10, 16, 20)) for name in ("unary", "pairwise"))
    result = sfseg(s, f, p=0.5, alpha=1.0, iterations=2, kernel_size=(3, 5, 5), mode="official")
    np.testing.assert_allclose(result, reference(shared)["out_batch2_k3x5x5_it2"], atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2])
def test_official_mode_with_empty_frames(shared: Path, iterations: int) -> None:
    s = S.clone()
    s[[0, 5]] = 0.0
    result = sfseg(s, F, p=0.5, alpha=1.0, iterations=iterations, mode="official")
    np.testing.assert_allclose(result, reference(shared)[f"out_zero_frames_0_and_5_k5x5x5_it{iterations}"], atol=1e-5)


def test_official_modes_stages(shared: Path) -> None:
    stored = reference(shared)
    filtered = S.clone()
    filtered[4:8] = power_step(S, S, F, p=0.5, alpha=1.0)[4:8]
    norms = filtered.norm(dim=(1, 2))
    np.testing.assert_allclose(norms, stored["stage1_k5x5x5_frame_l2_norms"], rtol=1e-5)
    scaled = filtered / (norms[:, None, None] + 1e-4)
    np.testing.assert_allclose(scaled.amin((1, 2)), stored["stage1_k5x5x5_frame_min_after_l2"], atol=1e-6)
    np.testing.assert_allclose(scaled.amax((1, 2)) - scaled.amin((1, 2)), stored["stage1_k5x5x5_frame_range_after_l2"], atol=1e-6)
    np.testing.assert_allclose(stretch_frames(filtered), stored["stage1_k5x5x5_minmax"], atol=1e-5)


@pytest.mark.parametrize(("kernel", "iterations"), [("3x5x5", 1), ("3x5x5", 2), ("3x5x5", 5), ("5x5x5", 1), ("5x5x5", 2), ("5x5x5", 5)])
def test_sftrackpps_variant_without_a_sigmoid(shared: Path, kernel: str, iterations: int) -> None:
    """The same steps and normalisation, put together by hand: the tracker's published code leaves the sigmoid out."""
    s, f = made("pi.unary", (1, 12, 24, 32))[0], made("pi.pairwise", (1, 12, 24, 32))[0]
    guard, x = 2 * (sizes(kernel)[0] // 2), s
    for _ in range(iterations):
        filtered = power_step(x, s, f, p=0.1, alpha=0.5, kernel_size=sizes(kernel))
        x = stretch_frames(torch.cat([x[:guard], filtered[guard:-guard], x[-guard:]]))
    expected = reference(shared, "sftrackpp")[f"pi_k{kernel}_p0.1_a0.5_it{iterations}"]
    np.testing.assert_allclose(x, expected.reshape(x.shape), atol=1e-5)


def test_official_modes_gradients(shared: Path) -> None:
    stored = reference(shared)
    s, f = (made(f"sfseg.{name}_b2", (2, 10, 16, 20))[0].requires_grad_() for name in ("unary", "pairwise"))
    weights = made("sfseg.grad_weights", (1, 10, 16, 20), "normal")[0]
    loss = (sfseg(s, f, p=0.5, alpha=1.0, iterations=2, kernel_size=(3, 5, 5), mode="official") * weights).sum()
    loss.backward()
    assert loss.item() == pytest.approx(float(stored["grad_loss"]), abs=1e-3)
    for name, volume in (("unary", s), ("pairwise", f)):
        assert volume.grad is not None
        np.testing.assert_allclose(volume.grad, stored[f"grad_{name}_k3x5x5_two_iterations"], atol=1e-5, rtol=1e-5)


def test_the_papers_form_finds_the_eigenvector() -> None:
    s, f = (made(f"graph.{name}", (6, 8, 8)).double() for name in "sf")
    _, vector = exact.leading_eigenvector(exact.adjacency(s, f, p=0.2, alpha=1.0))
    assert exact.angle_deg(sfseg(s, f, iterations=60, binarize_after=60), vector) < 0.01


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 6), st.floats(0.0, 5.0))
@settings(deadline=None, max_examples=30)
def test_the_papers_form_stays_in_range_even_with_negative_affinities(
    seed: int, iterations: int, binarize_after: int, alpha: float
) -> None:
    s, f = torch.rand(2, 4, 6, 7, generator=torch.Generator().manual_seed(seed))
    result = sfseg(s, f, iterations=iterations, binarize_after=binarize_after, alpha=alpha)
    assert float(result.min()) >= 0.0
    assert float(result.max()) <= 1.0


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_without_binarisation_the_iterate_is_scaled_as_a_whole_to_the_sum_of_the_unary_map_or_to_a_peak_of_1(strength: float) -> None:
    s, f = volumes(0, 2, (5, 9, 9))
    s = strength * s * torch.linspace(0.1, 1.0, 5)[:, None, None].double()
    x = s
    for _ in range(30):
        x = power_step(x, s, f, p=0.2, alpha=1.0)
        x = x / x.norm()
    result = sfseg(s, f, iterations=30, binarize_after=30)
    torch.testing.assert_close(result / result.norm(), x)
    assert float(result.max()) <= 1.0
    assert min(abs(float(result.sum() - s.sum())), abs(float(result.max()) - 1.0)) < 1e-9
    torch.testing.assert_close(sfseg(s, f, iterations=0), s)


def test_soft_binarisation_drives_values_to_both_ends() -> None:
    [s] = volumes(0, 1, (5, 16, 16), torch.float32)
    s[:, 4:12, 4:12] = 1.0
    s[:, :2] = 0.05
    soft, hard = (sfseg(s, s, binarize_after=count) for count in (5, 3))
    middling = [((result > 0.2) & (result < 0.8)).float().mean() for result in (soft, hard)]
    assert middling[1] < 0.5 * middling[0]
    assert hard[2, 8, 8] > 0.95
    assert hard[2, 0, 0] < 0.05
    steeper = sfseg(s, s, slope=40.0)
    assert ((steeper > 0.2) & (steeper < 0.8)).float().mean() < middling[1]


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_empty_frames_and_volumes_stay_finite(mode: str) -> None:
    s = torch.zeros(10, 6, 6)
    for content in (0.0, 1.0):
        s[4] = content
        assert sfseg(s, mode=mode).isfinite().all()
        leaf = s.clone().requires_grad_()
        sfseg(leaf, mode=mode).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_an_empty_frame_stays_empty_in_the_papers_form() -> None:
    s = torch.rand(9, 8, 8)
    s[4] = 0.0
    assert (sfseg(s) == 0.0).reshape(9, -1).all(1).tolist() == [index == 4 for index in range(9)]
    assert not sfseg(torch.zeros(9, 8, 8)).any()


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        # Two parts without a link between them: the eigenvector is the strong one, and the weak one fades beyond what float32 holds.
        ({"p": 1.0, "iterations": 60}, range(8, 14)),
        # The same when it is binarised: the weak part's sums are so small by then that dividing by them is infinite.
        ({"p": 1.0, "iterations": 33, "binarize_after": 31}, []),
        # Each pixel unlike all its neighbours: they push each other below 0.
        ({"alpha": 1000.0, "f": torch.rand(14, 20, 20, generator=torch.Generator().manual_seed(0))}, []),
    ],
)
def test_frames_that_lose_everything_become_empty(change: dict[str, object], lost: list[int]) -> None:
    s = torch.full((14, 20, 20), 0.9)
    s[4:8], s[8:] = 0.0, 0.2
    run = partial(sfseg, **{"iterations": 5, "binarize_after": 100, **change})
    result = run(s)
    assert result.isfinite().all()
    assert not result[list(lost)].any()
    leaf = s.clone().requires_grad_()
    run(leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_a_start_may_be_given() -> None:
    s, f = volumes(6, 2, (4, 8, 8))
    ten = sfseg(s, f, iterations=10, binarize_after=10)
    torch.testing.assert_close(
        sfseg(s, f, x0=torch.ones_like(s), iterations=200, binarize_after=200), sfseg(s, f, iterations=200, binarize_after=200)
    )
    one = power_step(s, s, f, p=0.2, alpha=1.0)
    torch.testing.assert_close(sfseg(s, f, x0=one, iterations=9, binarize_after=9), ten)


def test_the_scale_of_the_start_does_not_matter() -> None:
    s, f, x0 = volumes(8, 3, (2, 4, 8, 8), torch.float32)
    for scale in (1e-30, 1e30, torch.tensor([1e-30, 1e30])[:, None, None, None]):
        torch.testing.assert_close(sfseg(s, f, x0=scale * x0), sfseg(s, f, x0=x0))


def test_several_feature_maps_join_as_their_mean_distance() -> None:
    s, f, g = volumes(7, 3, (3, 6, 6))
    torch.testing.assert_close(sfseg(s, [f, f]), sfseg(s, f))
    assert (sfseg(s, [f, g]) - sfseg(s, f)).abs().max() > 1e-4


@pytest.mark.parametrize("mode", ["paper", "official"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_forms_of_the_graph_give_the_same_segmentation(mode: str, dtype: torch.dtype) -> None:
    s, f = volumes(8, 2, (2, 9, 12, 10), dtype)
    plain = sfseg(s.clone().requires_grad_(), f, mode=mode).detach()
    torch.testing.assert_close(sfseg(s, f, mode=mode), plain, atol=1e-5, rtol=1e-5)
    assert plain.dtype == dtype


@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 11), st.data())
@settings(deadline=None, max_examples=20)
def test_a_part_of_a_video_with_its_neighbours_gives_what_the_whole_gives(
    seed: int, iterations: int, binarize_after: int, first: int, data: st.DataObject
) -> None:
    """Each iteration reaches kt // 2 frames further and frames are scaled one by one, so long videos can be worked on in parts.

    Without binarisation the scale is the whole volume's.
    """
    s, f = volumes(seed, 2, (12, 6, 7))
    last = data.draw(st.integers(first + 1, 12))
    reach = 2 * iterations
    start, stop = max(first - reach, 0), min(last + reach, 12)
    run = partial(sfseg, iterations=iterations, binarize_after=binarize_after)
    whole, part = run(s, f), run(s[start:stop], f[start:stop])
    whole, part = whole[first:last], part[first - start : last - start]
    if iterations <= binarize_after:
        whole, part = whole / whole.sum(), part / part.sum()
    torch.testing.assert_close(part, whole, atol=1e-9, rtol=1e-9)


def test_gradients_flow_through_all_iterations() -> None:
    s, f = (volume.requires_grad_() for volume in volumes(9, 2, (3, 4, 4)))
    assert torch.autograd.gradcheck(lambda s, f: sfseg(s, f, iterations=3, binarize_after=1, kernel_size=(3, 3, 3)), (s, f))


@pytest.mark.parametrize("mode", ["paper", "official"])
@pytest.mark.parametrize("limits", [{"p": GREATEST}, {"alpha": GREATEST}, {"slope": GREATEST}, {"slope": LEAST, "p": 0.0, "alpha": 0.0}])
def test_the_greatest_and_the_least_settings_give_finite_numbers(mode: str, limits: dict[str, float]) -> None:
    for differentiable in (False, True):
        s = S[None].clone().requires_grad_(differentiable)
        result = sfseg(s, F[None], mode=mode, **limits)
        assert bool(((result >= 0.0) & (result <= 1.0)).all())


GOOD = torch.full((3, 5, 5), 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": -GOOD}, "x0 without negative values"),
        ({"x0": 0.0 * GOOD}, "x0 to have values above 0"),
        ({"s": torch.stack([GOOD, GOOD]), "x0": torch.stack([GOOD, 0.0 * GOOD])}, "x0 to have values above 0"),
        ({"slope": "steep"}, "slope to be a number from .* got 'steep'"),
        ({"iterations": True}, "iterations to be a whole number of at least 0, got True"),
        ({"x0": GOOD[:2]}, "x0 to have the shape"),
        ({"iterations": -1}, "iterations to be a whole number of at least 0, got -1"),
        ({"iterations": 2.5}, "iterations to be a whole number of at least 0, got 2.5"),
        ({"binarize_after": -1}, "binarize_after to be a whole number of at least 0, got -1"),
        ({"slope": 0.0}, "slope to be a number from .* got 0.0"),
        ({"slope": math.inf}, "slope to be a number from .* got inf"),
        ({"mode": "fast"}, "the mode 'paper' or 'official', got 'fast'"),
        ({"s": GOOD * 3}, r"s in \[0, 1\]"),
        ({"f": GOOD * 3}, r"f in \[0, 1\]"),
        ({"p": math.inf}, "p to be a number"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sfseg(**{"s": GOOD, **change})
