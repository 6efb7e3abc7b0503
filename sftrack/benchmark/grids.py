"""Tables of a report, without a format: of a benchmark, and those of the paper with ours beside the published figures."""

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from sftrack.benchmark.ablation import TOP, TOP_TITLE, VARIANTS
from sftrack.benchmark.boards import Board, Ranked
from sftrack.benchmark.suites import Suite
from sftrack.metrics import BoxScores

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "got10k": {"average_overlap": "AO", "overlap_precision_50": "SR50", "overlap_precision_75": "SR75"},
    "trackingnet": {"success_auc": "AUC", "precision_20px": "P", "normalised_precision_auc": "NP"},
    "lasot": {"success_auc": "AUC", "precision_20px": "P", "normalised_precision_20": "NP"},
}
"""The numbers that a benchmark is known by, by `Suite.toolkit`, best known first."""
DEFAULT_COLUMNS: Mapping[str, str] = {
    "success_auc": "AUC",
    "overlap_precision_50": "OP50",
    "overlap_precision_75": "OP75",
    "precision_20px": "P20",
    "normalised_precision_auc": "NP AUC",
}

UNKNOWN = "-"
PUBLISHED = "published"
_TABLE9_SUITES = {"otb": "OTB-100", "uav123": "UAV123", "nfs": "NFS30"}


@dataclass(frozen=True)
class Grid:
    """A table of texts. `best` marks cells (row, column) that lead their column, `published` the rows that are not ours."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    published: frozenset[int] = frozenset()


def columns_of(suite: Suite) -> Mapping[str, str]:
    """The numbers shown of a benchmark, by their names in `BoxScores`, with their headings."""
    return COLUMNS.get(suite.toolkit, DEFAULT_COLUMNS)


def board_grid(board: Board) -> Grid:
    """Everybody on a benchmark, the best first."""
    columns = columns_of(board.suite)
    header = ("tracker", *columns.values(), "missed", "frames/s", "p95 ms", "sequences", "failed")
    rows = [_board_row(row, columns, len(board.videos), board.suite.size) for row in board.rows]
    notes = ("; ".join(board.conventions.lines()), *board.notes)
    alike = len({row.standing.missing for row in board.rows}) == 1  # else nobody leads: they were not judged by the same
    best = {(row, column) for column in range(1, 1 + len(columns)) for row in _leaders([cells[column] for cells in rows])}
    return Grid(board.suite.title, header, tuple(rows), notes, frozenset(best) if alike else frozenset())


def sequence_grid(board: Board) -> Grid:
    """The first number of the benchmark, by sequence."""
    number, title = next(iter(columns_of(board.suite).items()))
    names = [video.name for video in board.videos if any(video.name in row.standing.sequences for row in board.rows)]
    rows = tuple((name, *(_share(_number(row.standing.sequences.get(name), number)) for row in board.rows)) for name in names)
    best = frozenset((at, 1 + column) for at, row in enumerate(rows) for column in _leaders(row[1:]))
    return Grid(f"{board.suite.title}: {title} by sequence", ("sequence", *(row.name for row in board.rows)), rows, best=best)


def paper_grids(boards: Sequence[Board]) -> list[Grid]:
    """The paper's tables as far as they are published, ours below each row."""
    by_suite = {board.suite.key: {row.contender.name: row for row in board.rows} for board in boards}
    return [_table8(by_suite, boards), *_table9(by_suite, boards)]


@functools.cache
def _published() -> dict[str, Any]:
    return tomllib.loads((resources.files("sftrack.benchmark") / "published.toml").read_text(encoding="utf-8"))


def _table8(by_suite: Mapping[str, Mapping[str, Ranked]], boards: Sequence[Board]) -> Grid:
    table = _published()["table8"]
    columns = table["columns"]
    gather = _Gather(by_suite, boards)
    names = list(
        dict.fromkeys(row.contender.name for board in boards for row in board.rows if board.suite.key in {c["suite"] for c in columns})
    )
    rows: list[tuple[str, ...]] = []
    published: set[int] = set()

    def add_ours(name: str) -> None:
        cells = tuple(gather.percent(column["suite"], name, column["number"]) for column in columns)
        if any(cell != UNKNOWN for cell in cells):
            rows.append((name, *cells))

    for line in table["rows"]:
        published.add(len(rows))
        rows.append((f"{line['title']} ({PUBLISHED})", *(_percent(line.get(column["key"])) for column in columns)))
        for name in (line["entrant"], f"{line['entrant']}-replay") if "entrant" in line else ():
            if name in names:
                add_ours(name)
                names.remove(name)
    for name in names:
        if "-replay-" not in name:  # variants of Table 9
            add_ours(name)
    header = ("tracker", *(column["title"] for column in columns))
    return Grid(table["title"], header, tuple(rows), gather.notes(), published=frozenset(published))


