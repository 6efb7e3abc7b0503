"""Runs the channels on training videos and writes down what NN_seg2box and the channel combination would have seen, with the truth.

At first a teacher that knows the truth, more or less, stands in for the two networks; once they exist they take part themselves, so that
they learn to get out of the situations they bring about.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import center_xy, iou
from sftrack.combine import CombineNet, Combiner
from sftrack.config import ChannelConfig, PipelineConfig
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.datasets.train_videos import read_train_video, train_video_names
from sftrack.feat2seg import Segmenter
from sftrack.pipeline import SFTracker, Step
from sftrack.presets import create_channels
from sftrack.seg2box import BoxEvidence, BoxReader, Seg2Box
from sftrack.training.clips import BoxStyle, Clip, make_clip
from sftrack.training.photos import BoxNoise, PhotoSet
from sftrack.window import Window

log = logging.getLogger(__name__)

VIDEO_FRAMES = 40
"""Length of the stretches that real training videos are cut into."""


class TeachingCombiner(Combiner):
    """Weights by the true overlap with noise; `skill` from 0 (equal weights) to 1 (the best channel wins)."""

    def __init__(self, skill: float, rng: np.random.Generator) -> None:
        self._skill, self._rng = skill, rng
        self.overlaps = np.zeros(0)

    def weigh(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Combiner`; looks at `overlaps` instead of the features."""
        votes = np.exp(PipelineConfig.sharpness * self._skill * (self.overlaps + self._rng.normal(0.0, 0.1, len(features))))
        return self.overlaps, votes / votes.sum()


class TeachingReader(BoxReader):
    """Reads the truth, disturbed; `skill` 0 gives the heaviest disturbance."""

    def __init__(self, skill: float, rng: np.random.Generator) -> None:
        self._noise, self._rng = BoxNoise(0.15 + 0.9 * (1.0 - skill)), rng
        self.truth_xywh: BoxXYWH = np.zeros(4)

    def prepare(self, size_wh: tuple[int, int]) -> None:
        """See `BoxReader`; there is nothing to make."""

    def read(self, evidence: BoxEvidence) -> tuple[BoxXYWH, float]:
        """See `BoxReader`; `truth_xywh` is in working coordinates."""
        box = self._noise.apply(self.truth_xywh, self._rng)
        return box, float(iou(box, self.truth_xywh))


class TeachingTracker(SFTracker):
    """The pipeline with teachers in it."""

    def set_truth(self, truth_xywh: BoxXYWH) -> None:
        """Tell the true box of the frame that comes next, in frame pixels."""
        self.truth_xywh = truth_xywh

    def _window_on(self, box_xywh: BoxXYWH) -> Window:
        window = super()._window_on(box_xywh)
        if isinstance(self._box_reader, TeachingReader):
            self._box_reader.truth_xywh = window.to_window(self.truth_xywh)
        if isinstance(self._combiner, TeachingCombiner):
            live = [channel.estimate.box_xywh for channel in self._pool.channels if channel.estimate]
            self._combiner.overlaps = iou(np.array(live).reshape(-1, 4), self.truth_xywh)
        return window


@dataclass
class Recordings:
    """Rows collected from all frames; `K` is padded with NaN where a channel failed."""

    features: list[NDArray[np.float32]]
    overlaps: list[NDArray[np.float32]]
    maps: list[NDArray[np.uint8]]
    edges: list[NDArray[np.float32]]
    errors: list[NDArray[np.float32]]

    def add(self, step: Step, truth_xywh: BoxXYWH, channels: int) -> None:
        """One frame: evidence and truth."""
        truth = step.window.to_window(truth_xywh)
        count = len(step.features)
        overlap = iou(step.evidence.boxes_xywh, truth)
        padded = np.full((channels, step.features.shape[1]), np.nan, dtype=np.float32)
        padded[:count] = step.features
        self.features.append(padded)
        self.overlaps.append(np.pad(overlap, (0, channels - count), constant_values=np.nan).astype(np.float32))
        self.maps.append(np.round(step.box_evidence.maps() * 255.0).astype(np.uint8))
        size = np.array(step.window.size_wh * 2, dtype=np.float64)
        self.edges.append((np.concatenate([truth[:2], truth[:2] + truth[2:]]) / size).astype(np.float32))
        near = step.evidence.boxes_xywh[overlap > 0.3]
        shift = (center_xy(near) - center_xy(truth)) / truth[2:]
        self.errors.append(np.concatenate([shift, np.log(near[:, 2:] / truth[2:])], axis=1).astype(np.float32))

    def save(self, path: Path) -> None:
        """Write everything as one compressed file."""
        part = path.with_suffix(".part.npz")
        np.savez_compressed(
            part,
            features=np.array(self.features),
            overlaps=np.array(self.overlaps),
            maps=np.array(self.maps),
            edges=np.array(self.edges),
            errors=np.concatenate(self.errors) if self.errors else np.zeros((0, 4)),
        )
        part.replace(path)


