"""`python -m benchmarks trackers`: cost of every deep tracker, beside OpenCV's TrackerNano on the same frames in the same run."""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.options import add_device, device_name, synchronise
from benchmarks.random_weights import random_networks, random_weights
from benchmarks.recordings import shared_folder
from benchmarks.tracker_nano import NAME as REFERENCE
from benchmarks.tracker_nano import tracker_nano
from sftrack import engine
from sftrack.contracts import BoxXYWH, ImageRGB, Tracker
from sftrack.datasets import read_sequence
from sftrack.errors import MissingWeightsError
from sftrack.trackers import create, nanotrack, siamban, siamrpn
from sftrack.weights.bundled import parameter_count
from sftrack.workers import limit_library_threads

REFERENCE_FOR = "nanotrack-v2"
"""The tracker that has the same weights as the reference."""

COUNTED = 20
"""Frames over which the multiply-accumulates of a tracker that learns are averaged: the most between regular updates of a filter."""


@dataclass(frozen=True)
class Candidate:
    """A tracker that can be timed.

    Attributes:
        tracker: its registered name.
        variant: of SiamRPN++ and SiamBAN, else none.
        learns: a filter while it follows, so that what it computes per frame depends on what it sees.
    """

    tracker: str
    variant: str = ""
    learns: bool = False

    @property
    def label(self) -> str:
        """How the tables call it."""
        return f"{self.tracker} {self.variant}".rstrip()

    def build(self, device: str = "cpu", precision: str = "float32") -> Tracker:
        """With the published weights if they are on this machine, else with random ones, which cost the same per pass."""
        chosen = ({"variant": self.variant} if self.variant else {}) | ({} if self.learns else {"precision": precision})
        try:
            return create(self.tracker, device=device, **chosen)
        except MissingWeightsError:
            return create(self.tracker, device=device, **chosen, **random_weights(self.tracker, self.variant))


def candidates() -> Iterator[Candidate]:
    """Every deep tracker, one entry per network."""
    for version in (nanotrack.V2, nanotrack.V3):
        yield Candidate(version.weights)
    for tracker, variants in (("siamrpn++", siamrpn.VARIANTS), ("siamban", siamban.VARIANTS)):
        for name in variants:
            if not name.endswith("_otb"):  # other settings, same cost
                yield Candidate(tracker, name)
    for tracker in ("prdimp18", "atom18", "d3s", "dimp18", "dimp50", "prdimp50", "super_dimp"):
        yield Candidate(tracker, learns=True)


@dataclass
class Times:
    """Milliseconds of one tracker, one number per round: the start, and the median over the frames that follow."""

    init_ms: list[float] = field(default_factory=list)
    update_ms: list[float] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks trackers", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS and weights/nanotrack")
    parser.add_argument("--sequence", default="dog", help="sequence of DAVIS (854x480)")
    parser.add_argument("--only", default="", help="trackers whose name contains this text")
    parser.add_argument("--rounds", type=int, default=3, help="how often all trackers take their turn; the spread is over these")
    parser.add_argument("--seconds", type=float, default=2.0, help="most time for one tracker in one round")
    parser.add_argument("--memory", type=int, default=0, metavar="FRAMES", help="show memory over so many frames instead of times")
    parser.add_argument("--precision", choices=tuple(engine.PRECISIONS), default="float32", help="of the trackers that do not learn")
    add_device(parser)
    options = parser.parse_args(arguments)
    shared = shared_folder(options.shared)
    sequence = read_sequence("DAVIS", shared / "data" / "DAVIS", options.sequence)
    frames, box = list(sequence.frames()), sequence.boxes_xywh[0]
    chosen = [candidate for candidate in candidates() if options.only in candidate.label]
    if options.memory:
        show_memory(chosen, frames, box, options.memory, options.device, options.precision)
        return 0
    show_cost(chosen, frames, box)
    trackers: dict[str, Tracker] = {}
    reference = tracker_nano(shared)
    if reference is None:
        print(f"{REFERENCE} is left out: no ONNX files under {shared}/weights/nanotrack")
    else:
        trackers[REFERENCE] = create(reference.tracker, **reference.params)
    for threads in (1, 2) if options.device == "cpu" else (1,):
        torch.set_num_threads(threads)
        limit_library_threads(threads)
        # Anew: engines keep the number they were made with.
        trackers |= {candidate.label: candidate.build(options.device, options.precision) for candidate in chosen}
        print(f"\n{device_name(options.device)}, {threads} thread{'s' if threads > 1 else ''}")
        show_times(measure(trackers, frames, box, options.rounds, options.seconds, options.device))
    return 0


