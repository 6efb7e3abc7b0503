"""Which folder a run writes to: never one that holds the results of another, unless asked."""

import os
import re
from pathlib import Path

from sftrack.errors import SinkError
from sftrack.sinks.files import sink_error

RESULT_FILES = ("boxes.txt", "times.txt", "track.jsonl", "annotated.mp4", "masks/[0-9]*.png")


def results_folder(out: str | None, source_name: str, *, overwrite: bool = False) -> Path:
    """Where the results go: `out`, or the first of `runs/NAME`, `runs/NAME-2`, ... without results in it.

    Raises:
        SinkError: `out` holds the results of another run, and `overwrite` is False.
    """
    if out is None:
        stem = source_name if "://" in source_name else Path(source_name).stem
        name = re.sub(r"[^\w.-]+", "_", stem).strip("._") or "run"
        number, folder = 1, Path("runs", name)
        while _results_in(folder):
            number += 1
            folder = Path("runs", f"{name}-{number}")
        return folder
    former = _results_in(Path(out))
    if former and not overwrite:
        raise SinkError(f"'{out}' already holds results ({former[0].name}); give another --out, or --overwrite to replace them")
    return Path(out)


def claim_folder(out: str | None, source_name: str, *, overwrite: bool = False) -> Path:
    """`results_folder`, made and ready to be written, and taken: a run that starts at the same time is refused or goes elsewhere.

    It is taken by an empty `boxes.txt`, which only one run can be the first to make; its sink removes it if it stays empty.

    Raises:
        SinkError: as `results_folder`; or the folder cannot be made or written to.
    """
    if out is not None and overwrite:
        remove_results(Path(out))
        return Path(out)
    while True:
        folder = results_folder(out, source_name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "boxes.txt").touch(exist_ok=False)
            return folder
        except OSError as error:
            if not _results_in(folder):  # else another run was faster
                raise sink_error(folder, error) from error


def spare_the_source(given: str | None, out_dir: Path) -> None:
    """Refuse to replace what is being read: the video or the masks of a former run."""
    if given is None:
        return
    read = Path(given).resolve()
    for path in (found.resolve() for found in _results_in(out_dir)):
        if path == read or (path.parent.name == "masks" and path.parent in (read, read.parent)):
            raise SinkError(f"'{given}' would be replaced by the results in '{out_dir}'; give another --out")


def remove_results(folder: Path) -> None:
    """Remove a former run's files, of which a shorter or smaller run would leave some standing.

    Raises:
        SinkError: no permission.
    """
    try:
        for path in _results_in(folder):
            path.unlink()
    except OSError as error:
        raise SinkError(f"cannot replace {error.filename}: {error.strerror}; give another --out") from error


def _results_in(folder: Path) -> list[Path]:
    is_there = os.path.isdir(folder)  # Path.is_dir raises where a name is too long
    return [path for pattern in RESULT_FILES for path in sorted(folder.glob(pattern))] if is_there else []
