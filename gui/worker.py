"""The thread that reads, tracks and writes while the window stays responsive."""

import logging
import threading
import time
from array import array
from collections.abc import Sequence

from PyQt5.QtCore import QThread, pyqtSignal

from sftrack.contracts import BoxXYWH, Frame, FrameSource, ResultSink, TrackResult
from sftrack.errors import SourceError

from .clock import Pace, RateMeter
from .reader import FrameReader
from .roles import Phase, Snapshot, TrackerLike
from .words import error_text

logger = logging.getLogger(__name__)

POLL_S = 0.05
"""Longest wait for a frame before commands are looked at again."""


class PipelineWorker(QThread):
    """Source -> tracker -> sinks, with the newest result kept for whoever asks.

    The public methods are called from the window's thread and return at once, except `finish`. Frames are not sent by signal: the window
    asks with `take` when it has time, and what it did not ask for is counted and dropped. (A signal per frame would fill the event queue of
    a window that paints more slowly than the tracker tracks.)

    Signals:
        phase_changed (Phase): emitted from either thread.
        failed (str, bool): the words for the user, and whether another target can be chosen; emitted from the worker's thread.
    """

    phase_changed = pyqtSignal(object)
    failed = pyqtSignal(str, bool)

    def __init__(
        self,
        source: FrameSource,
        tracker: TrackerLike,
        *,
        box_xywh: BoxXYWH | None = None,
        sinks: Sequence[ResultSink] = (),
        with_mask: bool = False,
    ) -> None:
        super().__init__()
        self.source = source
        self.error: Exception | None = None
        self.reached_end = False
        self.has_target = False
        self.frames_tracked = 0
        self.seconds_per_frame = array("d")
        self._tracker = tracker
        self._sinks = tuple(sinks)
        self._sinks_lock = threading.Lock()
        self._sinks_closed = False
        self._always_mask = with_mask
        self._show_mask = True
        self._reader: FrameReader | None = None
        self._pace = Pace(None if source.is_live else source.frames_per_second)
        self._meter = RateMeter()
        self._frames_skipped = 0
        self._last_index = -1
        self._end_index: int | None = None
        self._last_written = -1
        self._start_box = box_xywh
        # Guarded by _turn, which also wakes the worker when something has changed.
        self._turn = threading.Condition(threading.RLock())
        self._phase = Phase.STARTING
        self._selection: tuple[Frame, BoxXYWH] | None = None
        self._stopping = False
        self._snapshot: Snapshot | None = None
        self._frames_not_shown = 0

    # Commands, from the window's thread.

    @property
    def phase(self) -> Phase:
        return self._phase

    def pause(self) -> None:
        self._change_phase(Phase.PAUSED, only_from=(Phase.RUNNING,))

    def resume(self) -> None:
        """Go on with the target there is; nothing happens without one."""
        if self.has_target:
            self._change_phase(Phase.RUNNING, only_from=(Phase.PAUSED, Phase.CHOOSING))

    def choose(self) -> None:
        """Stop on the current frame until `select`."""
        self._change_phase(Phase.CHOOSING, only_from=(Phase.RUNNING, Phase.PAUSED))

    def cancel_choosing(self) -> None:
        """Keep the old target, if there is one, and stay paused."""
        if self.has_target:
            self._change_phase(Phase.PAUSED, only_from=(Phase.CHOOSING,))

    def select(self, frame: Frame, box_xywh: BoxXYWH) -> None:
        """Track the object in the box, beginning on this frame (the one that the user saw)."""
        with self._turn:
            if self._phase is Phase.CHOOSING:
                self._selection = (frame, box_xywh)
                self._change_phase(Phase.STARTING)

    def show_mask(self, wanted: bool) -> None:
        """Ask the tracker for full-frame masks from the next frame on."""
        self._show_mask = wanted

    def take(self) -> Snapshot | None:
        """The newest snapshot, once; None if there is nothing new."""
        with self._turn:
            snapshot, self._snapshot = self._snapshot, None
            return snapshot

    def stop(self) -> None:
        """Ask the thread to end after the frame at hand; see `finish`."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()

    def finish(self, limit_s: float = 0.9) -> bool:
        """Stop, and wait until everything is closed; False if the tracker kept the thread for longer than the limit.

        The sinks are closed in any case. While the thread closes them (an encoder writes its last frames), the wait goes on.
        """
        self.stop()
        ended = self.wait(int(limit_s * 1000))
        if not ended:
            self._close_sinks()
            ended = self.wait(1000)
        return ended

    # The thread.

    def run(self) -> None:
        """Runs in the worker's thread."""
        self._reader = FrameReader(self.source)
        try:
            while not self._stopping:
                self._step(self._reader)
        except Exception as error:
            self._give_up(error, f"reading {self.source.name}")
        finally:
            self._change_phase(Phase.ENDED)
            self._close_sinks()
            self._reader.close()

    def _step(self, reader: FrameReader) -> None:
        with self._turn:
            selection, self._selection = self._selection, None
            phase = self._phase
        if selection is not None:
            self._begin(*selection)
        elif phase is Phase.RUNNING:
            self._track_next(reader)
        elif self._needs_picture(phase):
            self._show_next(reader)
        else:
            self._rest(0.5)

    def _needs_picture(self, phase: Phase) -> bool:
        if self._last_index < 0:
            return True
        return self.source.is_live and (phase is Phase.PAUSED or (phase is Phase.CHOOSING and not self.has_target))

    def _show_next(self, reader: FrameReader) -> None:
        """A frame that is only looked at."""
        frame = self._read(reader)
        if frame is None:
            return
        is_first, self._last_index = self._last_index < 0, frame.index
        if is_first and self.source.frame_count is not None:
            self._end_index = frame.index + self.source.frame_count - 1
        self._publish(frame, None)
        if is_first and self._start_box is not None:
            self._begin(frame, self._start_box)
        elif is_first:
            self._change_phase(Phase.CHOOSING)

    def _begin(self, frame: Frame, box_xywh: BoxXYWH) -> None:
        """The chosen frame: written only if no result was written for it before."""
        started_s = time.perf_counter()
        try:
            result = self._tracker.init(frame.image_rgb, box_xywh, with_mask=self._wants_mask())
        except Exception as error:
            self._ask_again(frame, error)
            return
        self.has_target, self.error = True, None
        if frame.index > self._last_written:
            self._record(frame, result, time.perf_counter() - started_s)
        else:
            self._publish(frame, result)
        self._last_index = frame.index
        self._restart_clocks()
        self._change_phase(Phase.RUNNING)

    def _track_next(self, reader: FrameReader) -> None:
        remaining_s = self._pace.remaining_s(time.perf_counter())
        if remaining_s > 0:
            self._rest(min(remaining_s, POLL_S))
            return
        frame = self._read(reader)
        if frame is None:
            return
        if self._phase is not Phase.RUNNING:
            reader.put_back(frame)
            return
        started_s = time.perf_counter()
        self._pace.advance(started_s)
        try:
            result = self._tracker.update(frame.image_rgb, with_mask=self._wants_mask())
        except Exception as error:
            self._ask_again(frame, error)
            return
        ended_s = time.perf_counter()
        self._meter.count(ended_s)
        if self.source.is_live:
            self._frames_skipped += max(frame.index - self._last_index - 1, 0)
        self._last_index = frame.index
        self._record(frame, result, ended_s - started_s)

    def _read(self, reader: FrameReader) -> Frame | None:
        frame = reader.poll(POLL_S)
        if frame is None and reader.ended:
            if self._last_index < 0:
                raise SourceError(f"expected at least one frame, {self.source.name} has no frames; choose another source")
            self.reached_end = True
            self.stop()
        return frame

    def _record(self, frame: Frame, result: TrackResult, seconds: float) -> None:
        with self._sinks_lock:
            if self._sinks_closed:
                return
            for sink in self._sinks:
                sink.write(frame, result)
        self.frames_tracked += 1
        self._last_written = frame.index
        self.seconds_per_frame.append(seconds)
        self._publish(frame, result)

    def _publish(self, frame: Frame, result: TrackResult | None) -> None:
        with self._turn:
            self._frames_not_shown += self._snapshot is not None
            self._snapshot = Snapshot(
                frame, result, self.frames_tracked, self._meter.per_second, self._frames_not_shown, self._frames_skipped, self._end_index
            )

    def _restart_clocks(self) -> None:
        self._meter.restart()
        self._pace.restart(time.perf_counter())

    def _wants_mask(self) -> bool:
        return self._always_mask or self._show_mask

    def _rest(self, limit_s: float) -> None:
        """Wait, at most so long, for a command."""
        with self._turn:
            if not self._stopping and self._selection is None:
                self._turn.wait(limit_s)

    def _change_phase(self, phase: Phase, only_from: Sequence[Phase] = tuple(Phase)) -> None:
        with self._turn:
            if self._phase not in only_from or self._phase in (phase, Phase.ENDED):
                return
            if phase is Phase.RUNNING and self._phase is Phase.PAUSED:
                self._restart_clocks()
            self._phase = phase
            self._turn.notify_all()
        self.phase_changed.emit(phase)

    # Failures and the end.

    def _ask_again(self, frame: Frame, error: Exception) -> None:
        """The tracker refused the box or failed: the frame stays, and another target can be chosen on it."""
        self.has_target = False
        self.error = error
        words = error_text(error, "the tracker")
        logger.warning("frame %d: %s", frame.index, words)
        logger.debug("the tracker's error", exc_info=error)
        self._last_index = frame.index
        self._publish(frame, None)
        self._change_phase(Phase.CHOOSING)
        self.failed.emit(words, True)

    def _give_up(self, error: Exception, what: str) -> None:
        """Reading or writing failed: no more frames; the window stays with what there is."""
        self.error = self.error or error
        words = error_text(error, what)
        logger.warning("%s", words)
        logger.debug("the viewer's error", exc_info=error)
        self._change_phase(Phase.ENDED)
        self.failed.emit(words, False)

    def _close_sinks(self) -> None:
        """Close each sink once, whatever the others do; waits where another thread is closing them."""
        with self._sinks_lock:
            if self._sinks_closed:
                return
            self._sinks_closed = True
            for sink in self._sinks:
                try:
                    sink.close()
                except Exception as error:
                    self._give_up(error, "finishing the results")
