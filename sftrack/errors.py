"""Errors that a user can act on.

Each message says what was expected, what was given and what to do. The command line prints it as one line on stderr and exits with
`exit_code`: 2 for what the user can mend (a bad box, a full disk, a camera that is gone), 1 for failures of ours.
"""

import difflib
from collections.abc import Iterable


class SFTrackError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_code = 2


class BoxError(SFTrackError, ValueError):
    """A box that cannot be tracked: wrong count of numbers, NaN, too small, outside the frame."""


class FrameError(SFTrackError, ValueError):
    """An image that is not `(H, W, 3) uint8`, is empty, or has another size than the first one."""


class SourceError(SFTrackError):
    """A source that cannot be opened or holds no frames."""


class SourceLostError(SFTrackError):
    """A live source that disappeared and did not come back."""


class SinkError(SFTrackError):
    """A result file that cannot be written: no permission, full disk, no encoder."""


class ConfigError(SFTrackError, ValueError):
    """An unknown preset, device, channel or setting."""


class WeightsError(SFTrackError):
    """A weights file that is missing, damaged, or does not fit its network."""


class MissingWeightsError(WeightsError):
    """Weights that were not fetched yet; the message says with which command, or from where by hand."""


class TrackerProcessError(SFTrackError, RuntimeError):
    """A tracker of another program, in a process of its own, that cannot run, ended, or took too long."""


class NotInitialisedError(SFTrackError, RuntimeError):
    """`update` was called before `init`."""

    exit_code = 1


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Which known name may be meant by an unknown one; None where no name is like it."""
    return next(iter(difflib.get_close_matches(given, list(known), n=1, cutoff=0.4)), None)


def nearest_hint(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: which known one may be meant, or nothing."""
    meant = nearest(given, known)
    return "" if meant is None else f"; did you mean '{meant}'?"
