"""`sftrack bench run | check | ablate | report | compare | export`."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftrack.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from sftrack.benchmark.entrants import Entrant
    from sftrack.benchmark.jobs import Engine
    from sftrack.benchmark.mirror import Mirror
    from sftrack.benchmark.plan import Campaign, Course
    from sftrack.benchmark.runner import Job
    from sftrack.benchmark.scores import Standing

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

Action = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_bench_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `bench` and its subcommands to the parser of `sftrack`; each sets `run`, which returns the exit code."""
    bench = commands.add_parser(
        "bench",
        help="run trackers over OTB, UAV123, NFS and other data sets",
        description="Run trackers over data sets and judge them as the official toolkits do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=type(bench))

    def action(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
        )
        parser.add_argument("--debug", action="store_true", help="say everything, with the traceback of an error")
        parser.set_defaults(run=run, verbose=False)
        return parser

    run = action("run", _run, "run trackers over data sets, or go on where a run ended")
    _add_data_flags(run)
    _add_run_flags(run)
    run.add_argument("--runs", metavar="N", type=_count, default=1, help="so many runs with seeds that follow each other (default 1)")
    run.add_argument("--replay", action="store_true", help="fuse boxes that the presets' trackers made alone; they are run where missing")
    check = action("check", _check, "say what of the data sets lies on the disk, and what is wrong with it")
    _add_data_flags(check, all_by_default=True)
    ablate = action("ablate", _ablate, "the variants of the paper's Table 9, from boxes recorded once")
    _add_data_flags(ablate)
    _add_run_flags(ablate)
    report = action("report", _report, "tables, plots and a page of all results in a folder")
    _add_report_flags(report)
    report.set_defaults(results=[], truth=None)
    compare = action("compare", _report, "the same report, with results of pytracking, PySOT and the GOT-10k toolkit beside ours")
    compare.add_argument(
        "results", metavar="[NAME=]DIR", nargs="+", help="folder of results as such a program has written it, at any level"
    )
    compare.add_argument("--truth", metavar="DIR", type=_path, help="true boxes as <sequence>.txt, where the images are not at hand")
    _add_report_flags(compare)
    export = action("export", _export, "results as the tools and servers of others take them")
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
    parser.add_argument("--root", metavar="DIR", type=_path, required=True, help="the data set's folder, or the one that it lies in")
    parser.add_argument("--sequence", metavar="NAME", action="append", default=[], help="only this sequence; may be repeated")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracker",
        metavar="NAME",
        action="append",
        help="a preset (default: auto), a channel of one (light/csrt), a tracker (docs/trackers.md), settings (mine.toml); may be repeated",
    )
    parser.add_argument("--out", metavar="DIR", default="results", help="folder or fsspec address of all results (default: results)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto (default), cpu, cuda, mps; cuda takes all GPUs in turn")
    parser.add_argument("--jobs", metavar="N", type=_count, default=1, help="so many sequences at a time, each in a process (default 1)")
    parser.add_argument("--engine", choices=("process", "ray"), default="process", help="ray: on many machines (extra 'distributed')")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster, or auto (default: one on this machine)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all random numbers (default 0)")
    parser.add_argument("--force", action="store_true", help="remove the results that --out holds of these trackers and start anew")
    parser.add_argument("--json", action="store_true", help="progress and results as one JSON object per line on stdout")


