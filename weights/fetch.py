"""Get a registered file from where it is published into the folder of weights.

gdown does the transfer, for plain addresses as well as for Google Drive: it goes on where a broken one ended. What arrives is checked
under another name and renamed at the end, so that under its own name there is only ever the whole, right file.
"""

import contextlib
import sys
from pathlib import Path
from urllib.parse import urlsplit

import gdown
import requests
from gdown.exceptions import DownloadError
from tqdm import tqdm

from sftrack.errors import WeightsError

from . import registry
from .checkpoints import read_checkpoint, structure_of
from .registry import WeightsFile

TIMEOUT_S = (10.0, 60.0)
"""To connect, and without any byte afterwards."""

ATTEMPTS = 6
"""How often a broken transfer is taken up within one call; the next call goes on with it as well."""


def fetch(entry: WeightsFile, *, again: bool = False) -> Path:
    """Download a file unless it is there, and check it. Progress is shown where stderr is a terminal.

    Args:
        again: replace the file that is there.

    Raises:
        WeightsError: it cannot be had, or is not the published file; the message says how to get it by hand.
    """
    there = registry.path_of(entry)
    if there is not None and not again:
        registry.verify(entry, there)
        return there
    target = registry.folder() / entry.file
    arrived = target.with_name(f"{entry.file}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived.unlink(missing_ok=True)  # of a process that was killed; gdown would take it for the whole file
        _transfer(entry, arrived)
        check(entry, arrived)
        registry.accept(target)
        arrived.replace(target)
    except OSError as error:  # of the disk: those of the network have become WeightsErrors
        raise WeightsError(f"cannot write '{target}' ({error.strerror}); {registry.FOLDER_VARIABLE} names another folder") from error
    finally:
        with contextlib.suppress(OSError):
            arrived.unlink()
    registry.verify(entry, target)
    return target


def check(entry: WeightsFile, path: Path) -> None:
    """Whether a file is what its entry says: by hash where it is published, else by the names and shapes of its tensors.

    Raises:
        WeightsError: it is another file, damaged, or no checkpoint.
    """
    published = entry.sha256 if path.suffix != ".safetensors" else None  # a converted file has a hash of its own
    if published is not None and registry.sha256_of(path) == published:
        return
    tensors = read_checkpoint(path).tensors
    others = registry.recognise(tensors)
    holds = f"holds those of {' or '.join(others)}" if others else f"holds {len(tensors)} tensors of an unknown network"
    if entry.structure is not None and structure_of(tensors) != entry.structure:
        raise WeightsError(f"expected the weights of {entry.name}, '{path}' {holds}")
    if published is not None:
        raise WeightsError(
            f"expected {entry.file} with sha256 {published}, '{path}' fits the network but has {registry.sha256_of(path)}: "
            "it is not the published file; other weights can be given to a tracker by their path"
        )


def _transfer(entry: WeightsFile, arrived: Path) -> None:
    """Download to `arrived`, going on with what an earlier call left, and again as long as every attempt brings something."""
    for attempt in range(ATTEMPTS):
        had = _size(_partial(arrived))
        try:
            return _download(entry, arrived)
        except (DownloadError, requests.RequestException) as error:
            left, last = _partial(arrived), attempt + 1 == ATTEMPTS
            if _size(left) > had and not last:
                continue
            if left is not None and had and not last and isinstance(error, DownloadError) and error.__cause__ is None:
                left.unlink()  # the server answers, but cannot go on from there, or has another file now
                continue
            kept = "; what arrived is kept, and the same command goes on with it" if _size(left) else ""
            raise WeightsError(f"cannot fetch {entry.name} ({_reason(error)}){kept}; else {registry.by_hand(entry)}") from error


def _download(entry: WeightsFile, arrived: Path) -> None:
    with tqdm(total=entry.size, unit="B", unit_scale=True, desc=entry.file, disable=not sys.stderr.isatty(), leave=False) as bar:

        def show(received: int, total: int | None) -> None:
            bar.total = total or bar.total
            bar.update(received - bar.n)

        gdown.download(
            url=entry.url,
            id=entry.drive_id,
            output=str(arrived),
            quiet=True,
            resume=True,
            timeout=TIMEOUT_S,
            progress=show,
        )


def _partial(arrived: Path) -> Path | None:
    """What gdown has of an unfinished transfer; of several (two processes at once) the largest, the others are removed."""
    parts = sorted(arrived.parent.glob(f"{arrived.name}????????.part"), key=lambda path: path.stat().st_size)
    for path in parts[:-1]:
        path.unlink()
    return parts[-1] if parts else None


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None else 0


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{urlsplit(error.response.url).hostname} answers {error.response.status_code} {error.response.reason}"
    cause = error.__cause__ if isinstance(error, DownloadError) and isinstance(error.__cause__, requests.RequestException) else error
    if isinstance(cause, requests.Timeout):
        return f"no answer within {TIMEOUT_S[1]:.0f} s"
    if isinstance(cause, requests.ConnectionError) and cause.request is not None and cause.request.url is not None:
        return f"{urlsplit(cause.request.url).hostname} cannot be reached, or ended the connection"
    return " ".join(str(error).split()).split(". The received bytes")[0]


__all__ = ["check", "fetch"]
