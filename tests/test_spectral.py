"""One power step: filters that equal the explicit matrix of Eq. 2, in each of their forms."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.spectral import exact, power_step, sfseg
from sftrack.spectral.gaussian import smooth
from sftrack.spectral.iteration import iterate
from sftrack.spectral.power import STRIPE_PIXELS, BatchGraph, TensorGraph
from tests.spectral_reference import made, reference, volumes

KERNELS = [(3, 3, 3), (3, 5, 5), (5, 3, 7)]
SMALL = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
ODD = st.sampled_from([3, 5, 7])
GRAPHS = st.fixed_dictionaries(
    {"p": st.just(0.0) | st.floats(0.01, 2.0), "alpha": st.floats(0.0, 3.0), "kernel_size": st.tuples(ODD, ODD, ODD)}
)


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize(("p", "alpha"), [(0.1, 0.5), (0.5, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_filters_equal_the_explicit_matrix(kernel_size: tuple[int, int, int], p: float, alpha: float, channels: int) -> None:
    x, s, *f = volumes(3, 2 + channels, (4, 5, 6))
    matrix = exact.adjacency(s, np.stack(f), p=p, alpha=alpha, kernel_size=kernel_size)
    stepped = power_step(x, s, f, p=p, alpha=alpha, kernel_size=kernel_size)
    np.testing.assert_allclose(stepped.flatten(), matrix @ x.flatten().numpy(), atol=1e-12)


@pytest.mark.parametrize(("kernel_size", "p"), [((3, 5, 5), 0.5), ((5, 5, 5), 0.2)])
def test_repeated_steps_equal_the_reference_power_iteration(shared: Path, kernel_size: tuple[int, int, int], p: float) -> None:
    stored, prefix = reference(shared), f"graph_k{'x'.join(map(str, kernel_size))}_p{p}_a1_eq2_power_iteration_"
    s, f = (made(f"graph.{name}", (6, 8, 8)).double() for name in "sf")
    x = s / s.norm()
    for count in range(1, 101):
        x = power_step(x, s, f, p=p, alpha=1.0, kernel_size=kernel_size)
        x = x / x.norm()
        if f"{prefix}{count}" in stored:
            np.testing.assert_allclose(x.flatten(), stored[f"{prefix}{count}"], atol=1e-6)
    assert count == 100


def test_the_first_step_equals_the_published_one(shared: Path) -> None:
    s, f = (made(f"sfseg.{name}", (1, 12, 24, 32)) for name in ("unary", "pairwise"))
    expected = reference(shared)["stage1_k5x5x5_filtered_frames_4_to_7"]
    stepped = power_step(s, s, f, p=0.5, alpha=1.0, kernel_size=(5, 5, 5))
    np.testing.assert_allclose(stepped[0, 4:8], expected, atol=1e-5)


def test_pixels_beyond_the_volume_count_as_zero() -> None:
    ones = torch.ones(1, 9, 9)
    stepped = power_step(ones, ones, ones, p=1.0, alpha=1.0, kernel_size=(3, 3, 3))[0]
    in_time = 1.0 / (1.0 + 2.0 * math.exp(-2.0))
    side = in_time * (1.0 + math.exp(-2.0))
    assert float(stepped[4, 4]) == pytest.approx(in_time, rel=1e-5)
    assert float(stepped[0, 4]) == pytest.approx(in_time * side, rel=1e-5)
    assert float(stepped[0, 0]) == pytest.approx(in_time * side * side, rel=1e-5)


def test_nothing_comes_from_frames_beyond_the_kernels_reach() -> None:
    x = torch.zeros(7, 8, 8)
    x[6] = 1.0
    ones = torch.ones_like(x)
    stepped = power_step(x, ones, ones, p=1.0, alpha=0.5, kernel_size=(5, 3, 3))
    assert not stepped[:4].any()
    assert stepped[4:].min() > 0.0


@given(SMALL, st.integers(0, 10**6), GRAPHS, st.floats(-3.0, 3.0))
@settings(deadline=None, max_examples=40)
def test_it_is_linear_in_the_solution(shape: tuple[int, int, int], seed: int, graph: dict, factor: float) -> None:
    x, y, s, f = volumes(seed, 4, shape)
    both = power_step(x + factor * y, s, f, **graph)
    torch.testing.assert_close(both, power_step(x, s, f, **graph) + factor * power_step(y, s, f, **graph), atol=1e-10, rtol=1e-10)


@given(SMALL, st.integers(0, 10**6), GRAPHS)
@settings(deadline=None, max_examples=40)
def test_the_matrix_behind_it_is_symmetric(shape: tuple[int, int, int], seed: int, graph: dict) -> None:
    x, y, s, f = volumes(seed, 4, shape)
    assert float((x * power_step(y, s, f, **graph)).sum()) == pytest.approx(float((y * power_step(x, s, f, **graph)).sum()), rel=1e-9)


@given(SMALL, st.integers(1, 3), st.integers(0, 10**6), GRAPHS)
@settings(deadline=None, max_examples=30)
def test_a_batch_gives_what_its_volumes_give_alone(shape: tuple[int, int, int], batch: int, seed: int, graph: dict) -> None:
    x, s, f = volumes(seed, 3, (batch, *shape))
    together = power_step(x, s, f, **graph)
    for index in range(batch):
        torch.testing.assert_close(together[index], power_step(x[index], s[index], f[index], **graph), atol=0.0, rtol=0.0)


@given(SMALL, st.integers(1, 3), st.integers(0, 10**6), GRAPHS, st.sampled_from([torch.float32, torch.float64]), st.data())
@settings(deadline=None, max_examples=40)
def test_the_fast_form_equals_the_tensor_form(
    shape: tuple[int, int, int], channels: int, seed: int, graph: dict, dtype: torch.dtype, data: st.DataObject
) -> None:
    x, s, *f = volumes(seed, 2 + channels, shape, dtype)
    s[0, 0, 0] = 0.0
    fast, plain = BatchGraph(s, f, **graph), TensorGraph(s, f, **graph)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(fast.multiply(x), plain.multiply(x), atol=tolerance, rtol=tolerance)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    torch.testing.assert_close(fast.multiply(x, start, stop), fast.multiply(x)[start:stop], atol=0.0, rtol=0.0)


@pytest.mark.parametrize("size_hw", [(2 * 64 + 1, STRIPE_PIXELS // 64), (9, STRIPE_PIXELS + 1)])
def test_stripes_leave_no_seam(size_hw: tuple[int, int]) -> None:
    """A frame that is worked on in several stripes, the last of them thin, or whose rows are too long for one, is filtered as a whole."""
    x, s, f = volumes(4, 3, (3, *size_hw), torch.float32)
    graph = {"p": 0.2, "alpha": 1.0, "kernel_size": (3, 7, 3)}
    torch.testing.assert_close(BatchGraph(s, [f], **graph).multiply(x), TensorGraph(s, [f], **graph).multiply(x), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_smoothing_by_shifts_equals_opencvs(kernel_size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other devices than the CPU sum shifted volumes; here a CPU tensor goes that way too."""
    [volume] = volumes(0, 1, (2, 4, 6, 3))
    expected = smooth(volume, kernel_size)

    class Elsewhere(torch.Tensor):
        device = torch.device("meta")

    torch.testing.assert_close(smooth(volume.as_subclass(Elsewhere), kernel_size).as_subclass(torch.Tensor), expected)


