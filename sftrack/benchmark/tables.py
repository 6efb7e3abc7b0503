"""Tables as text for a terminal, as CSV with every number, and as LaTeX."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sftrack.benchmark.boards import Board, Ranked
from sftrack.benchmark.grids import Grid
from sftrack.benchmark.scores import Speed
from sftrack.metrics import BoxScores

_LATEX = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def text_of(grid: Grid) -> str:
    """Aligned columns: names to the left, numbers to the right."""
    lines = [grid.header, *grid.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(grid.header))]

    def shown(line: Sequence[str]) -> str:
        return "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()

    return "\n".join([grid.title, *(f"  {shown(line)}" for line in lines), *(f"  ({note})" for note in grid.notes)])


def latex_of(grids: Iterable[Grid]) -> str:
    """One `tabular` for each; they need the package booktabs. The best of a column is bold, published rows are italic."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_tabular(grid) for grid in grids)


def _tabular(grid: Grid) -> str:
    def cell(row: int, column: int) -> str:
        text = grid.rows[row][column].translate(_LATEX).replace(" -- ", "--")
        if text == "-":
            text = "--"
        text = rf"\textbf{{{text}}}" if (row, column) in grid.best else text
        return rf"\textit{{{text}}}" if row in grid.published else text

    lines = [" & ".join(cell(row, column) for column in range(len(grid.header))) + r" \\" for row in range(len(grid.rows))]
    return "\n".join(
        [
            f"% {grid.title}",
            *(f"% {note}" for note in grid.notes),
            rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}",
            r"\toprule",
            " & ".join(text.translate(_LATEX) for text in grid.header) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def summary_csv(boards: Iterable[Board]) -> str:
    """A row per benchmark and tracker, with every number."""
    return _csv(_summary_row(board, row) for board in boards for row in board.rows)


def sequences_csv(boards: Iterable[Board]) -> str:
    """A row per benchmark, tracker and sequence."""
    return _csv(
        {**line, **_speed(row.standing.speeds.get(str(line["sequence"])))}
        for board in boards
        for row in board.rows
        for line in _part_rows(board, row, "sequence", row.standing.sequences)
    )


def attributes_csv(boards: Iterable[Board]) -> str:
    """A row per benchmark, tracker and attribute; nothing where the data set has none."""
    return _csv(line for board in boards for row in board.rows for line in _part_rows(board, row, "attribute", row.standing.attributes))


def _summary_row(board: Board, row: Ranked) -> dict[str, object]:
    overall = row.standing.overall
    return {
        "benchmark": board.suite.key,
        "tracker": row.contender.name,
        "runs": len(row.contender.runs),
        "sequences": len(board.videos) - len(row.standing.missing),
        "of_sequences": board.suite.size,
        **(_numbers(overall) if overall is not None else {}),
        **_speed(row.standing.speed),
        "failed_sequences": len(row.contender.failures),
        "conventions": "; ".join(board.conventions.lines()),
        "folder": row.contender.origin,
    }


def _part_rows(board: Board, row: Ranked, kind: str, parts: Mapping[str, BoxScores]) -> Iterator[dict[str, object]]:
    for name, scores in parts.items():
        yield {"benchmark": board.suite.key, "tracker": row.contender.name, kind: name, **_numbers(scores)}


def _numbers(scores: BoxScores) -> dict[str, object]:
    return {name: value if isinstance(value, int) else f"{value:.6f}" for name, value in scores.as_dict().items()}


def _speed(speed: Speed | None) -> dict[str, object]:
    if speed is None:
        return {"frames_per_second": "", "p95_s": ""}
    return {"frames_per_second": f"{speed.frames_per_second:.3f}", "p95_s": f"{speed.p95_s:.6f}"}


def _csv(lines: Iterable[Mapping[str, object]]) -> str:
    """All columns that any line has, in the order in which they first come."""
    rows = list(lines)
    header = list(dict.fromkeys(key for row in sorted(rows, key=len, reverse=True) for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
