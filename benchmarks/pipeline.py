"""`python -m benchmarks pipeline`: frames per second end to end without a viewer, milliseconds per stage, memory over a long run."""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil

from benchmarks.options import add_device, device_name, synchronise
from benchmarks.random_weights import random_weights
from benchmarks.recordings import shared_folder
from sftrack.config import ChannelConfig, PipelineConfig
from sftrack.contracts import Frame, TrackResult
from sftrack.datasets import read_sequence, sequence_names
from sftrack.pipeline import SFTracker
from sftrack.presets import channels_of, create_channels
from sftrack.session import with_upcoming
from sftrack.sinks import AnnotatedVideoSink, open_sinks
from sftrack.sources import open_source
from sftrack.workers import limit_library_threads

SIZE_WH = (854, 480)
WARM_UP = 5
"""Frames at the beginning whose time does not count: the channels start."""
WARM_UP_GPU, FRAMES_GPU = 100, 400
"""The same on a GPU, whose libraries plan anew for every network and number of boxes; and of how many frames, the clip looped."""
NEVER = 10_000
"""Frames in a row after which channels that find nothing are started again, and the target is looked for: they never find anything."""


def main(arguments: list[str]) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipeline", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS")
    parser.add_argument("--preset", default="light")
    parser.add_argument("--sequence", action="append", help="DAVIS sequence that is made into a clip; repeatable, all ten by default")
    parser.add_argument("--frames", type=int, default=5000, help="length of the memory run, a looped clip")
    parser.add_argument("--random-weights", action="store_true", help="deep trackers find nothing, but need no weights: for timing only")
    add_device(parser)
    options = parser.parse_args(arguments)
    if options.device == "cpu":
        psutil.Process().cpu_affinity(psutil.Process().cpu_affinity()[:2])
    print(f"{options.preset}, {device_name(options.device)}, {len(psutil.Process().cpu_affinity())} cores")
    if options.random_weights:
        print("random weights: for timing only; what depends on what is found (learning, masks, restarts) may cost more or less")
    limit_library_threads()  # as the program does
    with tempfile.TemporaryDirectory() as folder:
        root = shared_folder(options.shared) / "data" / "DAVIS"
        clips = {name: make_clip(root, name, Path(folder)) for name in options.sequence or sequence_names("DAVIS", root)}
        for video in (False, True):
            show_speed(options, clips, Path(folder) / f"out{video}", video=video)
        show_memory(options, *next(iter(clips.values())))
    return 0


def make_tracker(options: argparse.Namespace) -> SFTracker:
    """That of the preset, or the like with random weights."""
    if not options.random_weights:
        return SFTracker.from_preset(options.preset, device=options.device)
    channels = [
        ChannelConfig(channel.name, channel.tracker, {**channel.params, **random_weights(channel.tracker)})
        for channel in channels_of(options.preset)
    ]
    config = PipelineConfig(restart_after=NEVER, lost_after=NEVER)
    return SFTracker(create_channels(channels, options.device), config, device=options.device)