def _add_report_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--benchmark", metavar="NAME", action="append", help="as in `run`; may be repeated (default: all with results)")
    parser.add_argument("--out", metavar="DIR", type=_path, default=Path("results"), help="folder of our results (default: results)")
    parser.add_argument("--root", metavar="DIR", type=_path, help="folder of the data sets (default: where the results were made)")
    parser.add_argument("--tracker", metavar="NAME", action="append", default=[], help="only this of our results; may be repeated")
    parser.add_argument("--to", metavar="DIR", type=_path, help="folder of the report (default: OUT/report)")
    parser.add_argument(
        "--conventions", metavar="NAME", help="judge as this toolkit does (docs/benchmark-mode.md; default: the benchmark's)"
    )
    parser.add_argument("--common", action="store_true", help="judge only sequences of which all have a result")


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", required=True, help="pytracking, got10k, trackingnet or lasot")
    parser.add_argument("--benchmark", metavar="NAME", required=True, help="as in `run`")
    parser.add_argument("--tracker", metavar="NAME", action="append", default=[], help="only this; may be repeated (default: all)")
    parser.add_argument("--out", metavar="DIR", type=_path, default=Path("results"), help="folder of our results (default: results)")
    parser.add_argument("--to", metavar="DIR", type=_path, required=True, help="folder to make, or one that is empty")


