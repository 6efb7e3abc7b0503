"""One entrant over one sequence, frame by frame."""

import random
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from sftrack.benchmark.entrants import Entrant
from sftrack.benchmark.results import RunFolder
from sftrack.config import ChannelConfig
from sftrack.contracts import BoxXYWH, Tracker
from sftrack.datasets import Sequence
from sftrack.errors import SourceError
from sftrack.pipeline import SFTracker
from sftrack.presets import create_channels, lone_channel
from sftrack.session import with_upcoming


@dataclass(frozen=True, eq=False)
class Job:
    """One sequence to be done by one entrant: everything that a worker process needs.

    Attributes:
        entrant: who.
        video: what.
        folder: where the result goes.
        seed: of all random numbers, together with the sequence's name: the same whatever ran before.
        out: folder of all results, in which a replay finds its recordings.
    """

    entrant: Entrant
    video: Sequence
    folder: RunFolder
    seed: int
    out: Path


class FrameResult(NamedTuple):
    """A finite box, 0-based, the tracker's seconds for the frame, its score in [0, 1]."""

    box_xywh: BoxXYWH
    seconds: float
    score: float


def perform(job: Job, device: str) -> Iterator[int]:
    """Do a job; yields after every frame how many are written.

    Raises:
        SFTrackError: an image that cannot be read, a box that cannot be tracked, a file that cannot be written, missing recordings.
        Exception: whatever a tracker raises. In every case nothing of the sequence stays behind.
    """
    with job.folder.writing(job.video.name, job.video.first_pixel) as writer:
        for count, result in enumerate(track(job, device), start=1):
            writer.write(*result)
            yield count


def track(job: Job, device: str) -> Iterator[FrameResult]:
    """The results of a job's frames one after the other; the first holds the given box.

    Raises:
        SFTrackError, Exception: see `perform`.
    """
    fix_seeds(job.seed, job.video.name)
    box = job.video.boxes_xywh[0]
    if not np.isfinite(box).all():
        raise SourceError(f"expected the target of {job.video.dataset}/{job.video.name} on its first frame, it is absent there")
    job = with_recordings(job)
    channels = job.entrant.channels
    if job.entrant.pipeline is None:
        with lone_channel(channels[0], device) as tracker:
            yield from _track_alone(tracker, job.video, box)
        return
    with SFTracker(create_channels(channels, device), job.entrant.pipeline, device=device) as fused:
        yield from _track_fused(fused, job.video, box)


def _track_alone(tracker: Tracker, video: Sequence, box_xywh: BoxXYWH) -> Iterator[FrameResult]:
    for index, image_rgb in enumerate(video.frames()):
        began = time.perf_counter()
        if index == 0:
            tracker.init(image_rgb, box_xywh)
            yield FrameResult(box_xywh, time.perf_counter() - began, 1.0)
        else:
            estimate = tracker.update(image_rgb)
            yield FrameResult(estimate.box_xywh, time.perf_counter() - began, estimate.score)


def _track_fused(tracker: SFTracker, video: Sequence, box_xywh: BoxXYWH) -> Iterator[FrameResult]:
    for index, (image_rgb, upcoming) in enumerate(with_upcoming(video.frames())):
        began = time.perf_counter()
        if index == 0:
            tracker.init(image_rgb, box_xywh)
            yield FrameResult(box_xywh, time.perf_counter() - began, 1.0)
        else:
            result = tracker.update(image_rgb, upcoming_rgb=upcoming)
            yield FrameResult(result.box_xywh, time.perf_counter() - began, result.score)


def fix_seeds(seed: int, name: str) -> None:
    """Start all random number generators that a tracker may use from the seed and the sequence's name."""
    number = zlib.crc32(f"{seed}/{name}".encode())
    random.seed(number)
    np.random.seed(number)  # trackers of third parties use the global one
    torch.manual_seed(number)
    cv2.setRNGSeed(number & 0x7FFFFFFF)


def with_recordings(job: Job) -> Job:
    """The job with channels that replay what its sources have recorded of its sequence; itself where it has no sources.

    Raises:
        SourceError: a recording that is missing, or of another length.
    """
    if not job.entrant.sources:
        return job
    video, channels = job.video, []
    for channel in job.entrant.channels:
        folder = RunFolder.of(job.out, video.dataset, job.entrant.sources[channel.name])
        if not folder.is_complete(video.name):
            raise SourceError(f"expected recorded boxes of {channel.name} on {video.name} in {folder.path}, found none")
        kept = folder.read(video.name)
        if len(kept.boxes_xywh) != len(video):
            raise SourceError(f"expected {len(video)} recorded boxes in {folder.path / video.name}.txt, found {len(kept.boxes_xywh)}")
        boxes = kept.boxes_xywh - np.array([video.first_pixel, video.first_pixel, 0.0, 0.0])
        channels.append(ChannelConfig(channel.name, "replay", {"boxes_xywh": boxes, "scores": kept.scores}))
    return replace(job, entrant=replace(job.entrant, channels=tuple(channels), sources={}))