def make_clip(root: Path, name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """The sequence as an H.264 file of 854x480, and its first true box."""
    sequence = read_sequence("DAVIS", root, name)
    size = sequence.frame(0).shape[1::-1]
    images = (np.asarray(cv2.resize(image, SIZE_WH), dtype=np.uint8) for image in sequence.frames())
    return write_clip(folder / f"{name}.mp4", images), sequence.boxes_xywh[0] * np.tile(np.array(SIZE_WH) / size, 2)


def write_clip(path: Path, images_rgb: Iterable[np.ndarray]) -> Path:
    """An H.264 file of the images."""
    empty = TrackResult(np.array([0.0, 0.0, 1.0, 1.0]), 1.0, "tracking")
    with AnnotatedVideoSink(path, frame_size_wh=SIZE_WH, frames_per_second=30.0, draw=lambda frame, _: frame.image_rgb) as sink:
        for index, image in enumerate(images_rgb):
            sink.write(Frame(image, index, index / 30.0), empty)
    return path


@dataclass(frozen=True)
class Speed:
    """What one run took, the first frames left out: seconds by the clock, of all cores together, and of each frame per stage."""

    frames: int
    elapsed_s: float
    cpu_s: float
    stages_s: dict[str, list[float]]


def show_speed(options: argparse.Namespace, clips: dict[str, tuple[Path, np.ndarray]], out: Path, *, video: bool) -> None:
    """Decode, track and write each clip; a line for each, and the stages of all."""
    files = "boxes, times, log and annotated video" if video else "boxes, times and log"
    print(f"\n{SIZE_WH[0]}x{SIZE_WH[1]}, writing {files}")
    speeds = []
    for name, (clip, box) in clips.items():
        speeds.append(run(options, clip, box, out / name, video=video))
        elapsed_ms, cpu_ms = (seconds / speeds[-1].frames * 1e3 for seconds in (speeds[-1].elapsed_s, speeds[-1].cpu_s))
        print(f"  {name:20s}{1e3 / elapsed_ms:6.1f} frames/s  {elapsed_ms:5.1f} ms  (CPU {cpu_ms:5.1f} on all cores together)", flush=True)
    rates = [speed.frames / speed.elapsed_s for speed in speeds]
    frames = sum(speed.frames for speed in speeds)
    together = frames / sum(speed.elapsed_s for speed in speeds)
    print(f"  {'all':20s}{together:6.1f} frames/s, lowest {min(rates):.1f}, median {np.median(rates):.1f}, highest {max(rates):.1f}")
    print(f"  {'stage':20s}{'mean ms':>9s}{'p95 ms':>9s}")
    for stage in dict.fromkeys(stage for speed in speeds for stage in speed.stages_s):
        stage_s = [seconds for speed in speeds for seconds in speed.stages_s.get(stage, [])]
        if stage not in ("restart", "search"):  # which most frames do without
            print(f"  {stage:20s}{np.mean(stage_s) * 1e3:9.2f}{np.percentile(stage_s, 95) * 1e3:9.2f}")


def run(options: argparse.Namespace, clip: Path, box: np.ndarray, out: Path, *, video: bool) -> Speed:
    """Decode, track and write one clip."""
    stages_s: dict[str, list[float]] = {}
    warm_up = WARM_UP
    if options.device != "cpu":
        warm_up, clip = WARM_UP_GPU, write_clip(clip.with_stem(f"{clip.stem}-looped"), looped(clip, FRAMES_GPU))
    with make_tracker(options) as tracker, open_source(video=clip) as source:
        sinks = open_sinks(out, frame_size_wh=source.frame_size_wh, frames_per_second=30.0, video=video)
        with sinks:
            cpu_s = began = 0.0
            for frame, upcoming in with_upcoming(iter(source)):
                if frame.index:
                    result = tracker.update(frame.image_rgb, upcoming_rgb=upcoming.image_rgb if upcoming else None)
                else:
                    result = tracker.init(frame.image_rgb, box)
                sinks.write(frame, result)
                if frame.index < warm_up:
                    synchronise(options.device)
                    began, cpu_s = time.perf_counter(), time.process_time()
                    continue
                for stage, seconds in result.timings_s.items():
                    stages_s.setdefault(stage, []).append(seconds)
        synchronise(options.device)
        return Speed(len(stages_s["total"]), time.perf_counter() - began, time.process_time() - cpu_s, stages_s)


def looped(clip: Path, count: int) -> Iterator[np.ndarray]:
    """Frames of the clip forwards and backwards, over and over, so that the target never jumps."""
    with open_source(video=clip) as source:
        images = [frame.image_rgb for frame in source]
    return itertools.islice(itertools.cycle(images + images[-2:0:-1]), count)


def show_memory(options: argparse.Namespace, clip: Path, box: np.ndarray) -> None:
    """Resident memory in the course of a long run."""
    count = options.frames
    process = psutil.Process()
    marks: list[tuple[int, float]] = []
    with make_tracker(options) as tracker:
        for index, image in enumerate(looped(clip, count)):
            if index == 0:
                tracker.init(image, box)
            else:
                tracker.update(image)
            if index in (100, count // 4, count // 2, count - 1):
                marks.append((index, process.memory_info().rss / 2**20))
    print("memory: " + ", ".join(f"{megabytes:.0f} MB after {index} frames" for index, megabytes in marks))
