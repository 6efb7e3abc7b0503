"""`python -m benchmarks noise`: Table 4 and Fig. 9, SFSeg++ when channels are replaced by noise; Table 5, networks instead of it.

Channels on the DAVIS sequences at a quarter of their size: the published masks of OSVOS and RVOS, and four poorer versions of these. Each
kind of noise takes the place of the last two. Weights are learned on half of the videos and judged on the other half.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.figures import new_figure, save_figure
from benchmarks.options import figure_parser
from benchmarks.recordings import shared_folder
from sftrack.arguments import at_least
from sftrack.datasets import read_sequence, sequence_names
from sftrack.datasets.sequence import image_files, read_mask
from sftrack.metrics import jaccard
from sftrack.spectral import FitSettings, SFSegPlusPlus, fit, power_step, sfseg
from sftrack.spectral.gaussian import KernelSize
from sftrack.spectral.iteration import SLOPE, normalise
from sftrack.workers import pin_to_one_thread

SIZE_WH = (216, 120)
CHANNELS = ("OSVOS", "RVOS", "OSVOS eroded", "RVOS dilated", "OSVOS shifted", "RVOS late")
REPLACED = 2
RATE = 0.3

Video = tuple[Tensor, Tensor]
"""Channels `(C, T, H, W)` and true mask `(T, H, W)`."""


def main(arguments: list[str]) -> int:
    """Print the tables and draw the weights."""
    parser = figure_parser("noise", __doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS and data/published_masks")
    parser.add_argument("--frames", type=at_least(1), default=20, help="first frames of each video that are used")
    parser.add_argument("--epochs", type=at_least(1), default=40, help="at most; training ends when validation gets no better")
    options = parser.parse_args(arguments)
    pin_to_one_thread()
    data = shared_folder(options.shared) / "data"
    videos = {name: read_video(data, name, options.frames) for name in sequence_names("DAVIS", data / "DAVIS")}
    names = sorted(videos)
    learned, judged = names[::2], names[1::2]
    print(f"learned on {', '.join(learned)}; judged on {', '.join(judged)}; mean J of the judged videos")
    settings = FitSettings(epochs=options.epochs, rate=RATE)
    weights = show_noise(videos, learned, judged, settings)
    show_uncentred(videos, learned, judged, settings)
    draw(weights, options.out)
    show_modes(videos)
    show_networks(videos, learned, judged, options.epochs)
    return 0


def read_video(data: Path, name: str, frames: int) -> Video:
    """The six channels and the truth of a sequence."""
    sequence = read_sequence("DAVIS", data / "DAVIS", name)
    chosen = range(min(len(sequence), frames))
    osvos, rvos = (
        np.stack([small(read_mask(path)) for path in image_files(data / "published_masks" / method / name)[: len(chosen)]])
        for method in ("osvos", "rvos")
    )
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    channels = [
        osvos,
        rvos,
        np.stack([cv2.erode(mask, ellipse) for mask in osvos]),
        np.stack([cv2.dilate(mask, ellipse) for mask in rvos]),
        np.roll(osvos, (4, 8), axis=(1, 2)),
        np.roll(rvos, 5, axis=0),
    ]
    truth = np.stack([small(sequence.mask(index)) >= 0.5 for index in chosen])
    return torch.from_numpy(np.stack(channels)), torch.from_numpy(truth).float()


def small(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A mask at `SIZE_WH`: the covered part of each pixel."""
    return np.asarray(cv2.resize(mask.astype(np.float32), SIZE_WH, interpolation=cv2.INTER_AREA), dtype=np.float32)


def uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Every pixel anything in [0, 1]."""
    return rng.random(shape, dtype=np.float32)


def salt_and_pepper(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Every pixel 0 or 1."""
    return (rng.random(shape) < 0.5).astype(np.float32)


