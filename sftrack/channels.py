"""The channels of the ensemble: run side by side, failures kept apart, restarted from the fused box when they stay off it."""

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch

from sftrack.boxes import clip_box, keep_in_frame
from sftrack.contracts import BoxXYWH, Closable, Estimate, ImageRGB, Movable, RegionMask, Tracker
from sftrack.errors import FrameError, SFTrackError
from sftrack.workers import TorchWorkers

log = logging.getLogger(__name__)


Step = Callable[[Tracker], Estimate | None]


@dataclass(frozen=True)
class Outcome:
    """What one step of a tracker brought: an estimate, or why there is none (neither after `init`), and how long it took.

    `mendable` is the error itself where it is one that a user can act on.
    """

    estimate: Estimate | None
    error: str | None
    seconds: float
    mendable: SFTrackError | None = None


@dataclass
class Channel:
    """One tracker and its record. `estimate` is None where it failed on the current frame; `error` then says why.

    `failures` counts the frames with an error. `frames_off` counts frames in a row on which it failed or lay off the fused box (the
    pipeline knows which); a restart sets it to 0.
    `stream` is where its tracker's work on a GPU queues. It is the channel's and not the thread's: PyTorch gives memory that one frame
    frees to later work of the same stream, which is only safe while all that used it queued there too.
    """

    name: str
    tracker: Tracker
    stream: torch.cuda.Stream | None = None
    estimate: Estimate | None = None
    error: str | None = None
    failures: int = 0
    restarts: int = 0
    frames_off: int = 0
    started: bool = False
    seconds: float = 0.0

    @property
    def own_mask(self) -> RegionMask | None:
        """What its tracker segmented on the current frame, if it segments."""
        return self.estimate.mask if self.estimate else None

    def attempt(self, step: Step, frame_size_wh: tuple[int, int]) -> Outcome:
        """Do one step; whatever goes wrong in a tracker stays in its channel."""
        start_s = time.perf_counter()
        mendable: SFTrackError | None = None
        try:
            with _queued_in(self.stream):
                estimate = step(self.tracker)
            error = None if estimate is None else _defect(estimate, frame_size_wh)
            if estimate is not None and error is None:  # what is cut out for a box is as large as the box
                estimate = replace(estimate, box_xywh=keep_in_frame(estimate.box_xywh, frame_size_wh))
        except (Exception, SystemExit) as failure:
            # A tracker may raise anything (cv2.error, MemoryError, its own) and some call exit(): the others go on without it.
            estimate, error = None, f"{type(failure).__name__}: {failure}".splitlines()[0]
            mendable = failure if isinstance(failure, SFTrackError) else None
        return Outcome(estimate if error is None else None, error, time.perf_counter() - start_s, mendable)

    def take(self, outcome: Outcome) -> None:
        """Put an outcome on record."""
        self.estimate, self.error, self.seconds = outcome.estimate, outcome.error, outcome.seconds
        self.frames_off += self.error is not None

    def count_failure(self) -> None:
        """Count the current frame if it failed on it, once however often it tried; the log says the first one."""
        if self.error is not None:
            self.failures += 1
            if self.failures == 1:
                log.warning("channel %s failed and is left out: %s", self.name, self.error)


def _defect(estimate: Estimate, frame_size_wh: tuple[int, int]) -> str | None:
    box = np.asarray(estimate.box_xywh)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0:
        return f"the box is not finite or empty: {box}"
    if not clip_box(box, frame_size_wh)[2:].all():
        return "the box lies outside the frame"
    if not 0.0 <= estimate.score <= 1.0:
        return f"the score is not in [0, 1]: {estimate.score}"
    return None if estimate.mask is None else _mask_defect(estimate.mask)


def _mask_defect(mask: RegionMask) -> str | None:
    values, region = mask.values, np.asarray(mask.region_xywh)
    if values.ndim != 2 or values.dtype != np.float32 or not values.size or not 0.0 <= values.min() <= values.max() <= 1.0:
        return f"the mask is not (h, w) float32 in [0, 1] but {values.dtype} {values.shape}"
    if region.shape != (4,) or not np.isfinite(region).all() or region[2] <= 0 or region[3] <= 0:
        return f"the mask's region is not finite or empty: {region}"
    return None


