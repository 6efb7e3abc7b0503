"""Success, precision and attribute plots of a benchmark as PNG. matplotlib is imported here only."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sftrack.benchmark.boards import Board, Ranked
from sftrack.benchmark.grids import columns_of
from sftrack.metrics import BoxScores

DPI = 110
MOST_CURVES = 12
"""More lines than these cannot be told apart: the best are drawn."""
LEAST_ATTRIBUTES = 3

_STYLES = ("-", "--", "-.")
_Curve = Callable[[BoxScores], NDArray[np.float64]]


def plots_of(board: Board) -> dict[str, bytes]:
    """PNG files by name (`otb_success`, `otb_precision`, ...); nothing where nobody could be judged."""
    rows = [row for row in board.rows if row.standing.overall is not None][:MOST_CURVES]
    if not rows:
        return {}
    key, title = board.suite.key, board.suite.title
    made = {
        f"{key}_success": _curves(
            rows,
            f"{title}: success",
            "overlap threshold",
            lambda scores: scores.overlap_thresholds,
            lambda scores: scores.success,
            lambda scores: scores.success_auc,
        ),
        f"{key}_precision": _curves(
            rows,
            f"{title}: precision",
            "distance of the centres [pixels]",
            lambda scores: np.arange(len(scores.precision), dtype=np.float64),
            lambda scores: scores.precision,
            lambda scores: scores.precision_20px,
        ),
        f"{key}_normalised_precision": _curves(
            rows,
            f"{title}: normalised precision",
            "distance of the centres [share of the true box]",
            lambda scores: np.linspace(0.0, 0.5, len(scores.normalised_precision)),
            lambda scores: scores.normalised_precision,
            lambda scores: scores.normalised_precision_auc,
        ),
    }
    attributes = sorted({name for row in rows for name in row.standing.attributes})
    if len(attributes) >= LEAST_ATTRIBUTES:
        made[f"{key}_attributes"] = _radar(board, rows, attributes)
    return made


def _curves(rows: list[Ranked], title: str, x_label: str, x_of: _Curve, y_of: _Curve, number_of: Callable[[BoxScores], float]) -> bytes:
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    pairs = [(row, row.standing.overall) for row in rows if row.standing.overall is not None]
    for at, (row, scores) in sorted(enumerate(pairs), key=lambda pair: -number_of(pair[1][1])):
        # Not cut off at the border, where a curve of 1 would be half as wide.
        axes.plot(x_of(scores), y_of(scores), **_style(at), label=f"[{number_of(scores):.3f}] {row.name}", clip_on=False)
    axes.set(title=title, xlabel=x_label, ylabel="share of frames", ylim=(0.0, 1.0), xlim=(0.0, float(x_of(pairs[0][1])[-1])))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small", frameon=False)
    return _png(figure)


def _radar(board: Board, rows: list[Ranked], attributes: list[str]) -> bytes:
    number, heading = next(iter(columns_of(board.suite).items()))
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    angles = np.linspace(0.0, 2.0 * np.pi, len(attributes), endpoint=False)
    highest = 0.0
    for at, row in enumerate(rows):
        found = row.standing.attributes
        values = np.array([float(getattr(found[name], number)) if name in found else np.nan for name in attributes])
        highest = max(highest, float(np.nanmax(values, initial=0.0)))
        axes.plot(np.append(angles, angles[0]), np.append(values, values[0]), **_style(at), label=row.name)
    axes.set_ylim(0.0, min(1.0, 1.05 * highest) or 1.0)
    axes.set_xticks(angles, attributes)
    axes.tick_params(axis="y", labelsize="x-small", labelcolor="gray")
    axes.grid(alpha=0.3)
    axes.set_title(f"{board.suite.title}: {heading} by attribute", pad=16)
    axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1.0), fontsize="small", frameon=False)
    return _png(figure)


def _style(at: int) -> dict[str, Any]:
    """The same colour and dashes for a tracker in every plot of a benchmark."""
    return {"color": colormaps["tab10"](at % 10), "linestyle": _STYLES[at // 10 % len(_STYLES)], "linewidth": 1.8}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()
