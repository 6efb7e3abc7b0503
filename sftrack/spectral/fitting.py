"""Learning the weights of SFSeg++ from videos with true masks."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sftrack.spectral.checks import check_count, check_number, check_volume
from sftrack.spectral.plusplus import SFSegPlusPlus, focal_dice_loss

Video = tuple[Tensor, Tensor]
"""Channels `(C, T, H, W)` in [0, 1] and the true mask `(T, H, W)`, 0 or 1."""


@dataclass(frozen=True)
class FitSettings:
    """How to train; see `fit`.

    Attributes:
        epochs: at most.
        frames: length of the pieces that videos are cut into; shorter videos are taken whole.
        batch: pieces per step.
        rate: first learning rate of AdamW (AMSGrad variant).
        decay: weight decay.
        plateau: epochs without a better validation loss that pass before the next one divides the rate by 2.
        patience: epochs without a better validation loss after which training ends.
        validation_share: share of each video, at its end, that is kept for validation where no videos are given for it.
        seed: of the order of the pieces and of where the cuts are.
    """

    epochs: int = 60
    frames: int = 5
    batch: int = 8
    rate: float = 0.1
    decay: float = 0.01
    plateau: int = 3
    patience: int = 10
    validation_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, at_least in (("epochs", 1), ("frames", 1), ("batch", 1), ("patience", 1), ("plateau", 0)):
            check_count(name, getattr(self, name), at_least)
        check_number("rate", self.rate)
        check_number("decay", self.decay, at_least=0.0)
        if not (isinstance(self.validation_share, Real) and 0.0 < self.validation_share < 1.0):
            raise ValueError(f"expected a validation share between 0 and 1, got {self.validation_share!r}")


@dataclass
class FitResult:
    """The course of a training: one number per epoch, and the epoch (from 0) whose weights were kept."""

    training_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0


def fit(
    model: nn.Module, videos: Sequence[Video], *, validation: Sequence[Video] | None = None, settings: FitSettings | None = None
) -> FitResult:
    """Train `(B, C, T, H, W) -> (B, T, H, W)` on pieces of videos with the Focal-Dice loss; best epoch's weights, eval mode.

    As in the paper (Sec. 5.1.6): AdamW with AMSGrad, ReduceLROnPlateau, sub-videos of 5 frames. Same seed, same result. A progress bar
    shows on terminals only. What ends it early, as Ctrl+C does, leaves the model with the best weights so far, in eval mode.

    Args:
        model: `SFSegPlusPlus` or any network of that form, changed in place; computes on its own device.
        videos: to learn from, of any sizes and lengths.
        validation: to stop early on; None: the last part of each video, which then is not learned from.
        settings: see `FitSettings`.

    Raises:
        TypeError, ValueError: no videos, one whose channels and mask do not fit together or are not in [0, 1], or what the model refuses.
        RuntimeError: called in `torch.inference_mode()`.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("expected fit outside of torch.inference_mode(), in which nothing can be learned")
    settings = settings or FitSettings()
    training, kept = _parts(videos, validation, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.decay, amsgrad=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=settings.plateau)
    result, best = FitResult(), copy.deepcopy(model.state_dict())
    judged = list(_pieces(kept, settings.frames, None))
    try:
        with tqdm(range(settings.epochs), desc="fit", unit="epoch", disable=None) as progress:
            for epoch in progress:
                pieces = list(_pieces(training, settings.frames, generator))
                order = torch.randperm(len(pieces), generator=generator).tolist()
                batches = [[pieces[index] for index in order[at : at + settings.batch]] for at in range(0, len(order), settings.batch)]
                model.train()
                result.training_loss.append(sum(_step(model, optimiser, batch) * len(batch) for batch in batches) / len(pieces))
                model.eval()
                with torch.no_grad():
                    result.validation_loss.append(sum(float(_loss(model, piece)) for piece in judged) / len(judged))
                schedule.step(result.validation_loss[-1])
                if epoch == 0 or result.validation_loss[-1] < result.validation_loss[result.best_epoch]:
                    result.best_epoch, best = epoch, copy.deepcopy(model.state_dict())
                progress.set_postfix(training=result.training_loss[-1], validation=result.validation_loss[-1])
                if epoch - result.best_epoch >= settings.patience:
                    break
    finally:
        model.load_state_dict(best)
        model.eval()
    return result


@torch.enable_grad()
def _step(model: nn.Module, optimiser: torch.optim.Optimizer, batch: Sequence[Video]) -> float:
    """One step; the pieces go through the model one by one, as their sizes differ."""
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for piece in batch:
        loss = _loss(model, piece) / len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    with ExitStack() as centred:
        for part in model.modules():
            if isinstance(part, SFSegPlusPlus):
                centred.enter_context(part.centred())
        optimiser.step()
    return total


def _loss(model: nn.Module, piece: Video) -> Tensor:
    like = next(model.parameters())
    channels, truth = (volume[None].to(like) for volume in piece)
    return focal_dice_loss(model(channels), truth)


def _parts(videos: Sequence[Video], validation: Sequence[Video] | None, settings: FitSettings) -> tuple[list[Video], list[Video]]:
    """What to learn from, and what to stop early on; all of it checked, so that nothing is learned before something is refused."""
    training = [_checked(video) for video in videos]
    if not training:
        raise ValueError("expected at least one video to learn from, got none")
    kept = [_checked(video) for video in validation or ()]
    if validation is None:
        halves = [_split(video, settings) for video in training]
        training, kept = [first for first, _ in halves], [rest for _, rest in halves]
    if not kept:
        raise ValueError("expected at least one video for validation, got none; leave it out to use a part of the others")
    counts = sorted({len(channels) for channels, _ in (*training, *kept)})
    if len(counts) > 1:
        raise ValueError(f"expected the same number of channels in all videos, got {' and '.join(map(str, counts))}")
    return training, kept


def _checked(video: Video) -> Video:
    channels, truth = video
    if not (isinstance(channels, Tensor) and isinstance(truth, Tensor)):
        raise TypeError(
            f"expected channels and true mask as torch.Tensor, got {type(channels).__name__} and {type(truth).__name__}; "
            "use torch.from_numpy for arrays"
        )
    if channels.ndim != 4 or channels.shape[1:] != truth.shape or not channels.numel():
        raise ValueError(
            f"expected channels (C, T, H, W) and a true mask (T, H, W) of the same length and size, "
            f"got {tuple(channels.shape)} and {tuple(truth.shape)}"
        )
    check_volume("channels", channels.float(), unit_range=True)
    check_volume("the true mask", truth.float(), unit_range=True)
    return video


def _split(video: Video, settings: FitSettings) -> tuple[Video, Video]:
    """The first part of a video and the rest; one frame is all that a video of one frame has for both."""
    channels, truth = video
    cut = min(max(round(len(truth) * (1.0 - settings.validation_share)), 1), max(len(truth) - 1, 1))
    rest = min(cut, len(truth) - 1)
    return (channels[:, :cut], truth[:cut]), (channels[:, rest:], truth[rest:])


def _pieces(videos: Sequence[Video], frames: int, generator: torch.Generator | None) -> Iterator[Video]:
    """Cut videos into pieces of `frames`; from a random place on, so that the cuts differ between epochs, or from the beginning."""
    for channels, truth in videos:
        spare = len(truth) % frames if len(truth) >= frames else 0
        first = int(torch.randint(spare + 1, (1,), generator=generator)) if generator else 0
        for start in range(first, max(len(truth) - frames, first) + 1, frames):
            yield channels[:, start : start + frames], truth[start : start + frames]