def _path(text: str) -> Path:
    """Converter for argparse: a path that is not empty, as what a script passes for an unset variable would be."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text).expanduser()


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _check(args: argparse.Namespace) -> int:
    """Say what lies under the root; 1 where something of it is damaged."""
    from sftrack.benchmark.plan import read_course
    from sftrack.benchmark.suites import SUITES, find_suite
    from sftrack.cli import say

    suites = [find_suite(name) for name in args.benchmark or SUITES]
    found = damaged = 0
    reasons = []
    for suite in suites:
        try:
            course = read_course(suite, args.root, args.sequence)
        except SourceError as error:
            reasons.append(str(error))
            continue
        found, damaged = found + 1, damaged + len(course.damaged)
        frames = sum(map(len, course.videos))
        attributes = " with attributes" if any(video.attributes for video in course.videos) else ""
        say(f"{course.survey.line()}; {frames} frames{attributes}", stdout=True)
        for line in (*course.notes, *(f"{name}: {reason}" for name, reason in course.damaged.items())):
            say(f"  {line}", stdout=True)
    if not found or (args.benchmark and reasons):
        raise SourceError(
            reasons[0] if len(suites) == 1 else f"expected a data set under {args.root}, found none; `--benchmark NAME` says why"
        )
    return EXIT_FAILURES if damaged else EXIT_OK


def _run(args: argparse.Namespace) -> int:
    """Run what is missing; 1 where a sequence failed."""
    from sftrack.benchmark.entrants import Entrant, find_entrant, replayed
    from sftrack.benchmark.plan import Campaign, numbered

    courses, device = _courses(args), _device(args)
    named = _once(find_entrant(text, device) for text in args.tracker or ["auto"])
    recorders: list[Entrant] = []
    if args.replay:
        pairs = [replayed(entrant) for entrant in named if entrant.pipeline is not None]
        if not pairs:
            raise ConfigError("expected a preset or a settings file as --tracker with --replay, got single trackers only")
        recorders = _once(recorder for _, those in pairs for recorder in those)
        named = _once([*(entrant for entrant in named if entrant.pipeline is None), *(fused for fused, _ in pairs)])
    failed, out, mirror = 0, *_out(args.out, courses)
    for number in range(args.runs):
        with Campaign(out, device, args.seed + number, args.force) as campaign:
            for stage in (recorders, named):
                failed += _execute(args, campaign, courses, stage if args.runs == 1 else numbered(stage, number), mirror)
    return EXIT_FAILURES if failed else EXIT_OK


def _ablate(args: argparse.Namespace) -> int:
    """Record the channels, run every variant, print the table; 1 where a sequence failed."""
    from sftrack.benchmark.ablation import TOP, TOP_TITLE, VARIANTS, best_channels, variants_of
    from sftrack.benchmark.entrants import find_entrant
    from sftrack.benchmark.plan import Campaign

    courses, device = _courses(args), _device(args)
    if len(args.tracker or ["auto"]) != 1:
        raise ConfigError(f"expected one preset or settings file as --tracker, got {', '.join(args.tracker)}")
    fused = find_entrant((args.tracker or ["auto"])[0], device)
    if fused.pipeline is None:
        raise ConfigError(f"expected a preset or a settings file as --tracker, got the single tracker '{fused.name}'")
    variants, recorders = variants_of(fused)
    failed, out, mirror = 0, *_out(args.out, courses)
    with Campaign(out, device, args.seed, args.force) as campaign:
        failed += _execute(args, campaign, courses, recorders, mirror)
        failed += _execute(args, campaign, courses, _once(variants.values()), mirror, quiet=True)
        for course in courses:
            alone = {channel: _standing(campaign, course, name) for channel, name in variants["full"].sources.items()}
            scores = {channel: standing.overall.success_auc for channel, standing in alone.items() if standing.overall is not None}
            rows = {title: variants[label] for label, (title, _) in VARIANTS.items()}
            if len(scores) == len(fused.channels):  # else some tracker failed everywhere, and who is best is not known
                rows[TOP_TITLE] = best_channels(fused, scores)
                failed += _execute(args, campaign, [course], [rows[TOP_TITLE]], mirror, quiet=True)
            for title, entrant in rows.items():
                label = next((label for label, (text, _) in VARIANTS.items() if text == title), TOP)
                _tell(args, course, entrant.name, _standing(campaign, course, entrant.name), title=title, variant=label)
    return EXIT_FAILURES if failed else EXIT_OK


def _report(args: argparse.Namespace) -> int:
    """Judge what is there and write the report; the tables are on stdout too."""
    from sftrack.benchmark.boards import open_course, own_contenders, read_board, suites_in
    from sftrack.benchmark.foreign import find_contenders
    from sftrack.benchmark.grids import board_grid, paper_grids
    from sftrack.benchmark.report import write_page, write_tables
    from sftrack.benchmark.suites import find_suite
    from sftrack.benchmark.tables import text_of
    from sftrack.cli import say
    from sftrack.metrics import CONVENTIONS

    if args.conventions is not None and args.conventions not in CONVENTIONS:
        raise ConfigError(f"expected --conventions out of {', '.join(CONVENTIONS)}, got '{args.conventions}'")
    rules = CONVENTIONS.get(args.conventions or "")
    boards = []
    for suite in _once(map(find_suite, args.benchmark)) if args.benchmark else suites_in(args.out):
        contenders = own_contenders(args.out, suite, args.tracker)
        course = open_course(suite, args.out, args.root, args.truth)
        for text in args.results:
            name, sign, folder = text.rpartition("=")
            contenders += find_contenders(course, _path(folder), name if sign else None)
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
    from sftrack.cli import say

    exported = export(args.format, find_suite(args.benchmark), args.out, args.to, args.tracker)
    for note in exported.notes:
        say(note)
    for path in exported.paths:
        say(str(path), stdout=True)
    return EXIT_OK


def _courses(args: argparse.Namespace) -> "list[Course]":
    """The benchmarks that were asked for, with a line about each."""
    from sftrack.benchmark.plan import read_course
    from sftrack.benchmark.suites import find_suite
    from sftrack.cli import say

    courses = [read_course(suite, args.root, args.sequence) for suite in _once(find_suite(name) for name in args.benchmark)]
    for course in courses:
        for line in (course.survey.line(), *course.notes, *(f"{name}: {reason}" for name, reason in course.damaged.items())):
            say(line)
    return courses


def _out(text: str, courses: "Sequence[Course]") -> "tuple[Path, Mirror | None]":
    """Where results go: a folder, or the folder that mirrors an address, with what is there already."""
    if "://" not in text:
        return _path(text), None
    from sftrack.benchmark.mirror import Mirror

    mirror = Mirror.of(text)
    mirror.fetch(_once(course.suite.dataset for course in courses))
    return mirror.local, mirror


def _device(args: argparse.Namespace) -> str:
    from sftrack.benchmark.jobs import pin_to_one_thread
    from sftrack.config import resolve_device

    pin_to_one_thread()
    return resolve_device(args.device)


def _execute(
    args: argparse.Namespace,
    campaign: "Campaign",
    courses: "Iterable[Course]",
    entrants: "Sequence[Entrant]",
    mirror: "Mirror | None",
    *,
    quiet: bool = False,
) -> int:
    """Do what is missing of some entrants and say how each did; returns how many sequences failed."""
    from sftrack.benchmark.jobs import Done, Failed
    from sftrack.benchmark.progress import Progress
    from sftrack.cli import say

    courses = list(courses)
    jobs: dict[tuple[Path, str], Job] = {}
    for course in courses:
        for job in campaign.jobs(course, entrants):
            jobs.setdefault((job.folder.path, job.video.name), job)  # OTB-2013 is a part of OTB-100
    if mirror is not None:
        for folder in campaign.folders():
            mirror.send_missing(folder)
    for note in campaign.notes:
        say(note)
    campaign.notes.clear()
    progress = Progress(
        len(jobs), sum(len(job.video) for job in jobs.values()), say=lambda text: say(text, stdout=args.json), as_json=args.json
    )
    for event in progress.follow(_engine(args, campaign.device).run(list(jobs.values()))):
        if isinstance(event, Done):
            event.job.folder.clear_failure(event.job.video.name)
        elif isinstance(event, Failed):
            event.job.folder.write_failure(event.job.video.name, event.reason, event.details)
        if mirror is not None and isinstance(event, Done | Failed):
            mirror.send(event.job.folder, event.job.video.name)
    for course in courses:
        for entrant in () if quiet else entrants:
            _tell(args, course, entrant.name, _standing(campaign, course, entrant.name))
    if progress.failures:
        say(f"{len(progress.failures)} of {len(jobs)} sequences failed; tracebacks are in {campaign.out}/*/*/*.failed.log")
    return len(progress.failures) + sum(len(course.damaged) for course in courses) * len(entrants)


def _engine(args: argparse.Namespace, device: str) -> "Engine":
    from sftrack.benchmark.jobs import ProcessEngine, SerialEngine

    if args.engine == "ray":
        from sftrack.benchmark.ray_engine import RayEngine

        return RayEngine(args.address, device)
    if args.jobs == 1:
        return SerialEngine(device)
    devices = [device]
    if device == "cuda":
        import torch

        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ProcessEngine(args.jobs, devices)


def _standing(campaign: "Campaign", course: "Course", entrant: str) -> "Standing":
    from sftrack.benchmark.results import RunFolder
    from sftrack.benchmark.scores import judge, results_in

    folder = RunFolder.of(campaign.out, course.suite.dataset, entrant)
    return judge(course.videos, results_in(folder), course.suite.conventions)


def _tell(
    args: argparse.Namespace, course: "Course", entrant: str, standing: "Standing", *, title: str | None = None, variant: str | None = None
) -> None:
    """One line about an entrant on a benchmark, on stdout."""
    from sftrack.cli import say

    count, overall, speed = len(course.videos) - len(standing.missing), standing.overall, standing.speed
    if args.json:
        numbers = overall.as_dict() if overall is not None else {}
        rate = {"frames_per_second": speed.frames_per_second, "p95_s": speed.p95_s} if speed is not None else {}
        kind = {"variant": variant} if variant is not None else {}
        line = {"event": "result", "benchmark": course.suite.key, "entrant": entrant, **kind, "sequences": count, **numbers, **rate}
        say(json.dumps(line), stdout=True)
        return
    parts = [f"{count} of {course.suite.size} sequences"]
    if overall is not None:
        parts.append(f"AUC {overall.success_auc:.3f}, OP50 {overall.overlap_precision_50:.3f}, P20 {overall.precision_20px:.3f}")
    if standing.unjudged:
        parts.append("truth not public")
    if speed is not None:
        parts.append(f"{speed.frames_per_second:.1f} frames/s")
    say(f"{course.suite.title:30s} {title or entrant:30s} {'; '.join(parts)}", stdout=True)


def _once(items: "Iterable[Any]") -> list[Any]:
    """The items without those that were named before."""
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