def record_clip(clip: Clip, tracker: TeachingTracker) -> Recordings:
    """Track one clip from its first box on."""
    recordings = Recordings([], [], [], [], [])
    tracker.set_truth(clip.boxes_xywh[0])
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    for image, truth in zip(clip.images_rgb[1:], clip.boxes_xywh[1:], strict=True):
        if not np.isfinite(truth).all() or truth[2:].min() < 2.0:
            continue
        tracker.last_step = None
        tracker.set_truth(truth)
        tracker.update(image)
        if tracker.last_step is not None:
            recordings.add(tracker.last_step, truth, len(tracker.channel_names))
    return recordings


def real_clips(videos_dir: Path) -> Iterator[Clip]:
    """The annotated training videos in stretches, forwards and backwards."""
    for name in train_video_names(videos_dir):
        video = read_train_video(videos_dir, name)
        for start in range(0, len(video) - 5, VIDEO_FRAMES // 2):
            stop = min(start + VIDEO_FRAMES, len(video))
            images: list[ImageRGB] = list(video.frames(start, stop))
            boxes = video.boxes_xywh[start:stop]
            for clip in (Clip(images, boxes), Clip(images[::-1], boxes[::-1].copy())):
                if np.isfinite(clip.boxes_xywh[0]).all() and clip.boxes_xywh[0, 2:].min() >= 4.0:
                    yield clip


def styled(clip: Clip, style: BoxStyle) -> Clip:
    """The clip with its boxes drawn in another style."""
    size_wh = (clip.images_rgb[0].shape[1], clip.images_rgb[0].shape[0])
    return Clip(clip.images_rgb, np.array([style.apply(box, size_wh) for box in clip.boxes_xywh]))


def made_clips(photos: PhotoSet, count: int, seed: int) -> Iterator[Clip]:
    """Made-up clips in random styles of boxes; clip `n` depends on the seed and `n` alone."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        while True:
            clip = make_clip(photos, rng)
            if len(clip.images_rgb) > 5 and clip.boxes_xywh[0, 2:].min() >= 6.0:
                break
        yield styled(clip, BoxStyle.draw(rng))


def record_all(
    clips: Iterator[Clip],
    channels: Sequence[ChannelConfig],
    segmenter: Segmenter,
    out_dir: Path,
    *,
    seed: int,
    prefix: str,
    students: tuple[CombineNet, Seg2Box] | None = None,
) -> None:
    """Record every clip to a file of its own; those that exist are left alone, so a stopped run goes on.

    Args:
        students: networks of an earlier round, which take part in two of three clips; without them there are only teachers.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    config = PipelineConfig()
    for number, clip in enumerate(clips):
        path = out_dir / f"{prefix}_{number:05d}.npz"
        if path.is_file():
            continue
        rng = np.random.default_rng((seed, number, 1))
        skill = float(rng.uniform(0.0, 1.0))
        combiner: Combiner = TeachingCombiner(skill, rng)
        reader: BoxReader = TeachingReader(skill, rng)
        if students is not None and rng.random() < 2 / 3:
            combiner, reader = Combiner(students[0], config.sharpness), BoxReader(students[1])
        with TeachingTracker(create_channels(channels), config, segmenter=segmenter, combiner=combiner, box_reader=reader) as tracker:
            record_clip(clip, tracker).save(path)
        log.info("%s: %d frames", path.name, len(clip.images_rgb))