class Multiplications(TorchDispatchMode):
    """Counts the multiply-accumulates of what PyTorch runs: convolutions and matrix products, by the formulas of its own flop counter.

    That one (`FlopCounterMode`) also follows modules, which fails where a gradient is taken by `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    def __torch_dispatch__(
        self, function: OpOverload, types: Sequence[type], args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        named, formula = kwargs or {}, flop_registry.get(function._overloadpacket)
        if formula is None:
            with self:  # in inference mode some come as the whole that they are
                parts = function.decompose(*args, **named)
            if parts is not NotImplemented:
                return parts
        result: Tensor = function(*args, **named)
        if formula is not None:
            self.count += formula(*args, **named, out_val=result) / 2
        return result


def show_cost(chosen: Sequence[Candidate], frames: Sequence[ImageRGB], box: BoxXYWH) -> None:
    """Parameters, and multiply-accumulates at the start and per frame, counted while PyTorch runs the tracker."""
    print(f"{'':24s}{'parameters':>14s}{'MAC init':>12s}{'MAC frame':>12s}")
    has_onnxruntime = engine.has_onnxruntime
    for candidate in chosen:
        parameters = sum(parameter_count(network) for network in random_networks(candidate.tracker, candidate.variant).values())
        engine.has_onnxruntime = lambda: False  # the counter sees only what PyTorch runs
        try:
            tracker = candidate.build()
        finally:
            engine.has_onnxruntime = has_onnxruntime
        with Multiplications() as at_start:
            tracker.init(frames[0], box)
        later = frames[1 : 1 + (COUNTED if candidate.learns else 1)]
        with Multiplications() as per_frame:
            for frame in later:
                tracker.update(frame)
        print(f"{candidate.label:24s}{parameters:14,d}{at_start.count / 1e6:10,.0f} M{per_frame.count / len(later) / 1e6:10,.0f} M")


def show_memory(chosen: Sequence[Candidate], frames: Sequence[ImageRGB], box: BoxXYWH, count: int, device: str, precision: str) -> None:
    """Resident memory of the process in the course of a long run of each tracker, on the clip forth and back; choose one with `--only`.

    What a GPU holds is not part of it.
    """
    process, there_and_back = psutil.Process(), [*frames, *frames[-2:0:-1]]
    marks = sorted({mark for mark in (100, count // 4, count // 2, count) if 0 < mark <= count})
    for candidate in chosen:
        tracker = candidate.build(device, precision)
        tracker.init(frames[0], box)
        shown = []
        for index in range(1, count + 1):
            tracker.update(there_and_back[index % len(there_and_back)])
            if index in marks:
                shown.append(f"{process.memory_info().rss / 2**20:.0f} MB after {index}")
        print(f"{candidate.label:24s}{', '.join(shown)} frames", flush=True)


def measure(
    trackers: Mapping[str, Tracker], frames: Sequence[ImageRGB], box: BoxXYWH, rounds: int, limit_s: float, device: str
) -> dict[str, Times]:
    """All trackers in turn, several times over, so that a busy moment of the machine hits them alike."""
    times = {label: Times() for label in trackers}
    for tracker in trackers.values():
        _run(tracker, frames[:4], box, limit_s, device)  # the first frames are slow everywhere
    for _ in range(rounds):
        for label, tracker in trackers.items():
            init_s, update_s = _run(tracker, frames, box, limit_s, device)
            times[label].init_ms.append(1000.0 * init_s)
            times[label].update_ms.append(1000.0 * float(np.median(update_s)))
    return times


def _run(tracker: Tracker, frames: Sequence[ImageRGB], box: BoxXYWH, limit_s: float, device: str) -> tuple[float, list[float]]:
    began = time.perf_counter()
    tracker.init(frames[0], box)
    synchronise(device)
    init_s, update_s = time.perf_counter() - began, []
    for frame in frames[1:]:
        start = time.perf_counter()
        tracker.update(frame)
        synchronise(device)  # some learn on after they have answered
        update_s.append(time.perf_counter() - start)
        if time.perf_counter() - began > limit_s:
            break
    return init_s, update_s


def show_times(times: Mapping[str, Times]) -> None:
    """Medians over the rounds, and the least and the most."""
    print(f"{'':24s}{'init ms':>32s}{'update ms':>32s}{'frames/s':>12s}")
    for label, measured in times.items():
        init, update = (_spread(values) for values in (measured.init_ms, measured.update_ms))
        print(f"{label:24s}{init:>32s}{update:>32s}{1000.0 / np.median(measured.update_ms):12.1f}")
    if REFERENCE in times and REFERENCE_FOR in times:
        ratios = np.array(times[REFERENCE].update_ms) / np.array(times[REFERENCE_FOR].update_ms)
        print(f"{REFERENCE_FOR} has {_spread(ratios.tolist())} times the frames/s of {REFERENCE}, same weights, round by round")


def _spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
