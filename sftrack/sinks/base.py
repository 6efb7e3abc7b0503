"""What all sinks share: the `with` block, and the frame of a sink that writes one line per frame."""

from abc import abstractmethod
from pathlib import Path
from typing import Self

from sftrack.contracts import Frame, ResultSink, TrackResult
from sftrack.sinks.files import LineFile, sink_error


class BaseSink(ResultSink):
    """A sink adds `write` and `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class LineSink(BaseSink):
    """One line of text per frame; a sink adds how the line is made."""

    def __init__(self, path: str | Path) -> None:
        """Create or empty the file.

        Raises:
            SinkError: it cannot be written.
        """
        self.path = Path(path)
        self._file = LineFile(self.path)

    def write(self, frame: Frame, result: TrackResult) -> None:
        """Append the frame's line.

        Raises:
            SinkError: it cannot be written; the earlier lines are kept.
        """
        self._file.write_line(self.line(frame, result))

    def close(self) -> None:
        """A file without a line is removed: a folder that only holds empty files has no results.

        Raises:
            SinkError: it could not be finished.
        """
        self._file.close()
        if self._file.is_empty and self.path.is_file():  # not a device or a pipe
            try:
                self.path.unlink()
            except OSError as error:
                raise sink_error(self.path, error) from error

    @abstractmethod
    def line(self, frame: Frame, result: TrackResult) -> str:
        """The text for one frame, without the end of line."""
