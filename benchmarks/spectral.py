"""`python -m benchmarks spectral`: milliseconds per frame of one spectral iteration, and Fig. 2: 100 iterations against number of nodes."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from torch import Tensor
from torch.nn import functional

from benchmarks.figures import new_figure, save_figure
from benchmarks.options import add_device, device_name, figure_parser, synchronise
from sftrack.arguments import at_least
from sftrack.spectral import OnlineSFSeg, exact, power_step, sfseg
from sftrack.spectral.gaussian import KernelSize, gaussian
from sftrack.spectral.power import BatchGraph, TensorGraph
from sftrack.workers import pin_to_one_thread

SIZE_HW = (480, 854)
KERNEL: KernelSize = (5, 5, 5)
P, ALPHA = 0.2, 1.0
WARM_UP_GPU_S = 0.5
"""A GPU raises its clock only while it works, and runs take 2 ms."""
SHORTEST = 10
"""Frames of which the published way filters two."""
VOLUMES = [(8, 16, 16), (8, 32, 32), (8, 64, 64), (10, 100, 100)]
"""Of which the explicit matrix is built; 100,000 nodes have 10 million entries."""
LARGER = [(10, 240, 427), (10, 480, 854)]
"""For the filters only."""


def main(arguments: list[str]) -> int:
    """Print both tables and draw the second."""
    parser = figure_parser("spectral", __doc__)
    parser.add_argument("--frames", type=at_least(SHORTEST), default=20, help="length of the volume of the first table")
    parser.add_argument(
        "--repeats", type=at_least(1), help="runs per row, of which the fastest and the median are shown (default 7, on a GPU 100)"
    )
    add_device(parser)
    options = parser.parse_args(arguments)
    pin_to_one_thread()
    if options.device != "cpu":
        show_gpu(options.device, options.frames, options.repeats or 100)
        return 0
    show_speed(options.frames, options.repeats or 7)
    show_scaling(options.out)
    return 0


def show_speed(frames: int, repeats: int) -> None:
    """One iteration of a whole volume, per frame, beside the published code's way of computing it."""
    s, f = torch.rand(2, frames, *SIZE_HW, generator=torch.Generator().manual_seed(0))
    graph = {"p": P, "alpha": ALPHA, "kernel_size": KERNEL}
    fast, tensors = BatchGraph(s, [f], **graph), TensorGraph(s, [f], **graph)
    double = s.double()
    doubles = BatchGraph(double, [f.double()], **graph)
    few = slice(0, SHORTEST)
    published_ms, check = measure(lambda: published_step(s[few], s[few], f[few]), 2, repeats=3)
    difference = float((check - fast.multiply(s[few])[4:6]).abs().max())
    rows = [
        ("published way (dense 3D windows), per filtered frame", published_ms),
        ("one iteration (s^p at hand)", measure(lambda: fast.multiply(s), frames, repeats)[0]),
        ("power_step (checks and s^p included)", measure(lambda: power_step(s, s, f, **graph), frames, repeats)[0]),
        ("sfseg, 5 iterations, all included, per iteration", measure(lambda: sfseg(s, f, **graph), 5 * frames, 3)[0]),
        ("one iteration, tensor form (for gradients)", measure(lambda: tensors.multiply(s), frames, 3)[0]),
        ("the same, two feature maps", measure(lambda: BatchGraph(s, [f, s], **graph).multiply(s), frames, 3)[0]),
        ("one iteration, float64", measure(lambda: doubles.multiply(double), frames, 3)[0]),
    ]
    print(f"one iteration, {SIZE_HW[0]}x{SIZE_HW[1]}, kernel {KERNEL}, one CPU thread, ms per frame: fastest and median")
    for name, (best, median) in rows:
        print(f"  {name:56s}{best:9.2f}{median:9.2f}   {published_ms[0] / best:7.1f} times the published way's speed")
    print(f"  largest difference to the published way, first iteration: {difference:.1e}")
    crop = np.random.default_rng(0).random((112, 112), dtype=np.float32)
    online = OnlineSFSeg(5)
    best, median = measure(lambda: [online.push(crop) for _ in range(20)], 20, repeats)[0]
    print(f"  {'OnlineSFSeg.push, window of 5, 112x112':56s}{best:9.2f}{median:9.2f}")


def show_gpu(device: str, frames: int, repeats: int) -> None:
    """The same on a GPU, where the tensor form is used; wall time, with everything done before each look at the clock."""
    s, f = torch.rand(2, frames, *SIZE_HW, generator=torch.Generator().manual_seed(0))
    graph = {"p": P, "alpha": ALPHA, "kernel_size": KERNEL}
    s_there, f_there = s.to(device), f.to(device)
    at_hand = TensorGraph(s_there, [f_there], **graph)
    once, result = measure(lambda: at_hand.multiply(s_there), frames, repeats, device)
    rows = [
        ("one iteration (s^p at hand)", once),
        (
            "power_step (checks and s^p included)",
            measure(lambda: power_step(s_there, s_there, f_there, **graph), frames, repeats, device)[0],
        ),
        (
            "sfseg, 5 iterations, all included, per iteration",
            measure(lambda: sfseg(s_there, f_there, **graph), 5 * frames, repeats, device)[0],
        ),
    ]
    print(f"one iteration, {SIZE_HW[0]}x{SIZE_HW[1]}, kernel {KERNEL}, {device_name(device)}, ms per frame: fastest and median")
    for name, (best, median) in rows:
        print(f"  {name:56s}{best:9.3f}{median:9.3f}")
    difference = float((result.cpu() - BatchGraph(s, [f], **graph).multiply(s)).abs().max())
    print(f"  largest difference to the CPU, first iteration: {difference:.1e}")