def test_nothing_in_the_tensor_form_is_bound_to_the_cpu() -> None:
    """A stand-in for GPUs: tensors of another device that know their shapes only."""
    x, s, f = (torch.empty(2, 4, 6, 5, device="meta") for _ in range(3))
    stepped = TensorGraph(s, [f, s], p=0.2, alpha=1.0, kernel_size=(3, 5, 5)).multiply(x)
    assert (stepped.device.type, stepped.shape) == ("meta", (2, 4, 6, 5))
    finished = iterate(TensorGraph(s, [f], p=0.2, alpha=1.0, kernel_size=(3, 5, 5)), x, s, iterations=3, binarize_after=1, slope=10.0)
    assert finished.device.type == "meta"


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_compiled_program_gives_the_same(differentiable: bool) -> None:
    x, s, f = (volume.requires_grad_(differentiable) for volume in volumes(2, 3, (3, 6, 5)))
    step = partial(power_step, p=0.2, alpha=1.0)
    torch._dynamo.reset()
    expected, found = step(x, s, f), torch.compile(step, backend="eager", fullgraph=True)(x, s, f)
    torch.testing.assert_close(found, expected)
    whole = partial(sfseg, iterations=3, binarize_after=1)
    torch.testing.assert_close(torch.compile(whole, backend="eager", fullgraph=True)(s, f, x0=x), whole(s, f, x0=x))
    if differentiable:
        for wanted, given in zip(*(torch.autograd.grad(result.sum(), (x, s, f)) for result in (expected, found)), strict=True):
            torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_equal_finite_differences(channels: int) -> None:
    inputs = [volume.requires_grad_() for volume in volumes(1, 2 + channels, (3, 4, 3))]

    def step(x: torch.Tensor, s: torch.Tensor, *f: torch.Tensor) -> torch.Tensor:
        return power_step(x, s, f, p=0.3, alpha=0.7, kernel_size=(3, 3, 5))

    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


