"""Plots that the documents show: small files, one look."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.recordings import CHECKOUT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = CHECKOUT / "docs" / "figures"


def new_figure(columns: int = 1, height: float = 3.4, width: float = 5.0) -> tuple["Figure", list["Axes"]]:
    """A figure with axes side by side.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("expected matplotlib for the plots; pip install matplotlib, or pip install -e '.[bench]'") from error
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def save_figure(figure: "Figure", folder: Path, name: str) -> None:
    """Write `name.png` and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=80)
    print(f"plot: {path} ({path.stat().st_size / 1000:.0f} kB)")
