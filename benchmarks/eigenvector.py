"""`python -m benchmarks eigenvector`: Fig. 4, how near SFSeg comes to the exact eigenvector, and Sec. 4.5, the online window."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.figures import new_figure, save_figure
from benchmarks.options import figure_parser
from sftrack.arguments import at_least
from sftrack.metrics import jaccard
from sftrack.spectral import OnlineSFSeg, exact, power_step, sfseg
from sftrack.spectral.iteration import scale_to
from sftrack.workers import pin_to_one_thread

SHAPE = (8, 28, 36)
START_DEG = 70.0
ALPHAS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
POWERS = (0.1, 0.2, 0.5)
"""The paper's 0.1 and 0.2, and the 0.5 of its published code."""
ITERATIONS = 60
SHOWN = (0, 1, 2, 3, 5, 7, 10, 20, 30, 60)
JUDGED_FROM = 20
"""Frame of the online table from which on the window has settled."""


def main(arguments: list[str]) -> int:
    """Print the tables and draw the plots."""
    parser = figure_parser("eigenvector", __doc__)
    parser.add_argument("--frames", type=at_least(JUDGED_FROM + 1), default=100, help="length of the video of the online table")
    options = parser.parse_args(arguments)
    pin_to_one_thread()
    show_convergence(options.out)
    show_approximation()
    show_online(options.frames)
    return 0


def video(shape: tuple[int, int, int], seed: int = 0, speed: float = 1.0) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """A disc on a winding path, float64: how a segmentation method sees it, a feature map (like flow magnitude), and the truth.

    The soft segmentation has a blurred border, patches that are missing and patches too many,
    in every frame elsewhere; the feature map is noisy.
    """
    rng = np.random.default_rng(seed)
    frames, height, width = shape
    ys, xs = np.mgrid[:height, :width] + 0.5
    s, f = np.zeros((2, *shape))
    truth = np.zeros(shape, dtype=np.bool_)
    radius = 0.25 * height
    for t in range(frames):
        center = width * (0.5 + 0.2 * np.sin(speed * t / 9.0)), height * (0.5 + 0.15 * np.cos(speed * t / 7.0))
        distance = np.hypot(xs - center[0], ys - center[1])
        truth[t] = distance < radius
        soft = 1.0 / (1.0 + np.exp((distance - radius) / 0.8))
        patches = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 2.0)
        patches /= patches.std()
        s[t] = np.clip(
            0.05 + 0.9 * soft - 0.35 * soft * np.maximum(patches - 0.8, 0.0) + 0.35 * (1.0 - soft) * np.maximum(-patches - 1.2, 0.0),
            0.0,
            1.0,
        )
        f[t] = np.clip(0.2 + 0.6 * soft + 0.05 * rng.standard_normal((height, width)), 0.0, 1.0)
    return torch.from_numpy(s), torch.from_numpy(f), truth


def start_away(vector: NDArray[np.float64], degrees: float) -> Tensor:
    """A volume at an angle to the eigenvector, in a random direction."""
    other = np.random.default_rng(0).standard_normal(vector.size)
    other -= (other @ vector) * vector
    other /= np.linalg.norm(other)
    radians = np.radians(degrees)
    return torch.from_numpy((np.cos(radians) * vector + np.sin(radians) * other).reshape(SHAPE))


