"""Files that are complete after every write, and one way to say what went wrong with them."""

import contextlib
import errno
from pathlib import Path

from sftrack.errors import SinkError


def sink_error(path: Path, error: BaseException) -> SinkError:
    """The one line for the user about a file that cannot be written."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return SinkError(f"expected to write '{path}', got '{reason}'; {'free some space or ' * is_full}choose another output folder")


class LineFile:
    """A text file that holds whole lines only, whenever the program or the disk ends.

    Unbuffered, so that nothing waits in memory and a line that fits only in part can be taken back.
    """

    def __init__(self, path: Path) -> None:
        """Create or empty the file.

        Raises:
            SinkError: it cannot be written.
        """
        self.path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise sink_error(path, error) from error
        self._length = 0

    @property
    def is_empty(self) -> bool:
        """True until a line was written."""
        return not self._length

    def write_line(self, line: str) -> None:
        """Append one line.

        Raises:
            SinkError: it does not fit; the earlier lines are kept.
        """
        encoded = memoryview(f"{line}\n".encode())
        try:
            written = 0
            while written < len(encoded):
                written += self._file.write(encoded[written:])
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError, ValueError):
                self._file.truncate(self._length)
            raise sink_error(self.path, error) from error
        self._length += len(encoded)

    def close(self) -> None:
        """Safe to call twice."""
        try:
            self._file.close()
        except OSError as error:
            raise sink_error(self.path, error) from error
