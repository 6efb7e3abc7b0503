"""Boxes of channels on sequences, recorded once and kept under `runs/recordings` until the tracker's code or settings change."""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

from sftrack.config import ChannelConfig
from sftrack.datasets import Recording, read_sequence, record, sequence_names
from sftrack.workers import pin_to_one_thread

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / "runs" / "recordings"

Target = tuple[str, str]
"""Data set and sequence."""


def shared_folder(given: Path | None = None) -> Path:
    """The folder with `data/`: the given one, `SFTRACK_SHARED`, or `shared` beside the checkout.

    Raises:
        SystemExit: none of them is there.
    """
    folder = given or Path(os.environ.get("SFTRACK_SHARED", CHECKOUT.parent / "shared"))
    if not (folder / "data").is_dir():
        raise SystemExit(f"expected the evaluation data under {folder}/data; name its folder with --shared DIR or SFTRACK_SHARED")
    return folder


def evaluation_targets(shared: Path, wanted: Iterable[str] = ()) -> list[Target]:
    """The targets of DAVIS and OTB100 under `shared/data`, or those named in `wanted`.

    Raises:
        SystemExit: a wanted name that is in neither.
    """
    targets = [(dataset, name) for dataset in ("DAVIS", "OTB100") for name in sequence_names(dataset, shared / "data" / dataset)]
    unknown = sorted(set(wanted) - {name for _, name in targets})
    if unknown:
        raise SystemExit(f"expected sequences out of {', '.join(name for _, name in targets)}; got {', '.join(unknown)}")
    return [target for target in targets if not wanted or target[1] in set(wanted)]


@functools.cache
def source_hash(tracker: str) -> str:
    """Changes with the source of the tracker's module and of all modules of `sftrack.trackers` that it uses."""
    from sftrack.trackers import factory_of

    found: dict[str, ModuleType] = {}
    pending = [sys.modules[factory_of(tracker).__module__]]
    while pending:
        module = pending.pop()
        if module.__name__ in found or module.__name__ == "sftrack.trackers":
            continue
        found[module.__name__] = module
        owners = {getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(module).values()}
        pending += [sys.modules[owner] for owner in owners if isinstance(owner, str) and owner.startswith("sftrack.trackers.")]
    text = "".join(inspect.getsource(found[name]) for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cache_path(config: ChannelConfig, dataset: str, name: str, shift_px: float = 0.0) -> Path:
    """Where the recording of this tracker, settings, source, sequence and start lies."""
    settings = json.dumps(dict(config.params), sort_keys=True, default=str)
    key = f"{config.tracker}|{settings}|{source_hash(config.tracker)}|{dataset}/{name}|{shift_px:g}"
    return CACHE / dataset / name / f"{config.tracker}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def recorded(config: ChannelConfig, shared: Path, dataset: str, name: str, shift_px: float = 0.0) -> Recording:
    """`sftrack.datasets.record` of a channel on a sequence, from the cache where it is there; see `record_all`."""
    path = cache_path(config, dataset, name, shift_px)
    if path.is_file():
        with np.load(path) as kept:
            return Recording(kept["boxes_xywh"], kept["scores"], kept["seconds"])
    sequence = read_sequence(dataset, shared / "data" / dataset, name)
    boxes = sequence.boxes_xywh.copy()
    boxes[0, :2] += shift_px
    result = record(config, dataclasses.replace(sequence, boxes_xywh=boxes))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.stem}.{os.getpid()}.npz")  # renamed when complete: several studies may run at once
    np.savez(draft, boxes_xywh=result.boxes_xywh, scores=result.scores, seconds=result.seconds)
    draft.replace(path)
    return result


def start_worker() -> None:
    """For worker processes: what is measured is the cost on one thread."""
    pin_to_one_thread()
    os.nice(5)


def _job(arguments: tuple[ChannelConfig, Path, str, str, float]) -> Recording:
    return recorded(*arguments)


def record_all(
    configs: Sequence[ChannelConfig], shared: Path, targets: Sequence[Target], jobs: int, shift_px: float = 0.0
) -> dict[tuple[str, Target], Recording]:
    """Every channel on every target, `jobs` at a time, by channel name and target; the first box is moved right and down by `shift_px`."""
    for config in configs:
        source_hash(config.tracker)  # before the workers start: a file that is edited during a long study must not name its results
    keys = [(config, target) for config in configs for target in targets]
    arguments = [(config, shared, *target, shift_px) for config, target in keys]
    with ProcessPoolExecutor(max_workers=jobs, initializer=start_worker) as pool:
        results = list(pool.map(_job, arguments))
    return {(config.name, target): result for (config, target), result in zip(keys, results, strict=True)}