def largest(values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Mask `(T * H, W)` of the `count` largest values of a volume: a threshold that does not depend on scale."""
    chosen = values >= np.partition(values.ravel(), -count)[-count]
    return np.asarray(chosen.reshape(-1, values.shape[-1]))


def show_convergence(out: Path) -> None:
    """Angle and IoU of the SFSeg iterate (Eq. 2, filters) to the exact eigenvector of Eq. 1."""
    s, f, truth = video(SHAPE)
    count = int(truth.sum())
    print(f"SFSeg iterate against the exact eigenvector of Eq. 1, {s.numel()} nodes, start {START_DEG:g} degrees away; kernel 5x5x5")
    print(
        f"  {'p':>5s}{'alpha':>7s}  "
        + "".join(f"{f'it {iteration}':>8s}" for iteration in SHOWN)
        + "   (angle in degrees / IoU of as many pixels as the object has)"
    )
    figure, axes = new_figure(2)
    for p in POWERS:
        for alpha in (0.5, 1.0):
            _, vector = exact.leading_eigenvector(exact.adjacency(s, f, p=p, alpha=alpha, affinity="exponential"))
            wanted = largest(vector.reshape(SHAPE), count)
            x, angles, overlaps = start_away(vector, START_DEG), [], []
            for iteration in range(ITERATIONS + 1):
                if iteration:
                    x = power_step(x, s, f, p=p, alpha=alpha)
                    x = x / x.norm()
                angles.append(exact.angle_deg(x, vector))
                overlaps.append(jaccard(largest(x.numpy(), count), wanted))
            label = f"p={p:g}, alpha={alpha:g}"
            print(f"  {p:5g}{alpha:7g}  " + "".join(f"{angles[iteration]:8.2f}" for iteration in SHOWN))
            print(f"  {'':14s}" + "".join(f"{overlaps[iteration]:8.3f}" for iteration in SHOWN))
            axes[0].semilogy(angles, label=label)
            axes[1].plot(overlaps, label=label)
    axes[0].axhline(5.0, color="black", linewidth=0.8, linestyle=":")
    axes[0].set(xlabel="iteration", ylabel="angle to the eigenvector (degrees)")
    axes[1].set(xlabel="iteration", ylabel="IoU with its segmentation")
    axes[1].legend(fontsize="small")
    save_figure(figure, out, "spectral_eigenvector")


def show_approximation() -> None:
    """For which alpha the first-order kernel stands for the exponential one."""
    s, smooth, truth = video(SHAPE)
    noise = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    count = int(truth.sum())
    print("\nfirst order (Eq. 2) against exponential (Eq. 1), p = 0.2: exact eigenvectors of both, and what 100 filter iterations give")
    print(f"  {'features':10s}{'alpha':>7s}{'negative entries':>18s}{'angle':>9s}{'IoU':>8s}{'filters, angle':>16s}{'their IoU':>11s}")
    for name, f in (("smooth", smooth), ("noise", noise)):
        for alpha in ALPHAS:
            matrices = [exact.adjacency(s, f, p=0.2, alpha=alpha, affinity=affinity) for affinity in ("exponential", "first_order")]
            exponential, first_order = (exact.leading_eigenvector(matrix)[1].reshape(SHAPE) for matrix in matrices)
            x = s / s.norm()
            for _ in range(100):
                x = power_step(x, s, f, p=0.2, alpha=alpha).clamp_min(0.0)
                x = x / x.norm()
            wanted = largest(exponential, count)
            row = f"  {name:10s}{alpha:7g}{float((matrices[1].data < 0.0).mean()):17.1%} "
            for found, width in ((first_order, 8), (x.numpy(), 16)):
                row += f"{exact.angle_deg(exponential, found):{width}.2f}{jaccard(largest(found, count), wanted):{width * 3 // 8 + 5}.3f}"
            print(row)


def show_online(frames: int) -> None:
    """The online window against the whole video: which frames and iterations are enough (Sec. 4.5)."""
    settings = {"p": 0.1, "alpha": 0.5}
    judged = range(JUDGED_FROM, frames)
    for scene, speed in (("resting", 0.0), ("moving", 1.0)):
        soft, _, truth = video((frames, 60, 80), seed=3, speed=speed)
        s = soft.float()
        iterate = sfseg(s, iterations=5, binarize_after=5, **settings)
        whole = scale_to(iterate, s.sum((-2, -1), keepdim=True)).clamp_max(1.0).numpy()  # as the online form does it

        def score(found: Sequence[NDArray[np.float32]], truth: NDArray[np.bool_] = truth) -> float:
            return float(np.mean([jaccard(found[t] >= 0.5, truth[t]) for t in judged]))

        print(f"\nonline window, {scene} object, {frames} frames of 60x80, means from frame {JUDGED_FROM} on; {settings}, kernel 5x5x5")
        print(f"  J of the input {score(s.numpy()):.3f}, of the whole video's segmentation (5 iterations) {score(whole):.3f}")
        starts = "".join(f"{start + ': angle':>14s}{'IoU':>8s}{'J':>8s}" for start in ("cold", "warm"))
        print(f"  {'frames':>8s}{'iterations':>12s}{starts}   (angle and IoU: to the whole video's)")
        for window in (1, 2, 3, 5, 9):
            for iterations in (1, 2, 3, 5):
                row = ""
                for warm in (False, True):
                    spectral = OnlineSFSeg(window, iterations=iterations, warm_start=warm, **settings)
                    found = [spectral.push(frame) for frame in s.numpy()]
                    angle = np.mean([exact.angle_deg(found[t], whole[t]) for t in judged])
                    row += f"{angle:14.2f}{score(found, whole >= 0.5):8.3f}{score(found):8.3f}"
                print(f"  {window:8d}{iterations:12d}{row}")