@contextmanager
def _queued_in(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Let a GPU's work of this thread queue in a stream; None: nothing to do with one."""
    if stream is None:  # PyTorch would still ask for the GPU of this thread: on a Mac, or in a forked process, that raises
        yield
        return
    # The outer one because `stream` selects the GPU from before again, which would open a context (0.5 GB) on one that nobody uses.
    with torch.cuda.device(stream.device), torch.cuda.stream(stream):
        yield


@cache
def _stream_of(place: int, device: str) -> torch.cuda.Stream:
    """One for the channels at a place of all trackers on a GPU, because PyTorch keeps what memory a stream ever needed for that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _own_stream(place: int, device: str) -> torch.cuda.Stream | None:
    """A queue on a GPU beside those of the other channels; None on other devices."""
    if torch.device(device).type != "cuda":
        return None
    stream = _stream_of(place, device)
    stream.wait_stream(torch.cuda.current_stream(device))  # where the tracker's networks were made
    return stream


class ChannelPool:
    """All channels, run concurrently: OpenCV and PyTorch release the GIL.

    On a GPU each channel has a stream and a thread of its own, because cuDNN plans a network (up to 0.1 s) for every thread that runs it.
    """

    def __init__(self, trackers: Mapping[str, Tracker], workers: TorchWorkers, device: str = "cpu") -> None:
        self.channels = [Channel(name, tracker, _own_stream(place, device)) for place, (name, tracker) in enumerate(trackers.items())]
        self._workers = workers
        self._own_workers = {channel.name: TorchWorkers(1, channel.name) for channel in self.channels if channel.stream is not None}
        self._begun: dict[str, Future[Outcome]] = {}
        self._begun_on: ImageRGB | None = None

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Start every channel on a frame.

        Raises:
            SFTrackError: none of them can start, for reasons that a user can act on (the first one's is given).
        """
        self._forget()
        for channel in self.channels:
            channel.failures = channel.restarts = channel.frames_off = 0
            channel.started = False
        outcomes = self._tried(self.channels, image_rgb, box_xywh)
        reasons = [outcome.mendable for _, outcome in outcomes if outcome.mendable is not None]
        if reasons and len(reasons) == len(self.channels):
            raise reasons[0]
        self._record_start(outcomes)
        for channel in self.channels:
            channel.estimate = Estimate(box_xywh.copy(), 1.0) if channel.error is None else None
            channel.count_failure()

    def close(self) -> None:
        """End what trackers hold besides memory, also of one that is still at work, and threads of their own."""
        for channel in self.channels:
            if isinstance(channel.tracker, Closable):
                channel.tracker.close()
        for workers in self._own_workers.values():
            workers.close()

    def begin(self, image_rgb: ImageRGB) -> None:
        """Set the channels to work on a frame that `update` will be called with next; what they said about the current one stays."""
        self._begun_on = image_rgb
        self._begin([channel for channel in self.channels if channel.started], image_rgb)

    def update(self, image_rgb: ImageRGB) -> None:
        """One frame for every channel that could be started; see each `Channel.estimate` afterwards.

        Raises:
            FrameError: `begin` announced another frame.
        """
        if self._begun_on is None:
            self.begin(image_rgb)
        elif self._begun_on is not image_rgb:
            raise FrameError("expected the frame that was announced as upcoming, got another one; pass the same array, or announce none")
        for channel in self.channels:
            if channel.name in self._begun:
                channel.take(self._begun[channel.name].result())
            else:
                channel.estimate = None
                channel.frames_off += 1
            channel.count_failure()
        self._forget()

    def restart(self, channels: list[Channel], image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Let some channels go on from the fused box of the current frame: those that can be are moved, the others initialised again."""
        before = [(channel.estimate, channel.error) for channel in channels]
        for channel in channels:
            channel.frames_off = 0
        # Some have gone on to the next frame already, from where they should not be; those that still waited for a thread have not.
        ahead = {channel.name for channel in channels if channel.name in self._begun and _ran(self._begun.pop(channel.name))}
        self._record_start(self._tried(channels, image_rgb, box_xywh, again=True, ahead=ahead))
        for channel, (estimate, error) in zip(channels, before, strict=True):
            channel.restarts += channel.error is None
            if error is None:
                channel.count_failure()
            # What it said about this frame, or why it could not, still holds.
            channel.estimate, channel.error = estimate, channel.error or error
        if self._begun_on is not None:
            self._begin([channel for channel in channels if channel.started], self._begun_on)

    def _tried(
        self, channels: list[Channel], image_rgb: ImageRGB, box_xywh: BoxXYWH, *, again: bool = False, ahead: Container[str] = ()
    ) -> list[tuple[Channel, Outcome]]:
        """Start some channels, or with `again` let those that can be moved go on from the box; those `ahead` have seen the next frame."""

        def start(tracker: Tracker) -> None:
            tracker.init(image_rgb, box_xywh)

        def move(tracker: Tracker, forget_last: bool) -> None:
            assert isinstance(tracker, Movable)
            tracker.move_to(box_xywh, forget_last=forget_last)

        def step(channel: Channel) -> Step:
            moves = again and channel.started and isinstance(channel.tracker, Movable)
            return partial(move, forget_last=channel.name in ahead) if moves else start

        begun = [(channel, self._submit(channel, step(channel), image_rgb)) for channel in _slowest_first(channels)]
        return [(channel, started.result()) for channel, started in begun]

    @staticmethod
    def _record_start(outcomes: list[tuple[Channel, Outcome]]) -> None:
        for channel, outcome in outcomes:
            channel.take(outcome)
            channel.started = channel.started or channel.error is None

    def _begin(self, channels: list[Channel], image_rgb: ImageRGB) -> None:
        def step(tracker: Tracker) -> Estimate:
            estimate = tracker.update(image_rgb)
            if not isinstance(estimate, Estimate):
                raise TypeError(f"update returned {estimate!r}, not an Estimate")
            return estimate

        self._begun |= {channel.name: self._submit(channel, step, image_rgb) for channel in _slowest_first(channels)}

    def _submit(self, channel: Channel, step: Step, image_rgb: ImageRGB) -> Future[Outcome]:
        workers = self._own_workers.get(channel.name, self._workers)
        return workers.start(partial(channel.attempt, step, (image_rgb.shape[1], image_rgb.shape[0])))

    def _forget(self) -> None:
        for begun in self._begun.values():
            _ran(begun)
        self._begun, self._begun_on = {}, None


def _slowest_first(channels: list[Channel]) -> list[Channel]:
    """The slowest decides when all are done."""
    return sorted(channels, key=lambda channel: -channel.seconds)


def _ran(begun: Future[Outcome]) -> bool:
    """Take back a step that nobody wants any more, or wait until it leaves its tracker alone; whether it had begun."""
    if begun.cancel():
        return False
    begun.result()
    return True
