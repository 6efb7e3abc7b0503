"""`python -m benchmarks harness`: what benchmark mode itself costs per frame, and what a second process brings."""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil

from benchmarks.recordings import CHECKOUT
from sftrack.benchmark.entrants import Entrant, find_entrant
from sftrack.benchmark.jobs import Advanced, Failed, ProcessEngine, SerialEngine
from sftrack.benchmark.progress import Progress
from sftrack.benchmark.results import RunFolder
from sftrack.benchmark.runner import Job
from sftrack.config import ChannelConfig
from sftrack.datasets import Sequence as Video
from sftrack.errors import SFTrackError
from sftrack.workers import pin_to_one_thread

SIZE_WH = (854, 480)
VIDEOS = 8
BOX = np.array([300.0, 200.0, 80.0, 60.0])


def main(arguments: list[str]) -> int:
    """Print both figures and write `harness.json`."""
    options = _parser().parse_args(arguments)
    pin_to_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        videos = [_video(Path(folder) / f"v{number}", f"v{number}", options.frames) for number in range(VIDEOS)]
        costs_ms = [overhead_ms(videos[0], Path(folder) / f"overhead{number}") for number in range(options.repetitions)]
        print(f"overhead of the harness: {min(costs_ms):.3f} ms per frame (lowest of {len(costs_ms)}; all: {_listed(costs_ms)})")
        entrant = find_entrant(options.tracker, "cpu")
        measured: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for number, jobs in itertools.product(range(options.repetitions), measured):
            measured[jobs].append(throughput(entrant, videos, jobs, Path(folder) / f"{jobs}-{number}"))
    (rates_1, cpu_1), (rates_2, cpu_2) = (list(zip(*measured[jobs], strict=True)) for jobs in (1, 2))
    ratio, bound = np.median(rates_2) / np.median(rates_1), 2.0 * np.median(cpu_1) / np.median(cpu_2)
    print(f"{options.tracker}: one job {_listed(rates_1)}, two jobs {_listed(rates_2)} frames/s: {ratio:.2f} times")
    print(f"processor time per frame: {_listed(cpu_1)} and {_listed(cpu_2)} ms: {bound:.2f} times on two cores that nobody else uses")
    content = {
        "overhead_ms": costs_ms,
        "tracker": options.tracker,
        "frames_per_second": {1: rates_1, 2: rates_2},
        "processor_ms_per_frame": {1: cpu_1, 2: cpu_2},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "harness.json").write_text(json.dumps(content, indent=1))
    print(f"written to {options.out / 'harness.json'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks harness", description=__doc__)
    parser.add_argument("--frames", type=int, default=200, help="per video")
    parser.add_argument("--repetitions", type=int, default=3, help="of everything")
    parser.add_argument("--tracker", default="dcf", help="single-threaded tracker for the throughput of two jobs")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "runs" / "harness")
    return parser


def overhead_ms(video: Video, out: Path) -> float:
    """Milliseconds of processor time per frame of a run with its progress, less what reading the images takes. The tracker replays boxes.

    Processor time, because wall time would measure what else runs on the machine.
    """
    boxes = np.tile(BOX, (len(video), 1))
    entrant = Entrant("recorded", (ChannelConfig("recorded", "replay", {"boxes_xywh": boxes}),))
    list(video.frames())  # from the disk into the system's cache
    began = time.process_time()
    for _ in video.frames():
        pass
    reading_s = time.process_time() - began
    job = _job(entrant, video, out)
    progress = Progress(1, len(video), say=lambda text: None, as_json=True)
    began = time.process_time()
    for _ in progress.follow(SerialEngine("cpu").run([job])):
        pass
    everything_s = time.process_time() - began
    return (everything_s - reading_s) / len(video) * 1e3


def throughput(entrant: Entrant, videos: Sequence[Video], jobs: int, out: Path) -> tuple[float, float]:
    """Frames per second of wall time and milliseconds of processor time per frame while so many worker processes are all at work.

    Neither their start nor the last one's end counts. Where other programs use the cores, the wall time says little; the processor time
    says what two processes cost each other.

    Raises:
        SFTrackError: the tracker failed: there is nothing to measure.
    """
    work = [_job(entrant, video, out) for video in videos]
    counts: dict[Job, int] = {}
    workers: list[psutil.Process] = []
    began_s, cpu_before_s, frames_before, done = 0.0, 0.0, 0, 0
    for event in ProcessEngine(jobs, ["cpu"]).run(work):
        if isinstance(event, Failed):
            raise SFTrackError(f"expected a tracker that follows to the end, {entrant.name} failed: {event.reason}")
        counts[event.job] = event.frames if isinstance(event, Advanced) else len(event.job.video)
        done += not isinstance(event, Advanced)
        if not workers and len(counts) >= jobs:
            workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            began_s, cpu_before_s, frames_before = time.perf_counter(), _cpu_s(workers), sum(counts.values())
        if done > len(work) - jobs:  # the engine ends its workers when nobody asks for more events
            wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s(workers) - cpu_before_s
            break
    frames = sum(counts.values()) - frames_before
    return frames / wall_s, cpu_s / frames * 1e3


def _cpu_s(workers: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (worker.cpu_times() for worker in workers))


def _job(entrant: Entrant, video: Video, out: Path) -> Job:
    return Job(entrant, video, RunFolder.of(out, video.dataset, entrant.name), 0, out)


def _video(folder: Path, name: str, frames: int) -> Video:
    """A textured square that moves over a textured ground, as JPEG."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 120, (48, 86, 3), dtype=np.uint8), SIZE_WH, interpolation=cv2.INTER_CUBIC)
    target = cv2.resize(rng.integers(80, 255, (8, 8, 3), dtype=np.uint8), (int(BOX[2]), int(BOX[3])), interpolation=cv2.INTER_CUBIC)
    boxes = np.array([BOX + [index % 300, index % 100, 0.0, 0.0] for index in range(frames)])  # noqa: RUF005
    for index, (x, y, w, h) in enumerate(boxes.astype(int)):
        picture = ground.copy()
        picture[y : y + h, x : x + w] = target
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), picture)
    return Video(name, "generated", tuple(sorted(folder.iterdir())), boxes)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
