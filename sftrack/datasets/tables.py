"""Which sequences the official benchmarks run, and which images of them: `tables/*.csv`, explained in `tables/README.md`."""

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Row:
    """One sequence of a table; `first` and `last` number its first and last image, None where all count."""

    name: str
    folder: str
    target: str = ""
    first: int | None = None
    last: int | None = None
    skipped_rows: int = 0
    sets: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@functools.cache
def rows(table: str) -> Mapping[str, Row]:
    """The rows of `otb`, `uav123` or `lasot` by sequence name, in the order of the benchmark."""
    text = (resources.files("sftrack.datasets") / "tables" / f"{table}.csv").read_text(encoding="utf-8")
    return {line["name"]: _row(line) for line in csv.DictReader(text.splitlines())}


def _row(line: Mapping[str, str]) -> Row:
    def number(column: str) -> int | None:
        return int(line[column]) if line.get(column) else None

    name = line["name"]
    return Row(
        name,
        line.get("folder") or name,
        line.get("target", ""),
        number("first"),
        number("last"),
        number("skipped_rows") or 0,
        tuple(line.get("sets", "").split()),
        tuple(line.get("aliases", "").split()),
    )


def spelled(name: str) -> str:
    """A name as it is compared: toolkits write `Jogging-1`, `Jogging_1` or `Jogging.1`, and some all in small letters."""
    return name.lower().replace("_", "-").replace(".", "-")


@functools.cache
def _spellings(table: str) -> Mapping[str, Row]:
    every = rows(table).values()
    return {spelled(text): row for row in every for text in (*row.aliases, row.name)}


def find_row(table: str, name: str) -> Row | None:
    """The row that a toolkit means by `name`, None where there is none; see `spelled`."""
    return _spellings(table).get(spelled(name))
