"""The report as one HTML file that needs nothing else: no network, no script, pictures inside. Jinja2 is imported here only."""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources

import jinja2

from sftrack.benchmark.boards import Board, Ranked
from sftrack.benchmark.grids import Grid, board_grid, paper_grids, sequence_grid

UNSHADED = "-"


def page_of(boards: Sequence[Board], plots: Mapping[str, Mapping[str, bytes]], made: str) -> str:
    """The page.

    Args:
        plots: PNG files by benchmark's key and name.
        made: when and with which version, a line.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["shade"] = _shade
    template = environment.from_string((resources.files("sftrack.benchmark") / "templates" / "report.html.j2").read_text(encoding="utf-8"))
    chapters = [
        {
            "key": board.suite.key,
            "title": board.suite.title,
            "line": board.survey.line(),
            "summary": board_grid(board),
            "plots": {name: base64.b64encode(png).decode("ascii") for name, png in plots.get(board.suite.key, {}).items()},
            "sequences": sequence_grid(board),
            "troubles": [(row.name, _troubles(row)) for row in board.rows if _troubles(row)],
            "origins": [_origin(row) for row in board.rows],
        }
        for board in boards
    ]
    papers: list[Grid] = paper_grids(boards)
    return template.render(chapters=chapters, papers=papers, made=made)


def _troubles(row: Ranked) -> list[str]:
    """What is not there, and why."""
    lines = [f"{sequence}: {reason}" for sequence, reason in sorted(row.contender.failures.items())]
    silent = [name for name in row.standing.missing if name not in row.contender.failures]
    if silent:
        lines.append(f"no result of {len(silent)} sequences: {', '.join(silent)}")
    if row.standing.unjudged:
        lines.append(f"truth not public for {len(row.standing.unjudged)} sequences")
    return lines


def _origin(row: Ranked) -> dict[str, object]:
    record = row.contender.record
    return {
        "name": row.name,
        "folder": str(row.contender.origin),
        "root": record.root if record is not None else None,
        "settings": json.dumps(record.settings, indent=1, sort_keys=True) if record is not None else None,
        "environments": json.dumps(list(record.environments), indent=1, sort_keys=True) if record is not None else None,
    }


def _shade(cell: str) -> str:
    """Background of a number in [0, 1]: red to green through pale yellow."""
    if cell == UNSHADED:
        return "transparent"
    return f"hsl({120.0 * float(cell):.0f} 60% 88%)"
