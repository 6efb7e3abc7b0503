"""The command line. It alone puts sources, channels, pipeline, viewer and sinks together.

Everything heavy (torch, OpenCV, Qt) is imported where it is needed, so that `--help` and a mistyped flag answer at once.
"""

import argparse
import contextlib
import dataclasses
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from sftrack.arguments import a_text, at_least, say
from sftrack.errors import BoxError, ConfigError, SFTrackError
from sftrack.signals import handled

if TYPE_CHECKING:
    from sftrack.config import Config
    from sftrack.contracts import BoxXYWH, FrameSource
    from sftrack.pipeline import SFTracker
    from sftrack.sinks import SinkGroup
    from sftrack.summary import Summary

EXIT_OK, EXIT_OURS, EXIT_USER, EXIT_INTERRUPTED = 0, 1, 2, 130

_EXAMPLES = """\
examples:
  %(prog)s --demo                                         a built-in clip, nothing else needed
  %(prog)s --video clip.mp4                               drag the target in the viewer
  %(prog)s --video clip.mp4 --headless --box 120,80,64,48
  %(prog)s --camera 0                                     also rtsp://... and http://...
  %(prog)s --frames 'images/*.jpg' --box 10,20,30,40 --save-masks --out results/run1
  %(prog)s --benchmark otb --root ~/data/OTB100           trackers over a data set: `sftrack bench run`

Results (boxes.txt, times.txt, track.jsonl, annotated.mp4, masks/) go to --out.
Exit codes: 0 done, 2 something to mend in the command or its input, 1 a failure of ours, 130 ended with Ctrl+C.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with mistakes in one line, without the usage text around them."""

    def error(self, message: str) -> NoReturn:
        shown = message if len(message) < 300 else message[:300] + " ..."
        self.exit(EXIT_USER, f"{self.prog}: error: {shown}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code; `prog` is the name shown for `track` by `run_tracker.py`."""
    # Read when PyTorch is loaded. Channels and networks share the cores by threads of their own (see `sftrack.workers`).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _take_any_text()
    args_given = _join_negative_box(sys.argv[1:] if argv is None else argv)
    if args_given[:1] == ["track"] and any(text.partition("=")[0] == "--benchmark" for text in args_given):
        args_given = ["bench", "run", *args_given[1:]]
    try:
        args = _parse(args_given, prog)
    except SystemExit as leaving:  # argparse has said what there is to say
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_INTERRUPTED
    with _logging_on_stderr(logging.DEBUG if args.debug else logging.INFO if args.verbose else logging.WARNING):
        try:
            code: int = args.run(args)
            return code
        except KeyboardInterrupt:
            say("interrupted")
            return EXIT_INTERRUPTED
        except SFTrackError as error:
            return _report(error, str(error), error.exit_code, debug=args.debug)
        except ModuleNotFoundError as error:  # run_tracker.py from a clone in which nothing was installed
            if (error.name or "").startswith("sftrack."):
                return _report(error, _unexpected(error), EXIT_OURS, debug=args.debug)
            text = f"the package '{error.name}' is not installed; in the checkout run: pip install -c constraints.txt -e ."
            return _report(error, text, EXIT_USER, debug=args.debug)
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which is imported only where it is needed
                text = "the memory of the GPU is full; end what else uses it, or take a smaller preset (--preset light) or --device cpu"
                return _report(error, text, EXIT_USER, debug=args.debug)
            return _report(error, _unexpected(error), EXIT_OURS, debug=args.debug)


def _take_any_text() -> None:
    """A name that a stream cannot encode, or a stream that is closed (`>&-`), must not fail a run whose files are complete."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parse(argv: Sequence[str], track_prog: str | None) -> argparse.Namespace:
    """The flags. For what no flag takes, argparse would name `sftrack`, whichever command was called, and nothing to do about it."""
    parser = build_parser(track_prog)
    args, left_over = parser.parse_known_args(argv)
    parser.prog = (track_prog if args.command == "track" else None) or f"{parser.prog} {args.command}"
    if left_over:
        quoting = "" if left_over[0].startswith("-") else " (put a pattern in quotes: 'images/*.jpg', a box in one word: 120,80,64,48)"
        parser.error(f"unrecognized arguments{quoting}: {' '.join(left_over)}")
    if args.command == "track" and not (args.video or args.frames or args.camera or args.demo):  # only now: one may be mistyped
        parser.error("one of the arguments --video --frames --camera --demo is required")
    return args


def _report(error: Exception, text: str, code: int, *, debug: bool) -> int:
    if debug:
        say("".join(traceback.format_exception(error)).rstrip())
    say("error: " + " ".join(text.split()))
    return code


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {error} (a failure of sftrack; --debug shows where)"


def build_parser(track_prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `sftrack`; every command sets `run`, which takes the parsed flags and returns the exit code."""
    from sftrack.benchmark.commands import add_bench_command
    from sftrack.segment_command import add_segment_command
    from sftrack.weights.commands import add_weights_command

    parser = _Parser(prog="sftrack", description="Follow one object through a video, live.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sftrack {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    track = commands.add_parser(
        "track",
        prog=track_prog,
        usage="%(prog)s (--video FILE | --frames DIR | --camera N|URL | --demo) [--box x,y,w,h] [more flags]",
        help="track one object in a video file, a folder of frames or a camera",
        description="Track one object in a video file, a folder of frames or a camera.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_input_flags(track)
    _add_tracker_flags(track)
    _add_output_flags(track)
    track.set_defaults(run=_track)
    add_bench_command(commands)
    add_segment_command(commands)
    add_weights_command(commands)
    return parser


def _add_input_flags(track: argparse.ArgumentParser) -> None:
    source = track.add_argument_group("what to track").add_mutually_exclusive_group()  # one is required: see `_parse`
    source.add_argument("--video", metavar="FILE", type=a_text, help="a video file")
    source.add_argument("--frames", metavar="DIR", type=a_text, help="a folder of images, or a glob in quotes")
    source.add_argument("--camera", metavar="N|URL", type=a_text, help="device number, or an RTSP or HTTP address")
    source.add_argument("--demo", action="store_true", help="a clip made on the spot, with its start box")
    where = track.add_argument_group("where in it")
    where.add_argument("--box", metavar="x,y,w,h", help="the target in the first frame, in pixels (0-based, x,y top-left; floats allowed)")
    where.add_argument("--start-frame", metavar="N", type=at_least(0), default=0, help="begin with this frame (0-based; default 0)")
    where.add_argument("--max-frames", metavar="N", type=at_least(1), help="end after this many frames")


def _add_tracker_flags(track: argparse.ArgumentParser) -> None:
    group = track.add_argument_group("how to track")
    trackers = group.add_mutually_exclusive_group()
    trackers.add_argument("--preset", metavar="NAME", help="auto (default), light, ...: which trackers are fused")
    trackers.add_argument(
        "--channel",
        metavar="NAME",
        action="append",
        default=[],
        type=a_text,
        help="a tracker instead of the preset's (docs/trackers.md), or pytracking:dimp/dimp50; may be repeated",
    )
    group.add_argument(
        "--pytracking-root", metavar="DIR", type=a_text, help="checkout of PyTracking for such channels (default: PYTRACKING_ROOT)"
    )
    group.add_argument("--device", metavar="NAME", help="auto (default), cpu, cuda, mps")
    group.add_argument("--config", metavar="FILE.toml", type=a_text, help="settings (docs/cli.md); the flags above win over it")


def _add_output_flags(track: argparse.ArgumentParser) -> None:
    group = track.add_argument_group("what comes out")
    group.add_argument(
        "--headless",
        action=argparse.BooleanOptionalAction,
        help="no viewer (default: where there is no display); needs --box, except with --demo",
    )
    group.add_argument("--out", metavar="DIR", type=a_text, help="results folder (default: runs/NAME of the source, then runs/NAME-2, ...)")
    group.add_argument("--overwrite", action="store_true", help="replace the results that --out already holds")
    group.add_argument("--save-masks", action="store_true", help="write masks/NNNNN.png per frame")
    group.add_argument("--no-video", action="store_true", help="do not write annotated.mp4")
    group.add_argument("--verbose", action="store_true", help="say more on stderr")
    group.add_argument("--debug", action="store_true", help="say everything, with the traceback of an error")
    group.add_argument("--version", action="version", version=f"sftrack {_version()}")


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("sftrack")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _join_negative_box(argv: Sequence[str]) -> list[str]:
    """`--box -5,3,20,20` as `--box=-5,3,20,20`, which argparse does not take for a flag."""
    joined: list[str] = []
    for text in argv:
        if joined and joined[-1] == "--box" and re.match(r"-[\d.]", text):
            joined[-1] = f"--box={text}"
        else:
            joined.append(text)
    return joined


@contextlib.contextmanager
def _logging_on_stderr(level: int) -> Iterator[None]:
    """Send the package's log to stderr for the length of a run."""
    logger, handler = logging.getLogger("sftrack"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@handled(signal.default_int_handler, signal.SIGTERM)  # as Ctrl+C, while much is loaded; session and viewer then handle both themselves
def _track(args: argparse.Namespace) -> int:
    from sftrack.boxes import parse_box
    from sftrack.sinks import open_sinks
    from sftrack.sinks.folder import claim_folder, results_folder, spare_the_source
    from sftrack.sources import DemoSource, open_source

    config, reason = _settings(args)
    box = parse_box(args.box) if args.box is not None else None
    no_viewer = _why_no_viewer(args.headless, needs_box=box is None and not args.demo)
    with open_source(
        video=args.video, frames=args.frames, camera=args.camera, demo=args.demo, start_frame=args.start_frame, max_frames=args.max_frames
    ) as source:
        if box is None and isinstance(source, DemoSource):  # which alone knows its target
            box = source.start_box_xywh
        box = _checked_start(box, source)
        spare_the_source(args.video or args.frames, results_folder(args.out, source.name, overwrite=args.overwrite))
        with _make_tracker(config) as tracker:
            out_dir = claim_folder(args.out, source.name, overwrite=args.overwrite)  # as late as it can be: a refused run leaves nothing
            with open_sinks(
                out_dir,
                frame_size_wh=source.frame_size_wh,
                frames_per_second=source.frames_per_second,
                is_live=source.is_live,
                video=not args.no_video,
                masks=args.save_masks,
            ) as sinks:  # which the run closes; here it is for a Ctrl+C before it
                if no_viewer is not None and not args.headless:
                    say(f"no viewer: {no_viewer}")
                say(f"{source.name}: {reason}; device {tracker.device}; results go to {out_dir}/")
                summary = _run(source, tracker, sinks, box, headless=no_viewer is not None, with_mask=args.save_masks or not args.no_video)
    say(summary.line(source.name, out_dir, sinks.codec_name), stdout=True)
    if summary.failure is not None:
        raise summary.failure
    return EXIT_INTERRUPTED if summary.interrupted else EXIT_OK


def _settings(args: argparse.Namespace) -> tuple["Config", str]:
    """The settings file, if any, with the flags that were given on top; and which channels will run, in words."""
    from sftrack.config import ChannelConfig, Config, load_config
    from sftrack.presets import resolve_preset

    config = load_config(args.config) if args.config is not None else Config()
    if args.device is not None:
        config = dataclasses.replace(config, device=args.device)
    if args.preset is not None:
        config = dataclasses.replace(config, preset=args.preset, channels=())
    foreign = [name for name in args.channel if name.startswith("pytracking:")]
    if args.pytracking_root is not None and not foreign:
        raise ConfigError("expected --channel pytracking:NAME/PARAMETERS beside --pytracking-root, got none")
    if args.channel:
        root = {} if args.pytracking_root is None else {"root": args.pytracking_root}
        channels = tuple(ChannelConfig(name, name, root if name in foreign else {}) for name in args.channel)
        return dataclasses.replace(config, channels=channels), f"channel{'s' * (len(channels) > 1)} {', '.join(args.channel)}"
    if config.channels:
        count = len(config.channels)
        return config, f"{count} channel{'s' * (count > 1)} from {args.config}"
    preset, reason = resolve_preset(config.preset, config.device)
    return dataclasses.replace(config, preset=preset), reason


def _why_no_viewer(asked_headless: bool | None, *, needs_box: bool) -> str | None:
    """Why to run without the viewer, None where it is to be shown: wherever it can be, unless asked otherwise.

    Raises:
        DisplayError: the viewer was asked for, and no window can be shown.
        BoxError: there is neither a box nor a viewer to drag one in.
    """
    from sftrack.gui import require_display, why_not_shown

    if asked_headless is False:
        require_display()
    reason = "--headless" if asked_headless else why_not_shown()
    if reason is not None and needs_box:
        raise BoxError(f"expected --box x,y,w,h, the target in the first frame, because nobody can drag it in a viewer: {reason}")
    return reason


def _checked_start(box: "BoxXYWH | None", source: "FrameSource") -> "BoxXYWH | None":
    from sftrack.boxes import checked_box

    if box is None:
        return None
    clipped = checked_box(box, source.frame_size_wh)
    if abs(clipped - box).max() > 1e-3:  # clipping rounds; the result files have 3 decimals
        say(f"the box lies partly outside the frame; clipped to {','.join(f'{value:g}' for value in clipped)}")
    return clipped


def _make_tracker(config: "Config") -> "SFTracker":
    from sftrack.config import resolve_device
    from sftrack.pipeline import SFTracker
    from sftrack.workers import limit_library_threads

    limit_library_threads()
    device = resolve_device(config.device)
    if not config.channels:
        return SFTracker.from_preset(config.preset, device=device, config=config.pipeline)
    from sftrack.presets import create_channels

    return SFTracker(create_channels(config.channels, device), config.pipeline, device=device)


def _run(
    source: "FrameSource", tracker: "SFTracker", sinks: "SinkGroup", box: "BoxXYWH | None", *, headless: bool, with_mask: bool
) -> "Summary":
    if headless and box is not None:
        from sftrack.session import run_session

        return run_session(source, tracker, sinks, box, with_mask=with_mask)
    from sftrack.gui import run_viewer
    from sftrack.summary import Summary

    summary = Summary()
    viewed = run_viewer(source, tracker, box_xywh=box, sinks=[summary, sinks], with_mask=with_mask)
    summary.interrupted, summary.failure = viewed.interrupted, viewed.error
    summary.decode_failures = source.decode_failures
    return summary
