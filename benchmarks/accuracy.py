"""`python -m benchmarks accuracy`: success AUC of every channel and deep tracker alone, of the median and of the fused result."""

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.majority import majority_track
from benchmarks.recordings import CHECKOUT, Target, evaluation_targets, record_all, shared_folder, start_worker
from benchmarks.tracker_nano import NAME as TRACKER_NANO
from benchmarks.tracker_nano import tracker_nano
from sftrack.config import ChannelConfig
from sftrack.contracts import ImageRGB
from sftrack.datasets import read_sequence
from sftrack.engine import PRECISIONS
from sftrack.errors import SFTrackError
from sftrack.metrics import success_auc
from sftrack.pipeline import SFTracker
from sftrack.presets import channels_of
from sftrack.weights import registry

Table = dict[str, dict[Target, float]]

DEEP = ("nanotrack-v2", "nanotrack-v3")
"""Trackers with weights that are measured alone, whatever the preset."""

LARGEST_SHIFT_PX = 1.5


def main(arguments: list[str]) -> int:
    """Print the table and write `accuracy.json`."""
    options = _parser().parse_args(arguments)
    shared = shared_folder(options.shared)
    targets = evaluation_targets(shared, options.sequences)
    configs = channels_of(options.preset)
    alone = trackers_alone(shared, options.precision)
    beside = [config for config in alone if config.name not in {channel.name for channel in configs}]
    table = {**channel_rows(configs, shared, targets, options.jobs), **alone_rows(beside, shared, targets, options.jobs)}
    failure = None
    try:
        if not options.no_fused:
            table["fused"] = fused_row(options.preset, shared, targets, options.jobs)
    except SFTrackError as error:  # the rows that do not need the networks are worth showing all the same
        failure = error
    _show(table, targets)
    with_fused = "fused" in table
    spread = shifted_means(alone, shared, targets, options, with_fused=with_fused) if options.shifts > 1 else {}
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        "preset": options.preset,
        "channels": {config.name: {"tracker": config.tracker, **config.params} for config in configs},
        "mean": {row: means(values) for row, values in table.items()},
        "mean_by_shift": spread,
        "per_sequence": {row: {f"{dataset}/{name}": value for (dataset, name), value in values.items()} for row, values in table.items()},
    }
    (options.out / "accuracy.json").write_text(json.dumps(content, indent=1))
    print(f"written to {options.out / 'accuracy.json'}")
    if failure is not None:
        print(f"no fused row: {failure}")
    return 0 if failure is None else failure.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS and data/OTB100")
    parser.add_argument("--sequences", nargs="*", default=[], help="only these, e.g. dog Jogging.1")
    parser.add_argument("--preset", default="light")
    parser.add_argument("--jobs", type=int, default=2, help="sequences at a time, one thread each")
    parser.add_argument(
        "--shifts",
        type=int,
        default=1,
        help="start the deep trackers, and what is fused, from this many boxes, shifted evenly from -1.5 to 1.5 pixels",
    )
    parser.add_argument(
        "--precision",
        nargs="*",
        default=[],
        choices=PRECISIONS,
        help="run the deep trackers in these as well; float16 takes 0.1 s per frame",
    )
    parser.add_argument("--no-fused", action="store_true", help="only what can be computed from recorded boxes")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "runs" / "accuracy")
    return parser


def channel_rows(configs: Sequence[ChannelConfig], shared: Path, targets: Sequence[Target], jobs: int) -> Table:
    """AUC per target of every channel alone, and of `median`, from boxes recorded once (see `benchmarks.recordings`)."""
    kept = record_all(configs, shared, targets, jobs)
    table = alone_rows(configs, shared, targets, jobs)
    table["median"] = {
        target: success_auc(majority_track(np.stack([kept[config.name, target].boxes_xywh for config in configs])), _truth(shared, target))
        for target in targets
    }
    return table


def alone_rows(configs: Sequence[ChannelConfig], shared: Path, targets: Sequence[Target], jobs: int, shift_px: float = 0.0) -> Table:
    """AUC per target of every tracker alone, started on the true box or on a shifted one (see `record_all`)."""
    kept = record_all(configs, shared, targets, jobs, shift_px)
    return {
        config.name: {target: success_auc(kept[config.name, target].boxes_xywh, _truth(shared, target)) for target in targets}
        for config in configs
    }


