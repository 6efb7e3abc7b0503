"""The one table of keys. The window's actions and the help text are made from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shortcut:
    """Attributes:
    action: the name of the window's method.
    keys: in Qt's spelling (`QKeySequence`).
    help: what the keys do, for the user.
    """

    action: str
    keys: tuple[str, ...]
    help: str


SHORTCUTS = (
    Shortcut("toggle_pause", ("Space",), "pause, go on (a live picture runs on, untracked)"),
    Shortcut("reselect", ("R",), "choose the target again: pauses, then drag a box"),
    Shortcut("cancel", ("Esc",), "cancel the box being dragged, or keep the old target"),
    Shortcut("toggle_boxes", ("B",), "show or hide the target's box"),
    Shortcut("toggle_channels", ("C",), "show or hide the boxes of the single trackers"),
    Shortcut("toggle_mask", ("M",), "show or hide the segmentation"),
    Shortcut("toggle_help", ("H", "F1"), "show or hide this list"),
    Shortcut("quit", ("Q", "Ctrl+Q", "Ctrl+W"), "quit; what was tracked is kept"),
)


def help_html() -> str:
    """The table for people."""
    cell = "style='white-space: nowrap; padding: 3px 14px 3px 0px'"
    rows = "".join(f"<tr><td {cell}><b>{', '.join(s.keys)}</b></td><td {cell}>{s.help}</td></tr>" for s in SHORTCUTS)
    return f"<table>{rows}</table>"
