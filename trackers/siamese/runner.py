"""From a network's published weights to a tracker that runs it: what SiamRPN++, SiamBAN and NanoTrack do alike with their networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftrack.config import resolve_device
from sftrack.contracts import ImageRGB
from sftrack.engine import PRECISIONS, Engine, TorchEngine, fastest_engine, fold

from ..base import check_choice
from ..checkpoints import Weights, load_checkpoint, load_into
from ..registry import keyword_signature
from .penalty import hann_window
from .procedure import EXEMPLAR_SIZE_PX, INSTANCE_SIZE_PX, Candidates, Settings, SiameseTracker

OPTIONS = ("weights", "device", "precision")
"""Keyword arguments of every `NetworkTracker`, besides the settings."""

EngineBuilder = Callable[[nn.Module, Sequence[Tensor], str, torch.dtype], Engine]


class SiameseNetwork(nn.Module):
    """A network in two halves: one for the template, run once, one for every search crop. Pictures are BGR, 0 to 255."""

    def template(self, images: Tensor) -> list[Tensor]:
        """Template crop `(1, 3, 127, 127)` to what `forward` compares search crops with."""
        raise NotImplementedError

    def forward(self, kernels: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Search crop `(1, 3, I, I)` to logits of the classes `(1, 2 A, S, S)` and boxes `(1, 4 A, S, S)`, for A shapes per cell.

        The logits are first those of the background, then those of the foreground; what a box's numbers mean is up to the network.
        """
        raise NotImplementedError

    def to_input(self, crop_rgb: Tensor) -> Tensor:
        """`(h, w, 3) uint8` RGB to `(1, 3, h, w)` BGR in the precision of the network."""
        return crop_rgb.permute(2, 0, 1)[None].flip(1).to(next(self.parameters()).dtype)


class Template(nn.Module):
    """The template's half as an engine runs it."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop_rgb: Tensor) -> list[Tensor]:
        """`(127, 127, 3) uint8` to the kernels."""
        return self.network.template(self.network.to_input(crop_rgb))


class Comparison(nn.Module):
    """The search crop's half as an engine runs it."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop_rgb: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        """`(I, I, 3) uint8` to the foreground's share of the softmax `(N,)` and boxes `(4, N)`, float32, shape by shape, row by row."""
        cls, loc = self.network(kernels, self.network.to_input(crop_rgb))
        return cls.float().reshape(2, -1).softmax(0)[1], loc.float().reshape(4, -1)


@dataclass(frozen=True)
class Variant:
    """A published network with its settings.

    Attributes:
        weights: its name in the registry of weights.
        network: builds it.
        settings: its hyper-parameters.
        score_size: rows and columns S of its score map.
        instance_size: side I of the search crop in pixels.
    """

    weights: str
    network: Callable[[], SiameseNetwork]
    settings: Settings
    score_size: int
    instance_size: int = INSTANCE_SIZE_PX


def variant_of(variants: Mapping[str, Variant], name: str) -> Variant:
    """The variant of a name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    check_choice("variant", name, variants)
    return variants[name]


class NetworkTracker(SiameseTracker):
    """Runs the network of a variant; subclasses write `_decode`, and say which variant.

    Args:
        shapes: how many boxes are proposed per cell.
        weights: an official checkpoint of the variant, as a path or a state dict, or None for the registry's file.
        device: where the network runs, see `resolve_device`.
        precision: out of `PRECISIONS`; half of the bits make it faster where the device multiplies them, and less exact.
        build: what makes the engine for the comparison with each frame.
        settings: instead of the variant's, see `Settings`.

    Raises:
        ConfigError: a setting out of its range, an unknown precision, or a device that is not here.
    """

    __signature__ = keyword_signature(*OPTIONS, settings=Settings)

    def __init__(
        self,
        variant: Variant,
        shapes: int,
        *,
        weights: Weights = None,
        device: str = "cpu",
        precision: str = "float32",
        build: EngineBuilder = fastest_engine,
        **settings: float,
    ) -> None:
        window = np.tile(hann_window(variant.score_size), shapes)
        super().__init__(replace(variant.settings, **settings), window, variant.instance_size)
        check_choice("precision", precision, PRECISIONS)
        device, dtype = resolve_device(device), PRECISIONS[precision]
        network = variant.network()
        load_into(network, load_checkpoint(weights, variant.weights))
        fold(network)
        self._template = TorchEngine(Template(network), device, dtype)
        self._kernels = self._template.keep(np.zeros((EXEMPLAR_SIZE_PX, EXEMPLAR_SIZE_PX, 3), np.uint8))
        crop = torch.zeros(variant.instance_size, variant.instance_size, 3, dtype=torch.uint8)
        self._comparison = build(Comparison(network), [crop, *self._kernels], device, dtype)

    def _decode(self, loc: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's boxes `(4, N)` to those of `Candidates`."""
        raise NotImplementedError

    def _set_template(self, crop_rgb: ImageRGB) -> None:
        self._kernels = self._template.keep(crop_rgb)

    def _compare(self, crop_rgb: ImageRGB) -> Candidates:
        scores, loc = self._comparison.run(crop_rgb, *self._kernels)
        return Candidates(scores, self._decode(loc))
