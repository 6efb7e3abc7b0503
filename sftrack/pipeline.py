"""The whole flow for one frame: channels -> feat2seg -> combination -> spectral window -> seg2box -> result."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sftrack.appearance import Appearance
from sftrack.boxes import box_around, box_of_mask, center_xy, checked_box, checked_image, iou, keep_in_frame
from sftrack.channels import Channel, ChannelPool
from sftrack.combine import Combiner, Evidence, agree, fuse, leader, majority
from sftrack.config import PipelineConfig, resolve_device
from sftrack.contracts import BoxXYWH, ChannelResult, ImageRGB, Tracker, TrackResult
from sftrack.errors import ConfigError, NotInitialisedError
from sftrack.feat2seg import Segmenter
from sftrack.presets import channels_of, create_channels, resolve_preset
from sftrack.seg2box import BoxEvidence, BoxReader, vote_map, vote_share
from sftrack.spectral import OnlineSFSeg
from sftrack.target import Target
from sftrack.window import Window, rasterise
from sftrack.workers import TorchWorkers

OUTVOTED_AFTER = 5
"""Frames in a row after which most channels, if they agree, are believed and not the combination, which trusts what it said before."""

READABLE = 0.8
"""Overlap of the extremes of the first segmentation with the user's box from which boxes can be read from segmentations of this target."""

RECORD_RATE = 0.15
DESCRIPTOR_RATE = 0.1
SIZE_RATE = 0.1
FAMILIAR_LOOK = 0.5
"""Likeness (correlation with a template, or overlap of colours) under which the score falls in proportion."""
FOUND_LIKENESS = 0.5
"""Correlation from which a place found by the search is tried ..."""
FOUND_COLOURS = 0.6
"""... if its colours overlap with those of the first frame by this."""


@dataclass(frozen=True)
class Step:
    """The inner values of the last frame, for training and for a closer look; see the stages for shapes."""

    evidence: Evidence
    features: NDArray[np.float32]
    weights: NDArray[np.float64]
    box_evidence: BoxEvidence
    window: Window