@pytest.mark.parametrize("operation", [partial(power_step, p=0.3, alpha=0.7), lambda x, s, f: sfseg(s, f, x0=x)])
def test_each_input_has_the_gradient_that_it_has_among_all(operation: Callable[..., torch.Tensor]) -> None:
    """Whichever of them is learned, and the others are data."""
    inputs = volumes(1, 3, (3, 4, 3))
    together = [volume.clone().requires_grad_() for volume in inputs]
    for index, expected in enumerate(torch.autograd.grad(operation(*together).square().sum(), together)):
        alone = inputs[index].clone().requires_grad_()
        [found] = torch.autograd.grad(operation(*inputs[:index], alone, *inputs[index + 1 :]).square().sum(), alone)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_values_that_rounding_took_below_zero_count_as_zero(p: float) -> None:
    x, s, f = volumes(6, 3, (3, 5, 4), torch.float32)
    below = s.clone()
    s[1, 2], below[1, 2] = 0.0, -1e-7
    graph = {"p": p, "alpha": 0.5, "kernel_size": (3, 3, 3)}
    for form in (BatchGraph, TensorGraph):
        torch.testing.assert_close(form(below, [f], **graph).multiply(x), form(s, [f], **graph).multiply(x), atol=0.0, rtol=0.0)
    np.testing.assert_array_equal(exact.adjacency(below, f, **graph).toarray(), exact.adjacency(s, f, **graph).toarray())


def test_a_unary_map_of_zero_has_a_finite_gradient() -> None:
    x, s, f = volumes(2, 3, (3, 5, 5))
    s[1] = 0.0
    s.requires_grad_()
    stepped = power_step(x, s, f, p=0.1, alpha=1.0)
    assert not stepped[1].any()
    stepped.sum().backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()
    assert s.grad[0].any()


@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.05, 2.0))
@settings(deadline=None, max_examples=40)
def test_the_result_is_not_negative_up_to_alpha_1(seed: int, alpha: float, p: float) -> None:
    x, s, f = torch.rand(3, 4, 9, 7, generator=torch.Generator().manual_seed(seed))
    assert float(power_step(x, s, f, p=p, alpha=alpha, kernel_size=(3, 5, 5)).min()) > -1e-6


