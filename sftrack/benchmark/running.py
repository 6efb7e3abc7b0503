"""`sftrack bench run` and `sftrack bench ablate`: what the flags ask for is run, and each entrant's line said."""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sftrack.arguments import say
from sftrack.benchmark.ablation import TOP, TOP_TITLE, VARIANTS, best_channels, variants_of
from sftrack.benchmark.entrants import Entrant, find_entrant, replayed
from sftrack.benchmark.grids import columns_of
from sftrack.benchmark.jobs import Done, Engine, Failed, ProcessEngine, SerialEngine
from sftrack.benchmark.plan import Campaign, Course, numbered, read_course, those_with
from sftrack.benchmark.progress import Progress
from sftrack.benchmark.results import RunFolder
from sftrack.benchmark.runner import Job
from sftrack.benchmark.scores import Standing, judge, results_in
from sftrack.benchmark.suites import find_suite
from sftrack.config import resolve_device
from sftrack.errors import ConfigError
from sftrack.workers import pin_to_one_thread

if TYPE_CHECKING:
    from sftrack.benchmark.mirror import Mirror

_Item = TypeVar("_Item")


def run(args: argparse.Namespace) -> int:
    """Run what is missing; returns how many sequences failed."""
    pin_to_one_thread()
    courses, device = _courses(args), resolve_device(args.device)
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
    return failed


def ablate(args: argparse.Namespace) -> int:
    """Record the channels, run every variant, print the table; returns how many sequences failed."""
    pin_to_one_thread()
    courses, device = _courses(args), resolve_device(args.device)
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
        # OTB-2013 is a part of OTB-100 and shares its folder: who is best shall be the same in both
        largest = {course.suite.dataset: course for course in sorted(courses, key=lambda course: len(course.videos))}
        for course in courses:
            ranking = largest[course.suite.dataset]
            alone = {channel: _standing(campaign, ranking, name) for channel, name in variants["full"].sources.items()}
            scores = {channel: standing.overall.success_auc for channel, standing in alone.items() if standing.overall is not None}
            rows = {title: variants[label] for label, (title, _) in VARIANTS.items()}
            if len(scores) == len(fused.channels):  # else some tracker failed everywhere, and who is best is not known
                rows[TOP_TITLE] = best_channels(fused, scores)
                failed += _execute(args, campaign, [course], [rows[TOP_TITLE]], mirror, quiet=True, renew=True)
            for title, entrant in rows.items():
                label = next((label for label, (text, _) in VARIANTS.items() if text == title), TOP)
                _tell(args, course, entrant.name, _standing(campaign, course, entrant.name), title=title, variant=label)
    return failed


def _courses(args: argparse.Namespace) -> list[Course]:
    """The benchmarks that were asked for, with a line about each."""
    every = [read_course(suite, args.root, args.sequence) for suite in _once(find_suite(name) for name in args.benchmark)]
    courses = those_with(args.sequence, every)
    for course in courses:
        for line in (course.survey.line(), *course.notes, *(f"{name}: {reason}" for name, reason in course.damaged.items())):
            say(line)
    return courses


def _out(place: str | Path, courses: Sequence[Course]) -> "tuple[Path, Mirror | None]":
    """Where results go: a folder, or the folder that mirrors an address, with what is there already."""
    if isinstance(place, Path):
        return place, None
    from sftrack.benchmark.mirror import Mirror

    mirror = Mirror.of(place)
    mirror.fetch(_once(course.suite.dataset for course in courses))
    return mirror.local, mirror


def _execute(
    args: argparse.Namespace,
    campaign: Campaign,
    courses: Iterable[Course],
    entrants: Sequence[Entrant],
    mirror: "Mirror | None",
    *,
    quiet: bool = False,
    renew: bool = False,
) -> int:
    """Do what is missing of some entrants and say how each did; returns how many sequences failed."""
    courses = list(courses)
    jobs: dict[tuple[Path, str], Job] = {}
    for course in courses:
        for job in campaign.jobs(course, entrants, renew=renew):
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
    damaged = {
        (course.suite.dataset, entrant.name, name): text
        for course in courses
        for entrant in entrants
        for name, text in course.damaged.items()
    }
    for (dataset, entrant_name, name), reason in damaged.items():
        progress.damaged(dataset, entrant_name, name, reason)
        if mirror is not None:
            mirror.send(RunFolder.of(campaign.out, dataset, entrant_name), name)
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
    failed = len(progress.failures) + len(damaged)
    if failed:
        say(f"{failed} of {len(jobs) + len(damaged)} sequences failed; tracebacks are in {campaign.out}/*/*/*.failed.log")
    return failed


def _engine(args: argparse.Namespace, device: str) -> Engine:
    if args.engine == "ray":
        from sftrack.benchmark.ray_engine import RayEngine

        return RayEngine(args.address, device)
    if args.address is not None:
        raise ConfigError(f"expected --engine ray with --address {args.address}, got --engine {args.engine}")
    if args.jobs == 1:
        return SerialEngine(device)
    devices = [device]
    if device == "cuda":
        import torch

        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ProcessEngine(args.jobs, devices)


def _standing(campaign: Campaign, course: Course, entrant: str) -> Standing:
    folder = RunFolder.of(campaign.out, course.suite.dataset, entrant)
    return judge(course.videos, results_in(folder), course.suite.conventions)


def _tell(
    args: argparse.Namespace, course: Course, entrant: str, standing: Standing, *, title: str | None = None, variant: str | None = None
) -> None:
    """One line about an entrant on a benchmark, on stdout."""
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
        parts.append(", ".join(f"{heading} {getattr(overall, name):.3f}" for name, heading in columns_of(course.suite).items()))
    if standing.unjudged:
        parts.append("truth not public")
    if speed is not None:
        parts.append(f"{speed.frames_per_second:.1f} frames/s")
    say(f"{course.suite.title:30s} {title or entrant:30s} {'; '.join(parts)}", stdout=True)


def _once(items: Iterable[_Item]) -> list[_Item]:
    """The items without those that were named before."""
    kept: list[_Item] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