def trackers_alone(shared: Path, precisions: Iterable[str]) -> list[ChannelConfig]:
    """The deep trackers whose weights are on this machine, in float32 and other precisions, and OpenCV's runner of one of them.

    Says what is left out and why.
    """
    names = [name for name in DEEP if registry.available(name)]
    here = [ChannelConfig(name, name) for name in names]
    here += [ChannelConfig(f"{name} {precision}", name, {"precision": precision}) for precision in precisions for name in names]
    for name in sorted(set(DEEP) - set(names)):
        print(f"{name} is left out: {registry.how_to_get(registry.find(name))}")
    reference = tracker_nano(shared)
    if reference is None:
        print(f"{TRACKER_NANO} is left out: no ONNX files under {shared}/weights/nanotrack")
    return here if reference is None else [*here, reference]


def shifted_means(
    configs: Sequence[ChannelConfig], shared: Path, targets: Sequence[Target], options: argparse.Namespace, *, with_fused: bool
) -> dict[str, dict[str, list[float]]]:
    """AUC by data set of every tracker alone and fused, one value per shift of the start box; printed as mean (lowest to highest)."""
    shifts = np.linspace(-LARGEST_SHIFT_PX, LARGEST_SHIFT_PX, options.shifts).tolist()
    tables = [alone_rows(configs, shared, targets, options.jobs, shift) for shift in shifts]
    if with_fused:
        for table, shift in zip(tables, shifts, strict=True):
            table["fused"] = fused_row(options.preset, shared, targets, options.jobs, shift)
    print(f"over {len(shifts)} start boxes shifted by {shifts[0]:g} to {shifts[-1]:g} pixels: mean (lowest to highest)")
    spread: dict[str, dict[str, list[float]]] = {}
    for name in tables[0]:
        by_shift = [means(table[name]) for table in tables]
        spread[name] = {dataset: [row[dataset] for row in by_shift] for dataset in by_shift[0]}
        cells = (f"{dataset} {np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for dataset, v in spread[name].items())
        print(f"{name:22s}" + "   ".join(cells))
    return spread


def _truth(shared: Path, target: Target) -> NDArray[np.float64]:
    return read_sequence(target[0], shared / "data" / target[0], target[1]).boxes_xywh


def fused_row(preset: str, shared: Path, targets: Sequence[Target], jobs: int, shift_px: float = 0.0) -> dict[Target, float]:
    """AUC per target of `SFTracker`, run afresh: its result depends on every stage, not only on the channels. Started as `alone_rows`."""
    with ProcessPoolExecutor(max_workers=jobs, initializer=start_worker) as pool:
        values = list(pool.map(_fused_auc, [(preset, shared, target, shift_px) for target in targets]))
    return dict(zip(targets, values, strict=True))


def _fused_auc(job: tuple[str, Path, Target, float]) -> float:
    preset, shared, (dataset, name), shift_px = job
    sequence = read_sequence(dataset, shared / "data" / dataset, name)
    first_box = sequence.boxes_xywh[0] + (shift_px, shift_px, 0.0, 0.0)
    boxes, _ = fused_boxes(preset, sequence.frames(), first_box, len(sequence))
    return success_auc(boxes, sequence.boxes_xywh)


def fused_boxes(
    preset: str, frames: Iterable[ImageRGB], first_box: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes `(N, 4)` and wall seconds `(N,)` of the whole tracker over an iterable of images."""
    boxes, seconds = np.zeros((count, 4)), np.zeros(count)
    with SFTracker.from_preset(preset, device="cpu") as tracker:
        for index, image_rgb in enumerate(frames):
            began = time.perf_counter()
            result = tracker.update(image_rgb) if index else tracker.init(image_rgb, first_box)
            boxes[index], seconds[index] = result.box_xywh, time.perf_counter() - began
    return boxes, seconds


def means(values: Mapping[Target, float]) -> dict[str, float]:
    """Mean over the sequences of each data set."""
    datasets = sorted({dataset for dataset, _ in values})
    return {dataset: float(np.mean([value for target, value in values.items() if target[0] == dataset])) for dataset in datasets}


def _show(table: Table, targets: Sequence[Target]) -> None:
    rows = list(table)
    print("success AUC (mean of the success curve at overlaps 0:0.05:1, first frame left out)")
    width = max(map(len, rows)) + 2
    print(f"{'':22s}" + "".join(f"{row:>{width}s}" for row in rows))
    for target in targets:
        print(f"{target[1]:22s}" + "".join(f"{table[row][target]:{width}.3f}" for row in rows))
    for dataset in means(table[rows[0]]):
        print(f"{'mean ' + dataset:22s}" + "".join(f"{means(table[row])[dataset]:{width}.3f}" for row in rows))