def test_beyond_alpha_1_unlike_neighbours_push_each_other_down() -> None:
    x = torch.zeros(1, 3, 3)
    x[0, 1, 1] = 1.0
    f = torch.zeros(1, 3, 3)
    f[0, 1, 1] = 1.0
    ones = torch.ones(1, 3, 3)
    assert float(power_step(x, ones, f, p=1.0, alpha=4.0, kernel_size=(3, 3, 3))[0, 0, 1]) < 0.0


GOOD = torch.full((3, 5, 5), 0.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": GOOD.numpy()}, TypeError, r"x as a torch.Tensor, got ndarray; use torch.from_numpy"),
        ({"s": GOOD.half()}, TypeError, r"s in float32 or float64, got torch.float16"),
        ({"s": GOOD[0]}, ValueError, r"s of shape \(T, H, W\) or \(B, T, H, W\).* got \(5, 5\)"),
        ({"s": GOOD[:0]}, ValueError, r"without a side of 0, got \(0, 5, 5\)"),
        ({"x": GOOD[:2]}, ValueError, r"x to have the shape of the other volumes, \(3, 5, 5\), got \(2, 5, 5\)"),
        ({"f": GOOD.double()}, ValueError, r"f to have the dtype of the other volumes, torch.float32, got torch.float64"),
        ({"f": [GOOD, GOOD[:2]]}, ValueError, r"f\[1\] to have the shape"),
        ({"f": []}, ValueError, r"at least one pairwise feature map, got none"),
        ({"x": GOOD * math.nan}, ValueError, r"x to be finite, got NaN"),
        ({"x": GOOD * math.inf}, ValueError, r"x to be finite"),
        ({"s": GOOD * 255}, ValueError, r"s in \[0, 1\], got values from 127.5 to 127.5; divide masks"),
        ({"f": GOOD - 1}, ValueError, r"f in \[0, 1\], got values from -0.5 to -0.5"),
        ({"p": -0.1}, ValueError, r"p to be a number from 0 to 10000, got -0.1"),
        ({"alpha": math.nan}, ValueError, r"alpha to be a number from 0 to 10000, got nan"),
        ({"f": GOOD.numpy()}, TypeError, r"f as a torch.Tensor, got ndarray"),
        ({"f": None}, TypeError, r"f as a torch.Tensor, got NoneType"),
        ({"p": "0.2"}, ValueError, r"p to be a number from 0 to 10000, got '0.2'"),
        ({"alpha": None}, ValueError, r"alpha to be a number from 0 to 10000, got None"),
        ({"p": Fraction(1, 5)}, ValueError, r"p to be a number from 0 to 10000, got Fraction\(1, 5\)"),
        ({"alpha": True}, ValueError, r"alpha to be a number from 0 to 10000, got True"),
        ({"alpha": 1e300}, ValueError, r"alpha to be a number from 0 to 10000, got 1e\+300"),
        ({"kernel_size": 5}, ValueError, r"a kernel size \(kt, ky, kx\), got 5"),
        ({"kernel_size": (5.0, 5.0, 5.0)}, ValueError, r"odd kernel size of at least 3, got 5.0"),
        ({"kernel_size": (5, 5)}, ValueError, r"a kernel size \(kt, ky, kx\), got \(5, 5\)"),
        ({"kernel_size": (3, 1, 3)}, ValueError, r"odd kernel size of at least 3, got 1"),
        ({"kernel_size": (4, 3, 3)}, ValueError, r"odd kernel size of at least 3, got 4"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], error: type[Exception], message: str) -> None:
    step: Callable[..., torch.Tensor] = power_step
    with pytest.raises(error, match=message):
        step(**{"x": GOOD, "s": GOOD, "f": GOOD, "p": 0.2, "alpha": 1.0, **change})


def test_the_inputs_stay_as_they_are() -> None:
    given_volumes = volumes(5, 3, (3, 6, 6), torch.float32)
    kept = [volume.clone() for volume in given_volumes]
    power_step(*given_volumes, p=0.2, alpha=1.0)
    for before, after in zip(kept, given_volumes, strict=True):
        torch.testing.assert_close(before, after, atol=0.0, rtol=0.0)
