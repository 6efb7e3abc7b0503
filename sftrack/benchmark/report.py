"""The files of a report: tables, plots, and the page with all of it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from sftrack.benchmark import tables
from sftrack.benchmark.boards import Board
from sftrack.benchmark.grids import board_grid, paper_grids, sequence_grid
from sftrack.benchmark.results import make_folder, write_whole
from sftrack.benchmark.settings import environment
from sftrack.errors import ConfigError
from sftrack.sinks.files import sink_error

PAGE = "report.html"


def write_tables(boards: Sequence[Board], folder: Path) -> None:
    """`summary.csv`, `sequences.csv`, `attributes.csv` where a data set has some, and `tables.tex`.

    Raises:
        SinkError: they cannot be written.
    """
    make_folder(folder)
    files = {
        "summary.csv": tables.summary_csv(boards),
        "sequences.csv": tables.sequences_csv(boards),
        "tables.tex": tables.latex_of([*map(board_grid, boards), *paper_grids(boards), *map(sequence_grid, boards)]),
    }
    if any(row.standing.attributes for board in boards for row in board.rows):
        files["attributes.csv"] = tables.attributes_csv(boards)
    for name, text in files.items():
        write_whole(folder / name, text)


def write_page(boards: Sequence[Board], folder: Path) -> Path:
    """`report.html`, and the plots as PNG files beside it; returns the page.

    Raises:
        ConfigError: a package is missing; the message says what to install.
        SinkError: they cannot be written.
    """
    for package in ("matplotlib", "jinja2"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            text = f"the package '{package}' is not installed; for plots and the page: pip install \"sftrack[bench]\""
            raise ConfigError(f"{text}; the tables are in {folder}") from error
    from sftrack.benchmark.page import page_of
    from sftrack.benchmark.plots import plots_of

    plots = {board.suite.key: plots_of(board) for board in boards}
    for made in plots.values():
        for name, png in made.items():
            path = folder / f"{name}.png"
            try:
                path.write_bytes(png)
            except OSError as error:
                raise sink_error(path, error) from error
    now, program = datetime.now(UTC).isoformat(sep=" ", timespec="minutes"), environment()
    version = " ".join(filter(None, [program["sftrack"], f"(commit {program['commit']})" if program["commit"] else None]))
    write_whole(folder / PAGE, page_of(boards, plots, f"Made {now} with sftrack {version}"))
    return folder / PAGE
