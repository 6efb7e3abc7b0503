"""SFSeg++: the graph's maps as learned combinations of any number of channels, trained through all iterations (paper, Sec. 3.3)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sftrack.errors import WeightsError
from sftrack.spectral.checks import check_channels, check_count, check_counts, check_number, check_settings, check_volume
from sftrack.spectral.gaussian import KernelSize
from sftrack.spectral.iteration import SLOPE, iterate
from sftrack.spectral.power import pixel_graph

START_SLOPE = 4.0
"""Untrained, the maps are `sigmoid(4 (mean of the channels - 0.5))`."""


class SFSegPlusPlus(nn.Module):
    """Segment a volume from several channels: `S = sigmoid(b_s + sum_c w_s,c C_c)`, `F` likewise (Eq. 9), then `sfseg` on them.

    Attributes:
        w_s, b_s: weights `(C,)` and bias `()` of the unary map.
        w_f, b_f: those of the pairwise map; with `shared`, the very same parameters.
        names: what the channels are called, or nothing.
        settings: numbers of the iteration, see `sfseg`.
    """

    def __init__(
        self,
        channels: int,
        shared: bool = True,
        *,
        iterations: int = 5,
        binarize_after: int = 3,
        p: float = 0.2,
        alpha: float = 1.0,
        kernel_size: KernelSize = (5, 5, 5),
        slope: float = SLOPE,
        names: Sequence[str] = (),
    ) -> None:
        """Start with the same weight for every channel.

        Args:
            channels: number of channels, at least 1.
            shared: one set of weights for both maps, as in the paper's experiments.
            iterations, binarize_after, p, alpha, kernel_size, slope: see `sfseg`.
            names: of the channels, kept with the weights so that files tell what they were learned for.

        Raises:
            ValueError: no channel, another number of names, or settings that `sfseg` refuses.
        """
        super().__init__()
        check_count("channels", channels, at_least=1)
        if len(names) not in (0, channels):
            raise ValueError(f"expected {channels} names, one per channel, got {len(names)}")
        check_settings(p, alpha, kernel_size)
        check_counts(iterations, binarize_after, slope)
        self.channels, self.shared, self.names = channels, shared, tuple(names)
        self.iterations, self.binarize_after, self.slope = iterations, binarize_after, slope
        self.p, self.alpha, self.kernel_size = p, alpha, kernel_size
        self.w_s, self.b_s = _start(channels)
        self.w_f, self.b_f = (self.w_s, self.b_s) if shared else _start(channels)
        if shared:
            self.register_load_state_dict_pre_hook(_refuse_two_sets)  # type: ignore[no-untyped-call]

    def maps(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """The unary and the pairwise map `(B, T, H, W)` in [0, 1] of channels `(B, C, T, H, W)`; one and the same if shared."""
        s = _combine(channels, self.w_s, self.b_s)
        return s, s if self.shared else _combine(channels, self.w_f, self.b_f)

    def forward(self, channels: Tensor) -> Tensor:
        """Channels `(B, C, T, H, W)` in [0, 1] to the segmentation `(B, T, H, W)` in [0, 1]; differentiable.

        Raises:
            TypeError, ValueError: another shape, type or device than the weights', values outside [0, 1] or not finite.
        """
        check_channels(channels, self.w_s)
        s, f = self.maps(channels)
        graph = pixel_graph(s, [f], p=self.p, alpha=self.alpha, kernel_size=self.kernel_size, x0=s)
        return iterate(graph, s, s, iterations=self.iterations, binarize_after=self.binarize_after, slope=self.slope)

    @contextmanager
    def centred(self) -> Iterator[None]:
        """Within it, biases and gradients are those of channels less 1/2, `b + sum_c w_c (C_c - 1/2)`: for one step of an optimiser.

        The maps are the same ones, but learning them is sure: the mean of a useless channel cannot stand in for the bias, so nothing but
        its noise is left, and its weight falls to 0.
        """
        pairs = [(self.w_s, self.b_s)] if self.shared else [(self.w_s, self.b_s), (self.w_f, self.b_f)]
        with torch.no_grad():
            for weights, bias in pairs:
                bias.add_(weights.sum() / 2)
                if weights.grad is not None and bias.grad is not None:
                    weights.grad.sub_(bias.grad / 2)
        try:
            yield
        finally:
            with torch.no_grad():
                for weights, bias in pairs:
                    bias.sub_(weights.sum() / 2)
                    if weights.grad is not None and bias.grad is not None:
                        weights.grad.add_(bias.grad / 2)

    def save(self, path: Path | str) -> None:
        """Write weights and settings to a safetensors file.

        Raises:
            WeightsError: the file cannot be written.
        """
        names = ("w_s", "b_s") if self.shared else ("w_s", "b_s", "w_f", "b_f")
        tensors = {name: getattr(self, name).detach().cpu().contiguous() for name in names}
        settings = {name: str(getattr(self, name)) for name in ("iterations", "binarize_after", "p", "alpha", "slope")}
        settings["kernel_size"] = "x".join(map(str, self.kernel_size))
        settings["names"] = json.dumps(self.names)
        try:
            save_file(tensors, path, metadata=settings)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"expected to write weights to '{path}', got '{error}'; choose another place") from error

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; eval mode, on the CPU.

        Raises:
            WeightsError: missing or damaged file, or one that `save` did not write.
        """
        try:
            Path(path).open("rb").close()  # safetensors says of every file that it cannot open that there is none
        except OSError as error:
            raise WeightsError(
                f"expected a file with SFSeg++ weights at '{path}', it cannot be read: {error.strerror}; write one with SFSegPlusPlus.save"
            ) from error
        try:
            with safe_open(path, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
                settings = stored.metadata() or {}
            kt, ky, kx = map(int, settings["kernel_size"].split("x"))
            model = cls(
                len(tensors["w_s"]),
                "w_f" not in tensors,
                iterations=int(settings["iterations"]),
                binarize_after=int(settings["binarize_after"]),
                p=float(settings["p"]),
                alpha=float(settings["alpha"]),
                kernel_size=(kt, ky, kx),
                slope=float(settings["slope"]),
                names=json.loads(settings.get("names", "[]")),
            )
            with torch.no_grad():
                for name, tensor in tensors.items():
                    if not tensor.isfinite().all():
                        raise ValueError(f"NaN or infinity in {name}")
                    getattr(model, name).copy_(tensor)
        except (SafetensorError, OSError, KeyError, AttributeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"expected SFSeg++ weights written by SFSegPlusPlus.save, '{path}' is something else ({error})") from error
        return model.eval()


def focal_dice_loss(segmentation: Tensor, truth: Tensor, gamma: float = 0.75) -> Tensor:
    """`(1 - Dice)^gamma` of each volume, averaged over the batch (Eq. 12).

    Eq. 12 prints the overlap as `2 |X and Y| / |X or Y|`, which exceeds 1 for good segmentations, where a power of `1 - overlap` does not
    exist. The Dice coefficient that its name speaks of, `2 |X and Y| / (|X| + |Y|)`, does not; it is 1 where both are empty.

    Args:
        segmentation: `(T, H, W)` or `(B, T, H, W)` in [0, 1].
        truth: mask of the same shape in [0, 1], of any type.
        gamma: below 1, hard volumes count less and nearly perfect ones more; 0.75 in the paper.

    Returns:
        A scalar in [0, 1].

    Raises:
        TypeError, ValueError: other shapes or values, or a gamma that is no number above 0.
    """
    check_volume("segmentation", segmentation, unit_range=True)
    truth = truth.to(segmentation) if isinstance(truth, Tensor) else truth
    check_volume("truth", truth, segmentation, unit_range=True)
    check_number("gamma", gamma)
    volume = (-3, -2, -1)
    both, sizes = (segmentation * truth).sum(volume), segmentation.sum(volume) + truth.sum(volume)
    # One pixel more on each side: 1 where both are empty. The power's derivative is infinite at 0.
    dice = (2.0 * both + 1.0) / (sizes + 1.0)
    loss: Tensor = (1.0 - dice).clamp_min(1e-6).pow(gamma).mean()
    return loss


def _refuse_two_sets(model: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """Of a state of two sets of weights, a model that shares one would silently take the second for both maps."""
    pairs = [[state.get(prefix + name) for name in pair] for pair in (("w_s", "w_f"), ("b_s", "b_f"))]
    given = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not all(torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True) for one, other in given):
        raise WeightsError("expected the state of a model with shared weights, got one with two sets; make this model with shared=False")


def _start(channels: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.full((channels,), START_SLOPE / channels)), nn.Parameter(torch.tensor(-START_SLOPE / 2))


def _combine(channels: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    # Not as one product: half its time or less in training, and autocast leaves it in the type of the weights, as the graph needs it.
    terms = (channel * weight for channel, weight in zip(channels.unbind(1), weights.unbind(), strict=True))
    return torch.sigmoid(sum(terms, start=bias))
