"""What `fit` leaves of a model where it is not to be, or cannot be, brought to its end."""

import math
from typing import Self

import pytest
import torch
from torch import Tensor

from sftrack.spectral import FitSettings, SFSegPlusPlus, fit


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
