"""OTB-100 (Wu, Lim, Yang, TPAMI 2015), with OTB-2013 and OTB-50 as parts of it. 1-based files become 0-based here.

Folders as people have them: `Seq/img/*.jpg` with `groundtruth_rect[.1|.2].txt`; a folder per target (`Jogging-1/`), as PySOT has it
beside its `OTB100.json`. Attributes come from that file or from `anno/att/Seq.txt` of the benchmark's own toolkit, where there is one.
"""

import json
from pathlib import Path

from sftrack.datasets.sequence import Sequence, find_base, image_files, number_of, one_based, pair, read_boxes
from sftrack.datasets.tables import Row, find_row, rows, spelled
from sftrack.errors import SourceError

ATTRIBUTES = ("IV", "OPR", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OV", "BC", "LR")
"""In the order of the columns of `anno/att/*.txt`: illumination, out-of-plane rotation, scale, occlusion, deformation, motion blur, fast
motion, in-plane rotation, out of view, background clutter, low resolution."""

_SPELLED_OUT = {
    "illumination variation": "IV",
    "out-of-plane rotation": "OPR",
    "scale variation": "SV",
    "occlusion": "OCC",
    "deformation": "DEF",
    "motion blur": "MB",
    "fast motion": "FM",
    "in-plane rotation": "IPR",
    "out-of-view": "OV",
    "out of view": "OV",
    "background clutter": "BC",
    "background clutters": "BC",
    "low resolution": "LR",
}


def otb_names(root: Path) -> tuple[str, ...]:
    """Targets that lie under `root`, by their names in the benchmark (`Jogging-1`); folders that it does not know by their own.

    Raises:
        SourceError: no OTB sequence under `root`.
    """
    base = _base(root)
    names: set[str] = set()
    for folder in sorted(path.parent for path in base.glob("*/img")):
        row = find_row("otb", folder.name)
        targets = [row for row in rows("otb").values() if row.folder == folder.name]
        if row is not None and row.folder != folder.name:  # a folder of one target
            targets = [row]
        if targets:
            names.update(row.name for row in targets if _truth_files(folder, row))
        elif list(folder.glob("groundtruth_rect*.txt")):
            names.add(folder.name)
    if not names:
        raise SourceError(f"expected OTB sequences (folders with img/ and groundtruth_rect.txt) under {base}, found none")
    return tuple(sorted(names))


def read_otb(root: Path, name: str) -> Sequence:
    """One target, by the name that `otb_names` gives or as any toolkit spells it (`Jogging_1`, `Jogging.1`).

    Raises:
        SourceError: missing files, or fewer images than true boxes.
    """
    base = _base(root)
    row = find_row("otb", name) or Row(name, name)
    folders = [base / name, base / row.name, base / row.folder]
    folder = next((folder for folder in folders if (folder / "img").is_dir()), folders[-1])
    truths = _truth_files(folder, row)
    if len(truths) != 1:
        raise SourceError(f"expected one truth file for OTB100/{row.name} in {folder}, found {len(truths)}")
    boxes = one_based(read_boxes(truths[0]))[row.skipped_rows :]
    frames = image_files(folder / "img")
    if row.first is not None and row.last is not None:
        frames = tuple(path for path in frames if row.first <= number_of(path) <= row.last)
    frames, notes = pair(frames, len(boxes), f"OTB100/{row.name}")
    return Sequence(row.name, "OTB100", frames, boxes, first_pixel=1, attributes=_attributes(base, row), notes=notes)


def _base(root: Path) -> Path:
    return find_base(root, ("OTB100", "OTB2015", "OTB", "TB100", "OTB2013", "OTB50"), ("*/img",), "OTB")


def _truth_files(folder: Path, row: Row) -> list[Path]:
    """The file of a target's truth: a list of one, unless it is missing or cannot be told."""
    if row.target and (own := folder / f"groundtruth_rect.{row.target}.txt").is_file():
        return [own]
    return sorted(folder.glob("groundtruth_rect.txt" if row.target else "groundtruth_rect*.txt"))


def _attributes(base: Path, row: Row) -> tuple[str, ...]:
    """From a file of the toolkit (a line of 0 and 1), or from PySOT's description of the data set; nothing where there is neither."""
    for name in (row.name, row.folder, row.name.lower(), row.name[:1].lower() + row.name[1:]):
        path = base / "anno" / "att" / f"{name}.txt"
        if path.is_file():
            flags = path.read_text(encoding="utf-8").replace(",", " ").split()
            return tuple(short for short, flag in zip(ATTRIBUTES, flags, strict=False) if float(flag))
    for path in sorted(base.glob("OTB*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SourceError(f"expected PySOT's description of OTB in {path}, it is not JSON: {error}") from error
        for name, entry in content.items():
            if spelled(name) == spelled(row.name):
                return tuple(_SPELLED_OUT.get(text.lower(), text) for text in entry.get("attr", ()) if text.upper() != "ALL")
    return ()
