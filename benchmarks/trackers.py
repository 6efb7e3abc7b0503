"""`python -m benchmarks trackers`: cost of every deep tracker, beside OpenCV's TrackerNano on the same frames in the same run."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.recordings import shared_folder
from benchmarks.tracker_nano import NAME as REFERENCE
from benchmarks.tracker_nano import tracker_nano
from sftrack import engine
from sftrack.contracts import BoxXYWH, ImageRGB, Tracker
from sftrack.datasets import read_sequence
from sftrack.errors import MissingWeightsError
from sftrack.trackers import create, nanotrack, siamban, siamrpn
from sftrack.weights.bundled import parameter_count

REFERENCE_FOR = "nanotrack-v2"
"""The tracker that has the same weights as the reference."""


@dataclass(frozen=True)
class Candidate:
    """A tracker that can be timed.

    Attributes:
        label: how the table calls it.
        tracker: its registered name.
        network: builds its network.
        params: settings for `create`.
    """

    label: str
    tracker: str
    network: Callable[[], nn.Module]
    params: Mapping[str, object] = field(default_factory=dict)

    def build(self) -> Tracker:
        """With the published weights if they are on this machine, else with random ones, which cost the same."""
        try:
            return create(self.tracker, **self.params)
        except MissingWeightsError:
            torch.manual_seed(0)
            return create(self.tracker, weights=self.network().state_dict(), **self.params)


def candidates() -> Iterator[Candidate]:
    """Every deep tracker, one entry per network."""
    for version in (nanotrack.V2, nanotrack.V3):
        yield Candidate(version.weights, version.weights, version.network)
    for tracker, variants in (("siamrpn++", siamrpn.VARIANTS), ("siamban", siamban.VARIANTS)):
        for name, variant in variants.items():
            if not name.endswith("_otb"):  # other settings, same cost
                yield Candidate(f"{tracker} {name}", tracker, variant.network, {"variant": name})


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
    parser.add_argument("--rounds", type=int, default=5, help="how often all trackers take their turn; the spread is over these")
    parser.add_argument("--seconds", type=float, default=2.0, help="most time for one tracker in one round")
    options = parser.parse_args(arguments)
    shared = shared_folder(options.shared)
    sequence = read_sequence("DAVIS", shared / "data" / "DAVIS", options.sequence)
    frames, box = list(sequence.frames()), sequence.boxes_xywh[0]
    chosen = [candidate for candidate in candidates() if options.only in candidate.label]
    show_cost(chosen, frames, box)
    trackers: dict[str, Tracker] = {}
    reference = tracker_nano(shared)
    if reference is None:
        print(f"{REFERENCE} is left out: no ONNX files under {shared}/weights/nanotrack")
    else:
        trackers[REFERENCE] = create(reference.tracker, **reference.params)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        trackers |= {candidate.label: candidate.build() for candidate in chosen}  # anew: engines keep the number they were made with
        show_times(measure(trackers, frames, box, options.rounds, options.seconds), threads)
    return 0


def show_cost(chosen: Sequence[Candidate], frames: Sequence[ImageRGB], box: BoxXYWH) -> None:
    """Parameters, and multiply-accumulates at the start and per frame, counted while the tracker runs in PyTorch."""
    print(f"{'':24s}{'parameters':>14s}{'MAC init':>12s}{'MAC frame':>12s}")
    has_onnxruntime = engine.has_onnxruntime
    for candidate in chosen:
        engine.has_onnxruntime = lambda: False  # the counter sees only what PyTorch runs
        try:
            tracker = candidate.build()
        finally:
            engine.has_onnxruntime = has_onnxruntime
        macs = []
        for step in (lambda tracker=tracker: tracker.init(frames[0], box), lambda tracker=tracker: tracker.update(frames[1])):
            with FlopCounterMode(display=False) as counter:
                step()
            macs.append(counter.get_total_flops() / 2)
        print(f"{candidate.label:24s}{parameter_count(candidate.network()):14,d}{macs[0] / 1e6:10,.0f} M{macs[1] / 1e6:10,.0f} M")


def measure(trackers: Mapping[str, Tracker], frames: Sequence[ImageRGB], box: BoxXYWH, rounds: int, limit_s: float) -> dict[str, Times]:
    """All trackers in turn, several times over, so that a busy moment of the machine hits them alike."""
    times = {label: Times() for label in trackers}
    for tracker in trackers.values():
        _run(tracker, frames[:4], box, limit_s)  # the first frames are slow everywhere
    for _ in range(rounds):
        for label, tracker in trackers.items():
            init_s, update_s = _run(tracker, frames, box, limit_s)
            times[label].init_ms.append(1000.0 * init_s)
            times[label].update_ms.append(1000.0 * float(np.median(update_s)))
    return times


def _run(tracker: Tracker, frames: Sequence[ImageRGB], box: BoxXYWH, limit_s: float) -> tuple[float, list[float]]:
    began = time.perf_counter()
    tracker.init(frames[0], box)
    init_s, update_s = time.perf_counter() - began, []
    for frame in frames[1:]:
        start = time.perf_counter()
        tracker.update(frame)
        update_s.append(time.perf_counter() - start)
        if time.perf_counter() - began > limit_s:
            break
    return init_s, update_s


def show_times(times: Mapping[str, Times], threads: int) -> None:
    """Medians over the rounds, and the least and the most."""
    print(f"\n{threads} thread{'s' if threads > 1 else ''}{'init ms':>40s}{'update ms':>32s}{'frames/s':>12s}")
    for label, measured in times.items():
        init, update = (_spread(values) for values in (measured.init_ms, measured.update_ms))
        print(f"{label:24s}{init:>32s}{update:>32s}{1000.0 / np.median(measured.update_ms):12.1f}")
    if REFERENCE in times and REFERENCE_FOR in times:
        ratios = np.array(times[REFERENCE].update_ms) / np.array(times[REFERENCE_FOR].update_ms)
        print(f"{REFERENCE_FOR} has {_spread(ratios.tolist())} times the frames/s of {REFERENCE}, same weights, round by round")


def _spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