def rectangles(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Black and white rectangles over each other, others in every frame: they look like segmentations."""
    planes = np.zeros(shape, np.float32).reshape(-1, *shape[-2:])
    for plane in planes:
        for value in (1.0, 0.0, 1.0, 0.0, 1.0):
            x, y = rng.integers(0, shape[-1]), rng.integers(0, shape[-2])
            plane[y : y + rng.integers(10, shape[-2] // 2), x : x + rng.integers(10, shape[-1] // 2)] = value
    return planes.reshape(shape)


NOISES: dict[str, Callable[[tuple[int, ...], np.random.Generator], NDArray[np.float32]]] = {
    "uniform": uniform,
    "salt and pepper": salt_and_pepper,
    "rectangles": rectangles,
}


def with_noise(videos: dict[str, Video], noise: str) -> dict[str, Video]:
    """The same videos with the last channels replaced."""
    rng = np.random.default_rng(0)
    changed = {}
    for name, (channels, truth) in videos.items():
        kept = channels.clone()
        kept[-REPLACED:] = torch.from_numpy(NOISES[noise]((REPLACED, *truth.shape), rng))
        changed[name] = kept, truth
    return changed


def mean_jaccard(segment: Callable[[Tensor], Tensor], videos: Sequence[Video]) -> float:
    """Mean over videos of the mean J of their frames, at a threshold of 0.5."""
    scores = []
    for channels, truth in videos:
        with torch.inference_mode():
            found = segment(channels[None])[0]
        frames = zip((found >= 0.5).numpy(), (truth >= 0.5).numpy(), strict=True)
        scores.append(np.mean([jaccard(mask, true) for mask, true in frames]))
    return float(np.mean(scores))


def learn(model: nn.Module, videos: dict[str, Video], learned: Sequence[str], settings: FitSettings) -> tuple[nn.Module, float, int]:
    """The trained model, the seconds of processor time that it took, and the number of epochs."""
    began = time.process_time()
    result = fit(model, [videos[name] for name in learned], settings=settings)
    return model, time.process_time() - began, len(result.training_loss)


def new_model(shared: bool = True, kind: type[SFSegPlusPlus] = SFSegPlusPlus) -> SFSegPlusPlus:
    """Few iterations and a small neighbourhood, as the pictures are small and the objects move by several pixels per frame."""
    return kind(len(CHANNELS), shared, iterations=2, binarize_after=1, kernel_size=(3, 5, 5))


class Uncentred(SFSegPlusPlus):
    """Learned in the weights and bias of Eq. 9 as they are."""

    @contextmanager
    def centred(self) -> Iterator[None]:
        """Change nothing."""
        yield


def show_noise(
    videos: dict[str, Video], learned: Sequence[str], judged: Sequence[str], settings: FitSettings
) -> dict[str, tuple[NDArray[np.float32], list[str]]]:
    """Table 4: learned weights and segmentations with and without noise; returns weights and channel names by kind of noise."""
    print(f"\nchannels alone: {', '.join(f'{name} {value:.3f}' for name, value in alone(videos, judged).items())}")
    print(f"  {'replaced by':18s}{'mean of channels':>18s}{'SFSeg, mean':>13s}{'SFSeg++':>9s}{'seconds':>9s}{'epochs':>8s}   weights; bias")
    weights = {}
    for noise in ("nothing", *NOISES):
        given = videos if noise == "nothing" else with_noise(videos, noise)
        names = [*CHANNELS[: len(CHANNELS) - REPLACED], *(CHANNELS[-REPLACED:] if noise == "nothing" else [noise] * REPLACED)]
        test = [given[name] for name in judged]
        untrained = mean_jaccard(new_model(), test)
        model, seconds, epochs = learn(new_model(), given, learned, settings)
        found, shown = weights_of(model)
        row = f"{mean_jaccard(lambda channels: channels.mean(1), test):18.3f}{untrained:13.3f}{mean_jaccard(model, test):9.3f}"
        print(f"  {noise:18s}{row}{seconds:9.0f}{epochs:8d}   {shown}")
        weights[noise] = found, names
    return weights


def weights_of(model: nn.Module) -> tuple[NDArray[np.float32], str]:
    """Of the channels, and the same with the bias as text."""
    assert isinstance(model, SFSegPlusPlus)
    found = model.w_s.detach().numpy()
    return found, f"{' '.join(f'{weight:.2f}' for weight in found)}; {float(model.b_s.detach()):.2f}"


def show_uncentred(videos: dict[str, Video], learned: Sequence[str], judged: Sequence[str], settings: FitSettings) -> None:
    """Why `fit` takes its steps as if channels were centred: what becomes of the weights of noise where it does not."""
    print("\nthe same with steps in the weights and bias as they are, not those of centred channels")
    for noise in NOISES:
        given = with_noise(videos, noise)
        model, _, epochs = learn(new_model(kind=Uncentred), given, learned, settings)
        print(f"  {noise:18s}{mean_jaccard(model, [given[name] for name in judged]):40.3f}{'':9s}{epochs:8d}   {weights_of(model)[1]}")


def alone(videos: dict[str, Video], judged: Sequence[str]) -> dict[str, float]:
    """J of every channel by itself."""
    return {
        name: mean_jaccard(lambda channels, index=index: channels[:, index], [videos[video] for video in judged])
        for index, name in enumerate(CHANNELS)
    }


def draw(weights: dict[str, tuple[NDArray[np.float32], list[str]]], out: Path) -> None:
    """Fig. 9: bars of the weights, those of noise in another colour."""
    figure, axes = new_figure(len(weights), height=2.8, width=2.6)
    for axis, (noise, (found, names)) in zip(axes, weights.items(), strict=True):
        colours = ["tab:red" if name in NOISES else "tab:blue" for name in names]
        axis.barh(range(len(found)), found, color=colours)
        axis.set_yticks(range(len(found)), names, fontsize="small")
        axis.invert_yaxis()
        axis.set_title(f"replaced by {noise}", fontsize="small")
        axis.axvline(0.0, color="black", linewidth=0.8)
    save_figure(figure, out, "spectral_noise")


class Ensemble(nn.Module):
    """A small network over the channels, frame by frame (2D) or over space and time (3D): three layers of 3x3(x3) convolutions.

    In time, each layer sees the maps of the frame before and the frame after beside the frame's own, which is a 3D convolution, and on a
    CPU several times faster than PyTorch's.
    """

    def __init__(self, channels: int, in_time: bool, width: int = 8) -> None:
        super().__init__()
        self.in_time = in_time
        frames = 3 if in_time else 1
        sides = ((channels, width), (width, width), (width, 1))
        self.layers = nn.ModuleList([nn.Conv2d(frames * before, after, 3, padding=1) for before, after in sides])

    def forward(self, channels: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, T, H, W)` in [0, 1]."""
        return torch.stack([self._one(volume.transpose(0, 1)) for volume in channels])

    def _one(self, maps: Tensor) -> Tensor:
        """`(T, C, H, W)` to `(T, H, W)`."""
        for index, layer in enumerate(self.layers):
            if self.in_time:
                padded = functional.pad(maps, (0, 0, 0, 0, 0, 0, 1, 1))
                maps = torch.cat([padded[:-2], maps, padded[2:]], dim=1)
            maps = layer(maps if index == 0 else maps.relu())
        return torch.sigmoid(maps[:, 0])


def show_modes(videos: dict[str, Video]) -> None:
    """`sfseg` on one method's masks, softened by a pixel, all videos: the paper's form beside the published code's."""
    print(f"\n{'sfseg, p = 0.2, f = s: mean J of all videos':52s}{'OSVOS':>8s}{'RVOS':>8s}{'mean':>8s}")

    def row(name: str, segment: Callable[[Tensor], Tensor]) -> None:
        scores = []
        for index in range(2):
            soft = [(torch.from_numpy(soften(channels[index].numpy())), truth) for channels, truth in videos.values()]
            scores.append(mean_jaccard(segment, soft))
        print(f"{name:52s}{scores[0]:8.3f}{scores[1]:8.3f}{np.mean(scores):8.3f}")

    row("input", lambda s: s)
    for kernel_size in ((5, 5, 5), (3, 5, 5)):
        for iterations in (1, 5):
            settings = {"iterations": iterations, "binarize_after": min(iterations - 1, 3), "kernel_size": kernel_size}
            shown = f"{iterations} iterations, kernel {'x'.join(map(str, kernel_size))}"
            row(f"paper, {shown}", partial(sfseg, **settings))
            # The published code ends with a sigmoid of values in [0, 1].
            row(f"official, {shown}", lambda s, settings=settings: torch.logit(sfseg(s, mode="official", **settings)))
    sizes = {"sum": torch.sum, "peak": torch.amax, "L2 norm": torch.linalg.vector_norm}
    for name, size in sizes.items():
        frames = partial(size, dim=(-2, -1), keepdim=True)
        row(f"paper, 5 iterations, 3x5x5, frames scaled to {name}", partial(sfseg_scaled, size=frames, kernel_size=(3, 5, 5)))


def sfseg_scaled(s: Tensor, size: Callable[[Tensor], Tensor], kernel_size: KernelSize) -> Tensor:
    """`sfseg(s)`, except that frames of the solution get the `size` of the unary map's `(T, 1, 1)` where that takes the sum."""
    x = s
    for iteration in range(5):
        x = normalise(power_step(x, s, s, p=0.2, alpha=1.0, kernel_size=kernel_size).clamp_min(0.0))
        if iteration >= 3:
            x = torch.sigmoid(SLOPE * (x * (size(s) / size(x).clamp_min(1e-12)) - 0.5))
    return x


def soften(masks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hard borders leave nothing to refine: where `s` is 0, so is the segmentation."""
    return np.stack([cv2.GaussianBlur(mask, (0, 0), 1.0) for mask in masks])


def show_networks(videos: dict[str, Video], learned: Sequence[str], judged: Sequence[str], epochs: int) -> None:
    """Table 5: SFSeg++ beside networks that learn to join the same channels, in three times the epochs, as they learn more slowly."""
    count = len(CHANNELS)
    print(f"\n{'learned ensemble':24s}{'parameters':>11s}{'J learned on':>14s}{'J judged':>10s}{'seconds':>9s}{'epochs':>8s}")
    makers: dict[str, tuple[Callable[[], nn.Module], float, int]] = {
        "SFSeg++, shared": (new_model, RATE, epochs),
        "SFSeg++, not shared": (partial(new_model, shared=False), RATE, epochs),
        "2D network": (partial(Ensemble, count, in_time=False), 3e-3, 3 * epochs),
        "3D network": (partial(Ensemble, count, in_time=True), 3e-3, 3 * epochs),
    }
    for name, (make, rate, most) in makers.items():
        torch.manual_seed(0)
        model, seconds, took = learn(make(), videos, learned, FitSettings(epochs=most, rate=rate))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        known, unknown = (mean_jaccard(model, [videos[video] for video in part]) for part in (learned, judged))
        print(f"{name:24s}{parameters:11d}{known:14.3f}{unknown:10.3f}{seconds:9.0f}{took:8d}")