def _table9(by_suite: Mapping[str, Mapping[str, Ranked]], boards: Sequence[Board]) -> list[Grid]:
    """A table for every entrant of which there are variants."""
    means = _published()["table9"]["means"]
    everyone = {name: row for found in by_suite.values() for name, row in found.items()}
    grids = []
    for full in sorted({name.partition("-replay-")[0] + "-replay" for name in everyone if "-replay-" in name}):
        gather = _Gather(by_suite, boards)
        rows = []
        for label, title in [*((label, title) for label, (title, _) in VARIANTS.items()), (TOP, TOP_TITLE)]:
            name = full if label == "full" else f"{full}-{label}"
            if name not in everyone and label == f"iterations_{_iterations(everyone.get(full))}":
                name = full  # it has as many iterations anyway
            ours = [gather.percent(suite, name, "success_auc") for suite in _TABLE9_SUITES]
            complete = [gather.value(suite, name, "success_auc") for suite in _TABLE9_SUITES]
            mean = (
                _percent(100.0 * sum(value for value in complete if value is not None) / len(complete)) if None not in complete else UNKNOWN
            )
            rows.append((title, _percent(means.get(label)), mean, *ours))
        header = ("variant", f"mean ({PUBLISHED})", f"mean ({full})", *_TABLE9_SUITES.values())
        grids.append(Grid(f"{_published()['table9']['title']}: {full}", header, tuple(rows), gather.notes()))
    return grids


def _iterations(row: Ranked | None) -> int | None:
    """Spectral iterations of an entrant, as its record has them."""
    if row is None or row.contender.record is None:
        return None
    pipeline = row.contender.record.settings.get("pipeline") or {}
    value = pipeline.get("iterations")
    return value if isinstance(value, int) else None


@dataclass
class _Gather:
    """Looks numbers up, and remembers which of them are of a part of the benchmark only."""

    by_suite: Mapping[str, Mapping[str, Ranked]]
    boards: Sequence[Board]
    partial: dict[str, str] = field(default_factory=dict)

    def value(self, suite: str, name: str, number: str) -> float | None:
        row = self.by_suite.get(suite, {}).get(name)
        return _number(row.standing.overall, number) if row is not None else None

    def percent(self, suite: str, name: str, number: str) -> str:
        """With a `*` where not all sequences of the benchmark were judged."""
        value = self.value(suite, name, number)
        if value is None:
            return UNKNOWN
        count, board = len(self.by_suite[suite][name].standing.sequences), next(one for one in self.boards if one.suite.key == suite)
        if count >= board.suite.size:
            return _percent(100.0 * value)
        self.partial[f"{name} on {board.suite.title}"] = f"{count} of {board.suite.size}"
        return _percent(100.0 * value) + "*"

    def notes(self) -> tuple[str, ...]:
        lines = [f"in percent; rows and columns marked '{PUBLISHED}' are the paper's, the others were measured here"]
        if self.partial:
            lines.append(
                "* does not compare with what is published, only a part was judged: " + "; ".join(map(": ".join, self.partial.items()))
            )
        return tuple(lines)


def _board_row(row: Ranked, columns: Iterable[str], judged: int, size: int) -> tuple[str, ...]:
    standing, speed = row.standing, row.standing.speed
    overall = standing.overall
    return (
        row.name,
        *(_share(_number(overall, name)) for name in columns),
        f"{overall.failures / overall.frames_with_target:.1%}" if overall is not None else UNKNOWN,
        f"{speed.frames_per_second:.1f}" if speed is not None else UNKNOWN,
        f"{1000.0 * speed.p95_s:.1f}" if speed is not None else UNKNOWN,
        f"{judged - len(standing.missing)} of {size}",
        str(len(row.contender.failures)),
    )


def _leaders(cells: Sequence[str]) -> list[int]:
    """Which of some numbers are the highest, as they are shown; none where there is nobody to lead."""
    known = [cell for cell in cells if cell != UNKNOWN]
    return [at for at, cell in enumerate(cells) if cell == max(known, key=float)] if len(known) > 1 else []


def _number(scores: BoxScores | None, name: str) -> float | None:
    return float(getattr(scores, name)) if scores is not None else None


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"
