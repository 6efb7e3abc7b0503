"""SFSeg++: channels joined by learned weights, and how the weights are learned."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sftrack.errors import WeightsError
from sftrack.spectral import FitSettings, SFSegPlusPlus, fit, focal_dice_loss, sfseg


def scene(seed: int, frames: int = 12, size: int = 20) -> tuple[Tensor, Tensor]:
    """A square that moves, seen by a channel that is mostly right, and a channel of noise: `(2, T, H, W)`, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(frames, size, size)
    for t in range(frames):
        truth[t, 5 : 5 + size // 3, 2 + t // 2 : 2 + t // 2 + size // 3] = 1.0
    flips = (torch.rand(truth.shape, generator=generator) < 0.1).float()
    good = (truth - 0.9 * flips).abs()
    return torch.stack([good, torch.rand(truth.shape, generator=generator)]), truth


QUICK = FitSettings(epochs=12, batch=4, seed=1)


def test_the_maps_are_weighted_sums_through_a_sigmoid() -> None:
    model = SFSegPlusPlus(2, shared=False)
    with torch.no_grad():
        model.w_s.copy_(torch.tensor([2.0, -1.0]))
        model.b_s.fill_(0.5)
        model.w_f.copy_(torch.tensor([0.0, 3.0]))
        model.b_f.fill_(-1.0)
    channels = torch.rand(2, 2, 3, 6, 5)
    s, f = model.maps(channels)
    torch.testing.assert_close(s, torch.sigmoid(2.0 * channels[:, 0] - channels[:, 1] + 0.5))
    torch.testing.assert_close(f, torch.sigmoid(3.0 * channels[:, 1] - 1.0))
    torch.testing.assert_close(model(channels), sfseg(s.detach(), f.detach()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_an_optimiser_may_take_its_steps_as_if_channels_were_centred(shared: bool) -> None:
    channels, model = torch.rand(1, 3, 4, 6, 5), SFSegPlusPlus(3, shared)
    own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    names = [("w_s", "b_s"), ("w_s", "b_s") if shared else ("w_f", "b_f")]
    for weights, bias in set(names):
        own[bias] += own[weights].sum() / 2

    def centred_maps() -> list[Tensor]:
        return [torch.sigmoid(((channels - 0.5) * own[weights].view(3, 1, 1, 1)).sum(1) + own[bias]) for weights, bias in names]

    def train(
        parameters: Iterable[Tensor], maps: Callable[[], Sequence[Tensor]], around: Callable[[], AbstractContextManager[None]]
    ) -> None:
        optimiser = torch.optim.AdamW(parameters, lr=0.1, amsgrad=True)
        for _ in range(3):
            optimiser.zero_grad()
            s, f = maps()
            (s.mean() + f.square().mean()).backward()
            with around():
                optimiser.step()

    train(model.parameters(), lambda: model.maps(channels), model.centred)
    train([tensor.requires_grad_() for tensor in own.values()], centred_maps, nullcontext)
    for found, expected in zip(model.maps(channels), centred_maps(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_step_that_fails_leaves_weights_and_gradients_as_they_were() -> None:
    model = SFSegPlusPlus(2)
    model(torch.rand(1, 2, 3, 4, 4)).sum().backward()
    before = [tensor.clone() for parameter in model.parameters() for tensor in (parameter.detach(), parameter.grad)]
    with pytest.raises(KeyboardInterrupt), model.centred():
        raise KeyboardInterrupt
    torch.testing.assert_close([tensor for parameter in model.parameters() for tensor in (parameter.detach(), parameter.grad)], before)


def test_a_part_of_a_larger_network_learns_as_it_does_alone() -> None:
    alone, inside = SFSegPlusPlus(2), SFSegPlusPlus(2)
    fit(alone, [scene(0)], settings=QUICK)
    fit(nn.Sequential(inside), [scene(0)], settings=QUICK)
    torch.testing.assert_close(inside.w_s, alone.w_s)


@pytest.mark.parametrize(("shared", "count"), [(True, 4), (False, 8)])
def test_shared_weights_are_one_per_channel_and_a_bias(shared: bool, count: int) -> None:
    model = SFSegPlusPlus(3, shared)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert (model.w_f is model.w_s) == shared
    s, f = model.maps(torch.rand(1, 3, 2, 4, 4))
    torch.testing.assert_close(s, f)


def test_gradients_reach_every_weight_through_all_iterations_and_the_binarisation() -> None:
    model = SFSegPlusPlus(2, shared=False, iterations=3, binarize_after=1, kernel_size=(3, 3, 3)).double()
    channels = torch.rand(1, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in model.named_parameters()]

    def run(*parameters: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (channels,))
        return result

    parameters = tuple(parameter.detach().clone().requires_grad_() for parameter in model.parameters())
    assert torch.autograd.gradcheck(run, parameters)
    run(*parameters).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_leaves_the_segmentation_as_it_is(training: bool) -> None:
    """As where a network before it is trained in half precision."""
    model = SFSegPlusPlus(2, kernel_size=(3, 3, 3))
    channels = torch.rand(1, 2, 4, 8, 8)
    with torch.set_grad_enabled(training):
        plain = model(channels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(model(channels), plain, atol=0.0, rtol=0.0)


def test_a_noisy_channel_loses_its_weight_and_the_segmentation_gains() -> None:
    model = SFSegPlusPlus(2, iterations=3, binarize_after=1)
    held_out = scene(9)
    before = float(focal_dice_loss(model(held_out[0][None]).detach(), held_out[1][None]))
    result = fit(model, [scene(0), scene(1)], settings=FitSettings(epochs=36, batch=2, rate=0.3, plateau=40, patience=40))
    after = float(focal_dice_loss(model(held_out[0][None]).detach(), held_out[1][None]))
    good, noise = (abs(float(weight)) for weight in model.w_s.detach())
    assert noise < 0.1 * good
    assert after < 0.8 * before
    assert result.validation_loss[result.best_epoch] == min(result.validation_loss)


def test_training_is_repeatable_and_leaves_the_global_random_state_alone() -> None:
    runs = []
    for draws in (1, 3):
        torch.manual_seed(0)
        torch.rand(draws)
        state = torch.get_rng_state()
        model = SFSegPlusPlus(2)
        result = fit(model, [scene(0)], settings=QUICK)
        assert torch.equal(state, torch.get_rng_state())
        runs.append((result.training_loss, model.w_s.detach().clone()))
    assert runs[0][0] == runs[1][0]
    torch.testing.assert_close(runs[0][1], runs[1][1], atol=0.0, rtol=0.0)


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best() -> None:
    """Validation asks for the opposite of what is learned, so the first epoch is its best."""
    channels, truth = scene(0)
    model = SFSegPlusPlus(2)
    result = fit(model, [(channels, truth)], validation=[(channels, 1.0 - truth)], settings=FitSettings(epochs=50, patience=3))
    assert len(result.validation_loss) == result.best_epoch + 4
    again = float(focal_dice_loss(model(channels[None, :, :5]), 1.0 - truth[None, :5]).detach())
    assert again == pytest.approx(min(result.validation_loss), abs=0.05)


class Constant(nn.Module):
    """Learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, channels: Tensor) -> Tensor:
        return channels[:, 0] + 0.0 * self.weight


def test_training_stops_when_validation_stays_the_same() -> None:
    result = fit(Constant(), [scene(0)], settings=FitSettings(epochs=50, patience=3))
    assert (len(result.validation_loss), result.best_epoch) == (4, 0)


class Recorder(nn.Module):
    """Notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[bool, list[int]]] = []

    def forward(self, channels: Tensor) -> Tensor:
        self.seen.append((self.training, [round(float(frame) * 100) for frame in channels[0, 0, :, 0, 0]]))
        return (channels[:, 0] * self.weight).clamp(0.0, 1.0)


def test_videos_are_cut_into_sub_videos_and_the_last_part_is_for_validation() -> None:
    times = torch.arange(20) / 100.0
    video = times[None, :, None, None].expand(1, 20, 2, 2), torch.ones(20, 2, 2)
    recorder = Recorder()
    fit(recorder, [video], settings=FitSettings(epochs=6, rate=1e-4, validation_share=0.25))
    for training, frames in recorder.seen:
        assert len(frames) == 5
        assert frames == list(range(frames[0], frames[0] + 5))
        assert frames[-1] < 15 if training else frames[0] >= 15


@pytest.mark.parametrize("length", [1, 2, 4, 5, 7])
def test_short_videos_are_taken_whole(length: int) -> None:
    channels, truth = scene(0, frames=length, size=8)
    result = fit(SFSegPlusPlus(2), [(channels, truth)], settings=FitSettings(epochs=2))
    assert len(result.training_loss) == 2


@given(st.integers(0, 10**6), st.floats(0.1, 2.0))
@settings(deadline=None, max_examples=30)
def test_the_loss_is_between_0_and_1_and_0_for_the_truth(seed: int, gamma: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    guess = torch.rand(2, 3, 5, 5, generator=generator)
    truth = torch.rand(2, 3, 5, 5, generator=generator) > 0.5
    loss = float(focal_dice_loss(guess, truth, gamma))
    assert 0.0 < loss < 1.0
    assert float(focal_dice_loss(truth.float(), truth, gamma)) == pytest.approx(1e-6**gamma)
    assert float(focal_dice_loss(1.0 - truth.float(), truth, gamma)) > 0.9


def test_the_losss_values_and_its_gradient_at_perfection() -> None:
    truth = torch.zeros(1, 10, 10)
    truth[0, :5] = 1.0
    guess = torch.zeros_like(truth)
    guess[0, 2:7] = 1.0
    assert float(focal_dice_loss(guess, truth)) == pytest.approx((1.0 - 61.0 / 101.0) ** 0.75)
    assert float(focal_dice_loss(0.0 * truth, 0.0 * truth)) < 1e-4
    perfect = truth.clone().requires_grad_()
    focal_dice_loss(perfect, truth).backward()
    assert perfect.grad is not None
    assert perfect.grad.isfinite().all()


def test_saved_weights_come_back(tmp_path: Path) -> None:
    for shared in (True, False):
        model = SFSegPlusPlus(
            3, shared, iterations=2, binarize_after=1, p=0.3, alpha=0.7, kernel_size=(3, 5, 7), slope=4.0, names=("a", "b, c", "d")
        )
        with torch.no_grad():
            model.w_s += torch.rand(3)
        model.save(tmp_path / "weights.safetensors")
        again = SFSegPlusPlus.load(tmp_path / "weights.safetensors")
        assert (again.shared, again.names, again.training) == (shared, ("a", "b, c", "d"), False)
        channels = torch.rand(1, 3, 4, 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(again(channels), model(channels), atol=0.0, rtol=0.0)


def test_a_model_with_shared_weights_takes_no_state_with_two_sets() -> None:
    two, shared = SFSegPlusPlus(2, shared=False), SFSegPlusPlus(2)
    shared.load_state_dict(two.state_dict())  # the same twice, as of a model that shares them
    two.w_f.data += 1.0
    model = copy.deepcopy(nn.Sequential(shared))
    with pytest.raises(WeightsError, match="got one with two sets; make this model with shared=False"):
        model.load_state_dict(nn.Sequential(two).state_dict())
    torch.testing.assert_close(shared.w_s, two.w_s)
    SFSegPlusPlus(2, shared=False).load_state_dict(two.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        SFSegPlusPlus(2).load_state_dict({})
    shared.w_s.data.fill_(math.nan)
    shared.load_state_dict(shared.state_dict())  # its own, whatever has become of it


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(WeightsError, match="cannot be read: No such file or directory"):
        SFSegPlusPlus.load(path)
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="is something else"):
        SFSegPlusPlus.load(path)
    model = SFSegPlusPlus(1)
    with torch.no_grad():
        model.w_s.fill_(math.nan)
    model.save(str(path))
    with pytest.raises(WeightsError, match="NaN or infinity in w_s"):
        SFSegPlusPlus.load(str(path))
    with pytest.raises(WeightsError, match="expected to write weights"):
        SFSegPlusPlus(1).save(tmp_path / "missing" / "weights.safetensors")


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        (torch.rand(1, 3, 4, 5, 5), ValueError, r"shape \(B, 2, T, H, W\), got \(1, 3, 4, 5, 5\)"),
        (torch.rand(2, 4, 5, 5), ValueError, r"shape \(B, 2, T, H, W\), got \(2, 4, 5, 5\)"),
        (torch.rand(1, 2, 4, 5, 5).double(), ValueError, "like the weights, torch.float32 on cpu, got torch.float64"),
        (torch.rand(1, 2, 4, 5, 5) * 255, ValueError, r"channels in \[0, 1\]"),
        (torch.full((1, 2, 4, 5, 5), float("nan")), ValueError, "channels to be finite"),
        (torch.rand(1, 2, 4, 5, 5).numpy(), TypeError, "channels as a torch.Tensor, got ndarray"),
    ],
)
def test_bad_channels_are_named(channels: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SFSegPlusPlus(2)(channels)


def test_bad_settings_and_videos_are_named() -> None:
    with pytest.raises(ValueError, match="channels to be a whole number of at least 1, got 0"):
        SFSegPlusPlus(0)
    with pytest.raises(ValueError, match="expected 2 names, one per channel, got 1"):
        SFSegPlusPlus(2, names=("one",))
    with pytest.raises(ValueError, match="iterations to be a whole number of at least 0"):
        SFSegPlusPlus(1, iterations=-1)
    with pytest.raises(ValueError, match="expected frames to be a whole number of at least 1, got 0"):
        FitSettings(frames=0)
    with pytest.raises(ValueError, match="expected epochs to be a whole number"):
        FitSettings(epochs=1.5)
    with pytest.raises(ValueError, match="validation share between 0 and 1"):
        FitSettings(validation_share=1.0)
    with pytest.raises(ValueError, match=r"rate to be a number from .* got 0\.0"):
        FitSettings(rate=0.0)
    with pytest.raises(ValueError, match="at least one video to learn from"):
        fit(SFSegPlusPlus(1), [])
    with pytest.raises(ValueError, match="at least one video for validation"):
        fit(SFSegPlusPlus(2), [scene(0)], validation=[])
    with pytest.raises(ValueError, match=r"got \(2, 12, 20, 20\) and \(3, 20, 20\)"):
        fit(SFSegPlusPlus(2), [(scene(0)[0], scene(0)[1][:3])])
    with pytest.raises(TypeError, match=r"as torch.Tensor, got Tensor and ndarray; use torch.from_numpy"):
        fit(SFSegPlusPlus(2), [(scene(0)[0], scene(0)[1].numpy())])
    for gamma in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="gamma to be a number from"):
            focal_dice_loss(torch.rand(1, 2, 2), torch.ones(1, 2, 2), gamma)
    with pytest.raises(TypeError, match=r"truth as a torch.Tensor, got ndarray"):
        focal_dice_loss(torch.rand(1, 2, 2), np.ones((1, 2, 2)))
