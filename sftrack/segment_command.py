"""`sftrack segment`: refine or combine the masks of videos on disk, and score them."""

import argparse
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftrack.arguments import a_path, say
from sftrack.errors import ConfigError

if TYPE_CHECKING:
    from sftrack.segment.videos import Video
    from sftrack.spectral import SFSegPlusPlus

_EXAMPLES = """\
examples:
  %(prog)s --masks osvos/dog --frames JPEGImages/480p/dog --out dog
  %(prog)s --masks osvos --frames JPEGImages/480p --gt Annotations/480p --out refined
  %(prog)s --masks osvos --masks rvos --frames JPEGImages/480p --gt Annotations/480p --learn two.safetensors
  %(prog)s --masks osvos --masks rvos --frames JPEGImages/480p --weights two.safetensors --out combined

A folder of pictures is one video; a folder of folders holds a video in each. See docs/segment.md.
"""


def add_segment_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `segment` to the parser of `sftrack`; sets `run`, which returns the exit code."""
    parser = commands.add_parser(
        "segment",
        usage="%(prog)s --masks DIR [--masks DIR ...] --frames DIR (--out DIR | --learn FILE) [more flags]",
        help="refine masks of any video segmentation method, or combine those of several",
        description="Refine the masks of a video segmentation method (SFSeg), or combine those of several (SFSeg++).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--masks", metavar="DIR", type=a_path, action="append", required=True, help="masks of a method; once per method")
    parser.add_argument("--frames", metavar="DIR", type=a_path, required=True, help="the pictures that the masks belong to")
    parser.add_argument("--gt", metavar="DIR", type=a_path, help="true masks: print J, F and TCONT per video, before and after")
    parser.add_argument("--out", metavar="DIR", type=a_path, help="where the new masks go, as 0/255 PNG")
    parser.add_argument("--weights", metavar="FILE", type=a_path, help="how much each method counts, from --learn (default: the same)")
    parser.add_argument("--learn", metavar="FILE", type=a_path, help="learn those weights from the videos; needs --gt, writes no masks")
    parser.add_argument("--soft", action="store_true", help="write soft masks, 0 to 255")
    parser.add_argument("--overwrite", action="store_true", help="remove all PNG files in --out first, or replace the file of --learn")
    parser.add_argument("--verbose", action="store_true", help="say more on stderr")
    parser.add_argument("--debug", action="store_true", help="say everything, with the traceback of an error")
    parser.set_defaults(run=run_segment)


def run_segment(args: argparse.Namespace) -> int:
    """Run the parsed command.

    Raises:
        SFTrackError: something to mend in the flags, the folders or the weights.
    """
    if (args.out is None) == (args.learn is None):
        raise ConfigError("expected either --out, where the masks go, or --learn, where the weights go")
    if args.learn is not None and (args.gt is None or args.weights is not None or len(args.masks) < 2):
        raise ConfigError("expected --learn with --gt, at least two --masks and no --weights")
    if len({folder.resolve() for folder in args.masks}) < len(args.masks):
        raise ConfigError(f"expected each folder of --masks once, got {', '.join(map(str, args.masks))}")
    if args.weights is not None and len(args.masks) < 2:
        raise ConfigError("expected at least two --masks with --weights, got one; leave out --weights to refine it")

    from sftrack.segment.combine import check_weights
    from sftrack.segment.videos import check_out, find_videos
    from sftrack.spectral import SFSegPlusPlus
    from sftrack.workers import pin_to_one_thread

    pin_to_one_thread()
    weights = SFSegPlusPlus.load(args.weights) if args.weights is not None else None
    if weights is not None:
        check_weights(weights, len(args.masks), _names(args.masks))
    videos = find_videos(args.masks, args.frames, args.gt, args.out)
    if args.learn is not None:
        _check_file(args.learn, overwrite=args.overwrite)
        _learn(videos, _names(args.masks), args.learn)
        return 0
    for video in videos:  # all of them first: a refused command leaves nothing behind
        check_out(video, overwrite=args.overwrite)
    _refine(videos, _names(args.masks), weights, out=args.out, soft=args.soft)
    return 0


def _refine(videos: "Sequence[Video]", methods: Sequence[str], weights: "SFSegPlusPlus | None", *, out: Path, soft: bool) -> None:
    from tqdm import tqdm

    from sftrack.segment.files import segment_files
    from sftrack.segment.scores import Table

    table = Table([video.name for video in videos])
    with tqdm(total=sum(map(len, videos)), unit="frame", disable=None) as bar:
        for video in videos:
            bar.set_description(video.name)
            scores = segment_files(video, methods, weights, soft=soft, progress=bar.update)
            with bar.external_write_mode():
                for line in table.add(video.name, scores) if scores else []:
                    say(line, stdout=True)
    if table.rows:
        say(table.mean(), stdout=True)
    else:
        say(f"{sum(map(len, videos))} masks of {len(videos)} video(s) written to {out}/", stdout=True)


def _check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before the minutes that it takes to learn what goes into it."""
    refused = ConfigError(f"expected a file in a folder that exists and can be written to as --learn, got '{path}'; choose another place")
    try:
        path.stat()
        is_there = True
    except FileNotFoundError:
        is_there = False
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise refused from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise refused
    if is_there and not overwrite:
        raise ConfigError(f"'{path}' already exists; give another --learn, or --overwrite to replace it")


def _learn(videos: "Sequence[Video]", methods: Sequence[str], path: Path) -> None:
    from tqdm import tqdm

    from sftrack.segment.combine import learn, sample
    from sftrack.segment.refine import smoothed
    from sftrack.segment.videos import read_video

    samples = [sample(smoothed(read_video(video)), len(video)) for video in tqdm(videos, unit="video", disable=None)]
    weights = learn(samples, methods)
    weights.save(path)
    shown = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(weights.names, weights.w_s.tolist(), strict=True))
    say(f"weights: {shown}, bias {weights.b_s.item():.2f}; written to {path}", stdout=True)


def _names(folders: Sequence[Path]) -> list[str]:
    """What the methods are called: their folders' names, so that weights learned on all videos fit a single one.

    The folders at the end that all have in common (`480p/dog`) are left out, and some before are added where two would have the same name
    or one would have the result's.
    """
    from sftrack.segment.files import REFINED

    upwards = [folder.resolve().parts[::-1] for folder in folders]
    alike = itertools.takewhile(lambda parts: len(set(parts)) == 1 < len(parts), zip(*upwards, strict=False))
    shared = len(list(alike))
    candidates = ([str(Path(*parts[shared : shared + depth][::-1])) for parts in upwards] for depth in itertools.count(1))
    return next(names for names in candidates if len({*names, REFINED}) > len(names))
