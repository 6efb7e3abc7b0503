"""What `fit` promises: its steps and the losses that it reports, and what it leaves of a model where it is not brought to its end."""

import math
from typing import Self

import pytest
import torch
from torch import Tensor, nn

from sftrack.spectral import FitSettings, SFSegPlusPlus, fit, focal_dice_loss
from tests.test_spectral_learned import Constant, Recorder


class Slope(nn.Module):
    """`sigmoid(w (C - 1/2))` of one channel; notes the slope `w` whenever it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))
        self.course: list[float] = []

    def forward(self, channels: Tensor) -> Tensor:
        if self.training:
            self.course.append(float(self.slope.detach()))
        return torch.sigmoid(self.slope * (channels[:, 0] - 0.5))


def test_steps_are_those_of_adamw_with_amsgrad_at_a_rate_that_halves_after_epochs_without_a_better_validation_loss() -> None:
    """Validation asks for the opposite of what is learned, so that no epoch is better than the first.

    The first steps are so large that little gradient is left after them, which AMSGrad does not forget.
    """
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(5, 8, 8, generator=generator) > 0.5).float()
    channels = (0.8 * truth + 0.2 * torch.rand(truth.shape, generator=generator))[None]
    model = Slope()
    settings = FitSettings(epochs=11, rate=16.0, decay=0.005, plateau=2, patience=11)
    result = fit(model, [(channels, truth)], validation=[(channels, 1.0 - truth)], settings=settings)
    assert result.best_epoch == 0

    slope = torch.ones((), requires_grad=True)
    optimiser, expected = torch.optim.AdamW([slope], weight_decay=0.005, amsgrad=True), []
    for rate in [16.0] * 4 + [8.0] * 3 + [4.0] * 3 + [2.0]:  # the first epoch and two that pass; the third one is too much
        expected.append(float(slope.detach()))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        focal_dice_loss(torch.sigmoid(slope * (channels[0] - 0.5)), truth).backward()
        optimiser.step()
    assert model.course == pytest.approx(expected, rel=1e-5)


def test_the_losses_are_means_over_the_pieces_of_all_batches() -> None:
    """Three pieces in batches of two: the last one counts as much as the others."""
    channels, truth = torch.linspace(0.0, 1.0, 15)[None, :, None, None].expand(1, 15, 4, 4), torch.ones(15, 4, 4)
    losses = [float(focal_dice_loss(channels[0, start : start + 5], truth[start : start + 5])) for start in (0, 5, 10)]
    whole = [(channels, truth)]
    result = fit(Constant(), whole, validation=whole, settings=FitSettings(epochs=1, batch=2))
    assert result.training_loss == pytest.approx([sum(losses) / 3])
    assert result.validation_loss == pytest.approx([sum(losses) / 3])


def frames_seen(length: int, settings: FitSettings) -> tuple[list[list[int]], list[list[int]]]:
    """The numbers of the frames of each piece, in order: of those that are learned from, and of those that are kept for validation."""
    numbers = torch.arange(length) / 100.0
    recorder = Recorder()
    fit(recorder, [(numbers[None, :, None, None].expand(1, length, 2, 2), torch.ones(length, 2, 2))], settings=settings)
    return [frames for training, frames in recorder.seen if training], [frames for training, frames in recorder.seen if not training]


def test_cuts_and_order_differ_between_epochs() -> None:
    """18 frames to learn from: three pieces of five, from frame 0, 1, 2 or 3 on."""
    pieces, _ = frames_seen(24, FitSettings(epochs=20, rate=1e-4, patience=20, validation_share=0.25))
    epochs = [[piece[0] for piece in pieces[at : at + 3]] for at in range(0, len(pieces), 3)]
    assert len(epochs) == 20
    assert {min(starts) for starts in epochs} == {0, 1, 2, 3}
    assert len({tuple(start - min(starts) for start in starts) for starts in epochs}) > 3


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7])
def test_no_frame_is_both_learned_from_and_kept_for_validation(length: int) -> None:
    learned, kept = ({frame for piece in pieces for frame in piece} for pieces in frames_seen(length, FitSettings(epochs=4, rate=1e-4)))
    assert learned
    assert kept
    assert max(learned) < min(kept)


def video(seed: int) -> tuple[Tensor, Tensor]:
    """Two channels `(2, T, H, W)`, the first of which is nearly the truth `(T, H, W)`."""
    noise = torch.rand(2, 12, 10, 10, generator=torch.Generator().manual_seed(seed))
    truth = (noise[0] > 0.5).float()
    return torch.stack([0.8 * truth + 0.2 * noise[1], noise[1]]), truth


@pytest.mark.parametrize("spoiled", ["channels", "truth"])
@pytest.mark.parametrize("given_apart", [False, True])
def test_all_videos_are_looked_at_before_anything_is_learned(spoiled: str, given_apart: bool) -> None:
    """Also the part that is kept for validation."""
    channels, truth = video(0)
    (channels if spoiled == "channels" else truth)[..., -1, 0, 0] = math.nan
    model = SFSegPlusPlus(2)
    before = model.w_s.detach().clone()
    with pytest.raises(ValueError, match=r"expected .* to be finite, got NaN"):
        fit(model, [video(1) if given_apart else (channels, truth)], validation=[(channels, truth)] if given_apart else None)
    assert torch.equal(model.w_s, before)


def test_videos_of_other_numbers_of_channels_are_refused_before_anything_is_learned() -> None:
    channels, truth = video(0)
    model = SFSegPlusPlus(2)
    before = model.w_s.detach().clone()
    with pytest.raises(ValueError, match="the same number of channels in all videos, got 2 and 3"):
        fit(model, [(channels, truth)], validation=[(channels[[0, 1, 1]], truth)])
    assert torch.equal(model.w_s, before)


class Interrupted(SFSegPlusPlus):
    """Notes its weights whenever an epoch begins, and ends as with Ctrl+C in the middle of one."""

    def __init__(self, ends_in_epoch: int) -> None:
        super().__init__(2)
        self.ends_in_epoch = ends_in_epoch
        self.begun: list[Tensor] = []

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.begun.append(self.w_s.detach().clone())
        return super().train(mode)

    def forward(self, channels: Tensor) -> Tensor:
        if self.training and len(self.begun) > self.ends_in_epoch and not torch.equal(self.w_s, self.begun[-1]):
            raise KeyboardInterrupt
        return super().forward(channels)


@pytest.mark.parametrize("epochs", [0, 1])
def test_ctrl_c_leaves_the_best_weights_so_far_in_eval_mode(epochs: int) -> None:
    """Those that it began with where no epoch is complete."""
    model = Interrupted(ends_in_epoch=epochs)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [video(0), video(1)], settings=FitSettings(batch=1))
    assert torch.equal(model.w_s, model.begun[epochs])
    assert not model.training


def test_nothing_is_learned_in_inference_mode() -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"fit outside of torch.inference_mode"):
        fit(SFSegPlusPlus(2), [video(0)])