class SFTracker:
    """Follows one object; see the package docstring for the loop.

    Not thread-safe: one object, one thread. The channels and the boxes that are segmented run in threads of its own. A program that has the
    machine to itself calls `sftrack.workers.limit_library_threads` first, so that those of OpenCV and BLAS do not get in their way.
    """

    def __init__(
        self,
        channels: Mapping[str, Tracker],
        config: PipelineConfig | None = None,
        *,
        device: str = "cpu",
        segmenter: Segmenter | None = None,
        combiner: Combiner | None = None,
        box_reader: BoxReader | None = None,
    ) -> None:
        """Join channels to one tracker; the networks are those of the package unless others are given.

        Raises:
            ConfigError: no channels.
        """
        if not channels:
            raise ConfigError("expected at least one channel, got none; give trackers by name")
        self._closed = False
        self.config = config or PipelineConfig()
        self.device = device
        self.last_step: Step | None = None
        # On a GPU the channels have threads of their own, and our networks one, for the same reason.
        count = 1 if device.startswith("cuda") else min(len(channels), os.cpu_count() or 1)
        self._workers = TorchWorkers(count, "sftrack")
        self._pool = ChannelPool(channels, self._workers, device)
        self._segmenter = segmenter or Segmenter.bundled(device)
        self._combiner = combiner or Combiner.bundled(self.config.sharpness)
        self._box_reader = box_reader or BoxReader.bundled(device)
        self._spectral = OnlineSFSeg(
            self.config.window,
            iterations=self.config.iterations,
            p=self.config.unary_power,
            alpha=self.config.alpha,
            warm_start=False,  # a mistake should leave with the window
            keep="peak",  # the score and the box are read from soft values
        )
        self._frame_size_wh = (0, 0)
        self._target: Target | None = None
        self._timings_s: dict[str, float] = {}

    @classmethod
    def from_preset(cls, preset: str = "auto", *, device: str = "auto", config: PipelineConfig | None = None) -> Self:
        """The tracker of a preset.

        Raises:
            ConfigError: unknown preset or device.
        """
        chosen = resolve_device(device)
        name, _ = resolve_preset(preset, chosen)
        return cls(create_channels(channels_of(name), chosen), config, device=chosen)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels' names, in the order of `TrackResult.channels`."""
        return tuple(channel.name for channel in self._pool.channels)

    @property
    def started(self) -> bool:
        """True after `init`, until one raises because no channel can start."""
        return self._target is not None

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH, *, with_mask: bool = False) -> TrackResult:
        """Start on a frame, `(H, W, 3) uint8` RGB; the result holds the given box, clipped to the frame, with score 1.

        Raises:
            FrameError, BoxError: an image or box that cannot be tracked; a running track goes on.
            NotInitialisedError: the tracker was closed.
            SFTrackError: no channel can start, see `ChannelPool.init`; there is no track then.
        """
        self._check_open()
        checked_image(image_rgb)
        frame_size_wh = (image_rgb.shape[1], image_rgb.shape[0])
        box = checked_box(box_xywh, frame_size_wh)
        self._frame_size_wh, self._target = frame_size_wh, None  # also where no channel can start: the old track is gone
        self._timings_s = {}
        with self._timed("total"):
            with self._timed("channels"):
                self._pool.init(image_rgb, box)
            self._target = self._first_look(image_rgb, box)
        return self._result(with_mask, [], np.zeros(0))

    def update(self, image_rgb: ImageRGB, *, with_mask: bool = False, upcoming_rgb: ImageRGB | None = None) -> TrackResult:
        """Follow the target to the next frame.

        Args:
            image_rgb: `(H, W, 3) uint8`.
            with_mask: give the refined segmentation of the full frame too.
            upcoming_rgb: the frame after this one, where the caller has it already (a file): the channels set out on it while this frame
                is fused, which changes no result and keeps all cores busy. The next call must be for that array, after an error too.

        Raises:
            NotInitialisedError: `init` was not called, or the tracker was closed.
            FrameError: an image of another size or type than the first one, or not the one that was announced.
        """
        self._check_open()
        if self._target is None:
            raise NotInitialisedError("call init(image_rgb, box_xywh) before update(image_rgb)")
        checked_image(image_rgb, self._frame_size_wh)
        if upcoming_rgb is not None:
            checked_image(upcoming_rgb, self._frame_size_wh)
        self._timings_s = {}
        live: list[Channel] = []
        weights = np.zeros(0)
        with self._timed("total"):
            with self._timed("channels"):
                self._pool.update(image_rgb)
            live = [channel for channel in self._pool.channels if channel.estimate is not None]
            if live:
                weights = self._fuse(image_rgb, live, self._target, upcoming_rgb)
            else:
                self._begin(upcoming_rgb)
                self._target.score = 0.0
            self._judge(self._target)
            self._mend(image_rgb, self._target)
        return self._result(with_mask, live, weights)

    def close(self) -> None:
        """End the threads, and the processes of channels that have one. The tracker cannot be used any more."""
        self._closed = True
        self._pool.close()  # first: a thread may wait for a process that hangs
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise NotInitialisedError("this tracker was closed; make a new one")

    def _begin(self, upcoming_rgb: ImageRGB | None) -> None:
        """Let the channels go on to the next frame, if it is known already."""
        if upcoming_rgb is not None:
            self._pool.begin(upcoming_rgb)

    def _window_on(self, box_xywh: BoxXYWH) -> Window:
        if self.config.view == "frame":
            return Window.whole_frame(self._frame_size_wh)
        return Window.around(box_xywh, self.config.crop_size_px, self.config.context)

    def _first_look(self, image_rgb: ImageRGB, box: BoxXYWH) -> Target:
        """Segment the target in the box that the user gave: what all later frames are compared with."""
        window = self._window_on(box)
        self._spectral.clear()
        crop, box_in_window = window.extract(image_rgb), window.to_window(box)
        with self._timed("feat2seg"):
            seen = self._segmenter.segment(crop, box_in_window[None], window.frame_box(self._frame_size_wh), self._workers)
        with self._timed("spectral"):
            mask = self._spectral.push(seen.masks[0], window)
        self._box_reader.prepare(window.size_wh)
        first_box = rasterise(box_in_window[None], window.size_wh)[0]
        descriptor = seen.descriptors[0]
        record = {name: 0.7 for name in self.channel_names}
        appearance = Appearance(crop, box_in_window, mask)
        # Strings and nets are hardly segmented: what the first segmentation misses of the box, the later ones will miss too.
        readable = min(float(iou(box_of_mask(seen.masks[0] > 0.5), box_in_window)) / READABLE, 1.0)
        return Target(
            box, 1.0, "tracking", window, mask, mask, first_box, descriptor, descriptor.copy(), record, appearance, box, box[2:], readable
        )

    def _fuse(self, image_rgb: ImageRGB, live: list[Channel], target: Target, upcoming_rgb: ImageRGB | None) -> NDArray[np.float64]:
        """From the channels' boxes to the fused box; returns the channels' weights."""
        boxes = np.array([channel.estimate.box_xywh for channel in live if channel.estimate])
        scores = np.array([channel.estimate.score for channel in live if channel.estimate])
        record = np.array([target.record[channel.name] for channel in live])
        most = self._majority_elsewhere(boxes, target)
        trusted = leader(boxes, record * (0.1 + scores) if most is None else most.astype(np.float64))
        window = self._window_on(box_around(center_xy(boxes[trusted]), target.box_xywh[2:]))
        crop, boxes_in_window = window.extract(image_rgb), window.to_window(boxes)
        with self._timed("feat2seg"):
            encoding = self._workers.start(partial(self._segmenter.encode, crop))
            correlations = target.appearance.correlations(crop, boxes_in_window)  # meanwhile
            own = {place: window.look_at(mask) for place, channel in enumerate(live) if (mask := channel.own_mask) is not None}
            frame_box = window.frame_box(self._frame_size_wh)
            # The channels go on where a thread has no box to segment any more: all that follows here runs in this thread.
            seen = self._segmenter.decode(
                encoding.result(), boxes_in_window, frame_box, self._workers, own, meanwhile=partial(self._begin, upcoming_rgb)
            )
        with self._timed("combine"):
            looks = np.column_stack([correlations, target.appearance.colour_overlaps(crop, seen.masks)])
        evidence = Evidence(
            boxes_in_window,
            scores,
            seen.masks,
            seen.descriptors,
            looks,
            record,
            window.to_window(target.box_xywh),
            window.move(target.mask[None], target.window)[0],
            target.score,
            target.first_descriptor,
            target.recent_descriptor,
        )
        with self._timed("combine"):
            features = evidence.features()
            overlaps, weights = self._combiner.weigh(features)
            if most is not None:
                overlaps, weights = overlaps * most, weights * most
                self._spectral.clear()
            weights = agree(boxes, overlaps, weights)
        with self._timed("spectral"):
            refined = self._spectral.push(fuse(seen.masks, weights, self.config.unary), window)
        with self._timed("seg2box"):
            votes = vote_map(boxes_in_window, weights, window.size_wh)
            box_evidence = BoxEvidence(refined, votes, target.first_mask, target.first_box_image)
            votes_expected = float(weights @ overlaps)
            box, expected = self._read(box_evidence, weights @ boxes_in_window, votes_expected, target.readable)
        self.last_step = Step(evidence, features, weights, box_evidence, window)
        target.box_xywh = keep_in_frame(window.to_frame(box), self._frame_size_wh)
        # One network judges the shape of the mask, the other what is under it: both must be content.
        target.window, target.mask, target.score = window, refined, min(math.sqrt(expected * votes_expected), 1.0)
        # Both learn from the past, so a mistake that lasts convinces them: what does not look like the target at all counts less.
        look = target.appearance.looks(crop, box[None], refined[None])[0]
        target.score *= float(np.clip(look.max() / FAMILIAR_LOOK, 0.0, 1.0))
        target.look = float(look[:2].max())
        self._remember(live, boxes, seen.descriptors, looks, weights, target)
        if target.score > self.config.uncertain_below:
            target.appearance.remember(crop, box)
        return weights

    def _read(self, evidence: BoxEvidence, voted: BoxXYWH, votes_expected: float, readable: float) -> tuple[BoxXYWH, float]:
        """The fused box in the window's pixels, from segmentation and channels' mean box, and the expected overlap of what was read."""
        box, expected = self._box_reader.read(evidence)
        if self.config.box_from == "mask":
            extremes = box_of_mask(evidence.refined > 0.5)
            return extremes if np.isfinite(extremes).all() else voted, expected
        return box + vote_share(expected * readable, votes_expected, self.config.sharpness) * (voted - box), expected

    def _majority_elsewhere(self, boxes: NDArray[np.float64], target: Target) -> NDArray[np.bool_] | None:
        """The channels `(K,)` that outvote the fused result: most of them, on one thing, for some frames, and it is not there."""
        most = majority(boxes)
        elsewhere = bool(most.any()) and float(iou(boxes[most].mean(axis=0), target.box_xywh)) < self.config.restart_overlap
        target.outvoted_frames = target.outvoted_frames + 1 if elsewhere else 0
        return most if target.outvoted_frames >= OUTVOTED_AFTER else None

    def _remember(
        self,
        live: list[Channel],
        boxes: NDArray[np.float64],
        descriptors: NDArray[np.float32],
        looks: NDArray[np.float64],
        weights: NDArray[np.float64],
        target: Target,
    ) -> None:
        """Who was near the fused box, and what the target looks like now."""
        overlaps = iou(boxes, target.box_xywh).tolist()
        for channel, overlap, look in zip(live, overlaps, looks[:, :2].max(axis=1).tolist(), strict=True):
            target.record[channel.name] += RECORD_RATE * (overlap - target.record[channel.name])
            # A channel that sees something more like the target than the fused box may be the one that is right.
            off = overlap < self.config.restart_overlap and look < target.look and target.score > self.config.uncertain_below
            channel.frames_off = channel.frames_off + 1 if off else 0
        if target.score > self.config.uncertain_below:
            seen = weights @ descriptors
            mixed = target.recent_descriptor + DESCRIPTOR_RATE * (seen - target.recent_descriptor)
            target.recent_descriptor = (mixed / max(float(np.linalg.norm(mixed)), 1e-6)).astype(np.float32)

    def _judge(self, target: Target) -> None:
        """The state of this frame."""
        target.low_frames = target.low_frames + 1 if target.score < self.config.lost_below else 0
        if target.low_frames >= self.config.lost_after:
            target.state = "lost"
        elif target.score >= self.config.uncertain_below:
            target.state = "tracking"
        elif target.state != "lost":
            target.state = "uncertain"
        if target.state != "lost" and target.score >= self.config.lost_below:
            target.last_good_xywh = target.box_xywh
        if target.state == "tracking":
            target.sure_size_wh = target.sure_size_wh + SIZE_RATE * (target.box_xywh[2:] - target.sure_size_wh)

    def _mend(self, image_rgb: ImageRGB, target: Target) -> None:
        """Channels that stay off a sure target go back to it; a lost target is searched for."""
        if target.state == "tracking":
            self._restart([channel for channel in self._pool.channels if channel.frames_off >= self.config.restart_after], image_rgb)
        elif target.state == "lost":
            # Boxes shrink while a target leaves the frame; it comes back in the size that it had before.
            place = box_around(center_xy(target.last_good_xywh), target.sure_size_wh)
            with self._timed("search"):
                found = target.appearance.search(image_rgb, place)
                known = found is not None and found.likeness >= FOUND_LIKENESS and self._has_its_colours(image_rgb, found.box_xywh, target)
            if found is not None and known:
                target.box_xywh = target.last_good_xywh = keep_in_frame(found.box_xywh, self._frame_size_wh)
                target.low_frames, target.state, target.score = 0, "uncertain", self.config.lost_below
                self._spectral.clear()
                self._restart(self._pool.channels, image_rgb)

    def _has_its_colours(self, image_rgb: ImageRGB, box: BoxXYWH, target: Target) -> bool:
        """Whether what would be segmented in a box has the colours of the target: many things have the shape of a small template."""
        window = self._window_on(box)
        crop = window.extract(image_rgb)
        seen = self._segmenter.segment(crop, window.to_window(box[None]), window.frame_box(self._frame_size_wh))
        return bool(target.appearance.colour_overlaps(crop, seen.masks)[0] >= FOUND_COLOURS)

    def _restart(self, channels: list[Channel], image_rgb: ImageRGB) -> None:
        """Start channels again from the fused box."""
        if channels and self._target is not None:
            with self._timed("restart"):
                self._pool.restart(channels, image_rgb, self._target.box_xywh)

    def _result(self, with_mask: bool, live: list[Channel], weights: NDArray[np.float64]) -> TrackResult:
        target = self._target
        assert target is not None
        share = dict(zip((channel.name for channel in live), weights.tolist(), strict=True))
        channels = tuple(
            ChannelResult(
                channel.name,
                channel.estimate.box_xywh if channel.estimate else None,
                channel.estimate.score if channel.estimate else 0.0,
                share.get(channel.name, 0.0),
                channel.failures,
                channel.restarts,
                channel.error,
            )
            for channel in self._pool.channels
        )
        box = target.last_good_xywh if target.state == "lost" else target.box_xywh
        mask = target.window.paste(target.mask, self._frame_size_wh) if with_mask else None
        return TrackResult(box.copy(), target.score, target.state, mask, channels, dict(self._timings_s))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._timings_s[stage] = self._timings_s.get(stage, 0.0) + time.perf_counter() - start_s