def measure(
    run: Callable[[], Tensor | list[np.ndarray]], frames: int, repeats: int, device: str = "cpu"
) -> tuple[tuple[float, float], Tensor]:
    """Milliseconds per frame (fastest and median run), and what the last run returned; the first runs are left out.

    Of processor time on a CPU: on one thread that is the time it takes, and what other programs do to the clock on the wall is left out.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter

    def timed() -> tuple[float, Tensor | list[np.ndarray]]:
        began = clock()
        result = run()
        synchronise(device)
        return clock() - began, result

    warm_s, _ = timed()
    while device != "cpu" and warm_s < WARM_UP_GPU_S:
        warm_s += timed()[0]
    seconds = []
    for _ in range(repeats):
        taken_s, result = timed()
        seconds.append(taken_s)
    return (min(seconds) * 1e3 / frames, float(np.median(seconds)) * 1e3 / frames), result


def published_step(x: Tensor, s: Tensor, f: Tensor) -> Tensor:
    """One iteration before its normalisation as the published code computes it.

    Around every frame it cuts a window of `4m + 1` frames, filters all of it with dense 3D kernels, and keeps the middle frame; `m` is half
    the kernel's length in time. The first and last `2m` frames get none.
    """
    in_time, in_y, in_x = (torch.tensor(gaussian(size), dtype=torch.float32) for size in KERNEL)
    kernel = (in_time[:, None, None] * in_y[:, None] * in_x)[None, None]
    pad, half = (0, KERNEL[1] // 2, KERNEL[2] // 2), KERNEL[0] // 2

    def smooth(volume: Tensor) -> Tensor:
        return functional.conv3d(volume[None, None], kernel, padding=pad)[0, 0]

    steps = []
    for frame in range(2 * half, len(x) - 2 * half):
        window = slice(frame - 2 * half, frame + 2 * half + 1)
        unary, feature = s[window] ** P, f[window]
        y = unary * x[window]
        a, b, c = smooth(y), smooth(feature**2 * y), smooth(feature * y)
        unary, feature = unary[half:-half], feature[half:-half]
        step = unary * (a - ALPHA * a * feature**2 + ALPHA * (2.0 * feature * c - b))
        steps.append(step[half])
    return torch.stack(steps)


def show_scaling(out: Path) -> None:
    """Fig. 2: 100 Lanczos iterations on the explicit matrix, with its building, against 100 iterations of filters."""
    print("\n100 iterations on one CPU thread, seconds")
    print(f"  {'nodes':>9s}{'matrix':>10s}{'Lanczos':>10s}{'both':>10s}{'filters':>10s}{'ratio':>8s}{'matrix MB':>11s}")
    nodes, both, filters = [], [], []
    for shape in VOLUMES + LARGER:
        s, f = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
        began = time.process_time()
        sfseg(s, f, p=P, alpha=ALPHA, kernel_size=KERNEL, iterations=100, binarize_after=100)
        filters.append(time.process_time() - began)
        nodes.append(s.numel())
        if shape in LARGER:
            print(f"  {s.numel():9d}{'':40s}{filters[-1]:10.3f}")
            continue
        began = time.process_time()
        matrix = exact.adjacency(s, f, p=P, alpha=ALPHA, kernel_size=KERNEL)
        built = time.process_time() - began
        began = time.process_time()
        hundred_lanczos_iterations(matrix)
        lanczos = time.process_time() - began
        both.append(built + lanczos)
        size_mb = (matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes) / 1e6
        row = "".join(f"{value:10.3f}" for value in (built, lanczos, both[-1], filters[-1]))
        print(f"  {s.numel():9d}{row}{both[-1] / filters[-1]:8.1f}{size_mb:11.0f}")
    figure, [axes] = new_figure()
    axes.loglog(nodes[: len(both)], both, "o-", label="explicit matrix and Lanczos")
    axes.loglog(nodes, filters, "s-", label="filters (SFSeg)")
    axes.set(xlabel="nodes (pixels of the volume)", ylabel="seconds for 100 iterations", title="One CPU thread, kernel 5x5x5")
    axes.legend()
    save_figure(figure, out, "spectral_scaling")


def hundred_lanczos_iterations(matrix: exact.Matrix) -> None:
    """As many restarts of 20 Lanczos vectors as make 100 multiplications, whether that suffices for the eigenvector or not."""
    with contextlib.suppress(ArpackNoConvergence):
        eigsh(matrix, k=1, which="LA", ncv=20, maxiter=8, v0=np.ones(matrix.shape[0]))
