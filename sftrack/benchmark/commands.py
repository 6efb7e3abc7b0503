"""`sftrack bench run | check | ablate | report | compare | export`: their flags, and what only reads files."""

import argparse
from pathlib import Path
from typing import Any

from sftrack.arguments import Subcommands, a_path, at_least, say
from sftrack.errors import ConfigError, SourceError

_EXAMPLES = """\
examples:
  %(prog)s run --benchmark otb --root ~/data/OTB100 --tracker light --tracker nanotrack-v2
  %(prog)s run --benchmark otb --benchmark uav123 --root ~/data --tracker full --jobs 4
  %(prog)s run --benchmark nfs --root ~/data/NFS --tracker full --replay
  %(prog)s check --root ~/data
  %(prog)s ablate --benchmark otb --root ~/data/OTB100 --tracker full
  %(prog)s report --out results
  %(prog)s compare --benchmark otb ~/pytracking/tracking_results ~/pysot/results STRUCK=~/struck
  %(prog)s export --benchmark got10k-test --tracker full --format got10k --to submission

Results go to OUT/<data set>/<tracker>/<sequence>.txt; run again, only what is missing is done. See docs/benchmark-mode.md.
"""

EXIT_OK, EXIT_FAILURES = 0, 1


def add_bench_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `bench` and its subcommands to the parser of `sftrack`; each sets `run`, which returns the exit code."""
    bench = Subcommands(
        commands,
        "bench",
        text="run trackers over OTB, UAV123, NFS and other data sets",
        description="Run trackers over data sets and judge them as the official toolkits do.",
        examples=_EXAMPLES,
    )
    run = bench.add("run", _run, "run trackers over data sets, or go on where a run ended")
    _add_data_flags(run)
    _add_run_flags(run)
    run.add_argument("--runs", metavar="N", type=at_least(1), default=1, help="so many runs with seeds that follow each other (default 1)")
    run.add_argument("--replay", action="store_true", help="fuse boxes that the presets' trackers made alone; they are run where missing")
    check = bench.add("check", _check, "say what of the data sets lies on the disk, and what is wrong with it")
    _add_data_flags(check, all_by_default=True)
    ablate = bench.add("ablate", _ablate, "the variants of the paper's Table 9, from boxes recorded once")
    _add_data_flags(ablate)
    _add_run_flags(ablate)
    report = bench.add("report", _report, "tables, plots and a page of all results in a folder")
    _add_report_flags(report)
    report.set_defaults(results=[], truth=None)
    compare = bench.add("compare", _report, "the same report, with results of pytracking, PySOT and the GOT-10k toolkit beside ours")
    compare.add_argument(
        "results", metavar="[NAME=]DIR", type=_named, nargs="+", help="folder of results as such a program has written it, at any level"
    )
    compare.add_argument("--truth", metavar="DIR", type=a_path, help="true boxes as <sequence>.txt, where the images are not at hand")
    _add_report_flags(compare)
    export = bench.add("export", _export, "results as the tools and servers of others take them")
    _add_export_flags(export)


def _add_data_flags(parser: argparse.ArgumentParser, *, all_by_default: bool = False) -> None:
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        action="append",
        required=not all_by_default,
        help="otb, otb2013, otb50, uav123, uav123-10fps, nfs, nfs240, got10k, got10k-test, trackingnet, lasot, davis; may be repeated"
        + (" (default: all that are found)" if all_by_default else ""),
    )
    parser.add_argument("--root", metavar="DIR", type=a_path, required=True, help="the data set's folder, or the one that it lies in")
    parser.add_argument("--sequence", metavar="NAME", action="append", default=[], help="only this sequence; may be repeated")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracker",
        metavar="NAME",
        action="append",
        help="a preset (default: auto), a channel of one (light/flow), a tracker (docs/trackers.md), settings (mine.toml); may be repeated",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=_place, default=Path("results"), help="folder or fsspec address of all results (default: results)"
    )
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto (default), cpu, cuda, mps; cuda takes all GPUs in turn")
    parser.add_argument(
        "--jobs", metavar="N", type=at_least(1), default=1, help="so many sequences at a time, each in a process (default 1)"
    )
    parser.add_argument("--engine", choices=("process", "ray"), default="process", help="ray: on many machines (extra 'distributed')")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster, or auto (default: one on this machine)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all random numbers (default 0)")
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove the results that --out holds of these trackers, recordings of --replay included, and start anew",
    )
    parser.add_argument("--json", action="store_true", help="progress and results as one JSON object per line on stdout")


def _add_report_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--benchmark", metavar="NAME", action="append", help="as in `run`; may be repeated (default: all with results)")
    parser.add_argument("--out", metavar="DIR", type=a_path, default=Path("results"), help="folder of our results (default: results)")
    parser.add_argument("--root", metavar="DIR", type=a_path, help="folder of the data sets (default: where the results were made)")
    parser.add_argument("--tracker", metavar="NAME", action="append", default=[], help="only this of our results; may be repeated")
    parser.add_argument("--to", metavar="DIR", type=a_path, help="folder of the report (default: OUT/report)")
    parser.add_argument(
        "--conventions", metavar="NAME", help="judge as this toolkit does (docs/benchmark-mode.md; default: the benchmark's)"
    )
    parser.add_argument("--common", action="store_true", help="judge only sequences of which all have a result")


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", required=True, help="pytracking, got10k, trackingnet or lasot")
    parser.add_argument("--benchmark", metavar="NAME", required=True, help="as in `run`")
    parser.add_argument("--tracker", metavar="NAME", action="append", default=[], help="only this; may be repeated (default: all)")
    parser.add_argument("--out", metavar="DIR", type=a_path, default=Path("results"), help="folder of our results (default: results)")
    parser.add_argument("--to", metavar="DIR", type=a_path, required=True, help="folder to make, or one that is empty")


def _place(text: str) -> str | Path:
    """Converter for argparse: an address for fsspec, or a path."""
    return text if "://" in text else a_path(text)


def _named(text: str) -> tuple[str | None, Path]:
    """Converter for argparse: a folder, and the name that was given to it."""
    name, sign, folder = text.rpartition("=")
    return name if sign else None, a_path(folder)


def _run(args: argparse.Namespace) -> int:
    from sftrack.benchmark.running import run

    return EXIT_FAILURES if run(args) else EXIT_OK


def _ablate(args: argparse.Namespace) -> int:
    from sftrack.benchmark.running import ablate

    return EXIT_FAILURES if ablate(args) else EXIT_OK


def _check(args: argparse.Namespace) -> int:
    """Say what lies under the root; 1 where something of it is damaged."""
    from sftrack.benchmark.plan import read_course, those_with
    from sftrack.benchmark.suites import SUITES, find_suite

    suites = [find_suite(name) for name in args.benchmark or SUITES]
    found, reasons = [], []
    for suite in suites:
        try:
            found.append(read_course(suite, args.root, args.sequence))
        except SourceError as error:
            reasons.append(str(error))
    for course in those_with(args.sequence, found):
        frames = sum(map(len, course.videos))
        attributes = " with attributes" if any(video.attributes for video in course.videos) else ""
        say(f"{course.survey.line()}; {frames} frames{attributes}", stdout=True)
        for line in (*course.notes, *(f"{name}: {reason}" for name, reason in course.damaged.items())):
            say(f"  {line}", stdout=True)
    if args.benchmark and reasons:
        for reason in reasons[:-1]:
            say(f"error: {reason}")
        raise SourceError(reasons[-1])
    if not found:
        raise SourceError(f"expected a data set under {args.root}, found none; `--benchmark NAME` says why")
    return EXIT_FAILURES if any(course.damaged for course in found) else EXIT_OK


def _report(args: argparse.Namespace) -> int:
    """Judge what is there and write the report; the tables are on stdout too."""
    from sftrack.benchmark.boards import open_course, own_contenders, read_board, suites_in
    from sftrack.benchmark.foreign import find_contenders, has_results
    from sftrack.benchmark.grids import board_grid, paper_grids
    from sftrack.benchmark.report import write_page, write_tables
    from sftrack.benchmark.suites import find_suite
    from sftrack.benchmark.tables import text_of
    from sftrack.metrics import CONVENTIONS

    if args.conventions is not None and args.conventions not in CONVENTIONS:
        raise ConfigError(f"expected --conventions out of {', '.join(CONVENTIONS)}, got '{args.conventions}'")
    rules = CONVENTIONS.get(args.conventions or "")
    suites = list(dict.fromkeys(map(find_suite, args.benchmark))) if args.benchmark else suites_in(args.out)
    ours = [own_contenders(args.out, suite, args.tracker) for suite in suites]
    courses = [open_course(suite, args.out, args.root, args.truth) for suite in suites]
    boards = []
    for name, folder in args.results:
        having = [at for at, course in enumerate(courses) if has_results(course, folder)]
        for at in having or [0]:  # none: `find_contenders` says so
            ours[at] += find_contenders(courses[at], folder, name)
    for course, contenders in zip(courses, ours, strict=True):
        boards.append(read_board(course, contenders, rules, common=args.common))
        say(text_of(board_grid(boards[-1])) + "\n", stdout=True)
    for grid in paper_grids(boards):
        say(text_of(grid) + "\n", stdout=True)
    folder = args.to or args.out / "report"
    write_tables(boards, folder)
    say(f"report: {write_page(boards, folder)}")
    return EXIT_OK


def _export(args: argparse.Namespace) -> int:
    """Write the files and say where they are."""
    from sftrack.benchmark.export import export
    from sftrack.benchmark.suites import find_suite

    exported = export(args.format, find_suite(args.benchmark), args.out, args.to, args.tracker)
    for note in exported.notes:
        say(note)
    for path in exported.paths:
        say(str(path), stdout=True)
    return EXIT_OK
