"""Our trackers in the VOT toolkit, over the TraX protocol: `python -m sftrack.benchmark.vot`. Needs the package `vot-trax`.

In `trackers.ini`:

    [sftrack]
    label = SFTrack
    protocol = trax
    command = python -m sftrack.benchmark.vot --tracker light
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sftrack.arguments import say
from sftrack.benchmark.guest import Guest
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.errors import SFTrackError
from sftrack.pictures import read_rgb
from sftrack.workers import limit_library_threads


def main(argv: Sequence[str] | None = None) -> int:
    """Answer a TraX client until it quits; returns the exit code. Nothing but the protocol goes to stdout."""
    parser = argparse.ArgumentParser(prog="python -m sftrack.benchmark.vot", description="A TraX server for the VOT toolkit.")
    parser.add_argument("--tracker", default="auto", help="a preset, a tracker or a settings file, as in `sftrack bench run`")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    args = parser.parse_args(argv)
    limit_library_threads()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            import trax  # noqa: F401
        except ModuleNotFoundError:
            say("error: the package 'trax' is not installed; pip install vot-trax")
            return 2
        try:
            serve(Guest(args.tracker, args.device))
        except SFTrackError as error:
            say(f"error: {error}")
            return error.exit_code
    return 0


def serve(guest: Guest) -> None:
    """One target at a time, as rectangles: VOT's image coordinates, 0-based.

    Raises:
        SFTrackError: a frame or a region that cannot be tracked; the client is told first.
    """
    import trax

    with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name="sftrack") as server:
        try:
            while True:
                request = server.wait()
                if request.type not in {trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME}:
                    return
                image_rgb = _read(request.image)
                if request.type == trax.TraxStatus.INITIALIZE:
                    region, _ = request.objects[0]
                    box, score = np.array(region.bounds(), dtype=np.float64), 1.0
                    guest.init(image_rgb, box)
                else:
                    estimate = guest.update(image_rgb)
                    box, score = estimate.box_xywh, estimate.score
                server.status([(_rectangle(box), {"confidence": f"{score:.4f}"})])
        finally:
            guest.close()


def _read(images: dict[str, object]) -> ImageRGB:
    """The colour image of a request, which has one per channel."""
    return read_rgb(Path(images["color"].path()))  # type: ignore[attr-defined]


def _rectangle(box_xywh: BoxXYWH) -> object:
    import trax

    x, y, w, h = map(float, box_xywh)
    return trax.Rectangle.create(x, y, w, h)


if __name__ == "__main__":
    raise SystemExit(main())
