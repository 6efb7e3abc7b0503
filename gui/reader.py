"""Reads a source in a thread of its own, so that a source that blocks can be waited for with a time limit and left behind."""

import logging
import threading
from queue import Empty, SimpleQueue

from sftrack.contracts import Frame, FrameSource

logger = logging.getLogger(__name__)


class FrameReader:
    """Hands out the frames of a source, in order.

    One frame of a file is read ahead. A live source is asked only when a frame is wanted, because one read ahead would be an old one.
    All methods are called from one thread; the source is iterated and, where it does not block, closed in the reader's own.
    """

    def __init__(self, source: FrameSource) -> None:
        self.ended = False
        self._source = source
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._answers: SimpleQueue[Frame | Exception | None] = SimpleQueue()
        self._is_ordered = False
        self._put_back: Frame | None = None
        # A daemon, because a source that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._serve, name="sftrack-reader", daemon=True)
        self._thread.start()

    def poll(self, timeout_s: float) -> Frame | None:
        """The next frame; None if it is not there in time or there is none (then `ended` is True).

        Raises:
            Exception: whatever the source raised.
        """
        if self._put_back is not None:
            frame, self._put_back = self._put_back, None
            return frame
        if self.ended:
            return None
        self._order()
        try:
            answer = self._answers.get(timeout=timeout_s)
        except Empty:
            return None
        self._is_ordered = False
        if isinstance(answer, Exception):
            self.ended = True
            raise answer
        if answer is None:
            self.ended = True
        elif not self._source.is_live:
            self._order()
        return answer

    def put_back(self, frame: Frame) -> None:
        """Let the next `poll` return this frame again."""
        self._put_back = frame

    def close(self, limit_s: float = 0.5) -> None:
        """Close the source and end the thread, within twice the limit."""
        self._orders.put(False)
        self._thread.join(limit_s)
        if self._thread.is_alive():
            # Only now from this thread: closing a decoder while it decodes is the last resort to wake a source that blocks.
            _close(self._source)
            self._thread.join(limit_s)
        if self._thread.is_alive():
            logger.warning("%s does not answer; leaving it behind", self._source.name)

    def _order(self) -> None:
        if not self._is_ordered:
            self._is_ordered = True
            self._orders.put(True)

    def _serve(self) -> None:
        try:
            frames = iter(self._source)
            while self._orders.get():
                self._answers.put(next(frames, None))
        except Exception as error:
            self._answers.put(error)
        finally:
            _close(self._source)


def _close(source: FrameSource) -> None:
    try:
        source.close()
    except Exception as error:
        logger.warning("closing %s failed: %s", source.name, error)
