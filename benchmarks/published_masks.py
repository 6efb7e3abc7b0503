"""`python -m benchmarks published_masks`: OSVOS's and RVOS's masks on DAVIS, refined (as in the paper's Table 1) and combined.

Every method and video is refined with the same settings. The weights for combining the two are learned on the other videos each time.
"""

import argparse
import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.recordings import shared_folder, start_worker
from sftrack.arguments import at_least
from sftrack.segment.combine import Sample, combine, learn, sample
from sftrack.segment.links import LinkedFrame, Plane
from sftrack.segment.refine import DEFAULT, smooth_in_space, smoothed
from sftrack.segment.scores import MEASURES, Scorer, Scores
from sftrack.segment.videos import Video, find_videos, read_video
from sftrack.spectral import SFSegPlusPlus

METHODS = ("osvos", "rvos")
MEAN, LEARNED = "mean of both", "SFSeg++"


def main(arguments: list[str]) -> int:
    """Print a table per method, and one of the combinations."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks published_masks", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS and data/published_masks")
    parser.add_argument("--jobs", type=at_least(1), default=2, help="videos at a time, one thread each")
    options = parser.parse_args(arguments)
    data = shared_folder(options.shared) / "data"
    davis = data / "DAVIS"
    masks = [data / "published_masks" / method for method in METHODS]
    videos = find_videos(masks, davis / "JPEGImages" / "480p", davis / "Annotations" / "480p")
    with ProcessPoolExecutor(options.jobs, initializer=start_worker) as pool:
        scores, samples = zip(*pool.map(_refine_each, videos), strict=True)
        learned = list(pool.map(functools.partial(_learn_without, samples), range(len(videos))))
        combined = list(pool.map(_combine, videos, learned))
    names = [video.name for video in videos]
    for method in METHODS:
        show(names, [{method: each[method], "refined": each[f"{method} refined"]} for each in scores])
    show(names, combined)
    print("weights of osvos, rvos, flow to the previous and to the next frame, bias, learned on the other videos:")
    for name, weights in zip(names, learned, strict=True):
        print(f"{name:20s}" + "".join(f"{value:8.2f}" for value in (*weights.w_s.tolist(), weights.b_s.item())))
    return 0


def _refine_each(video: Video) -> tuple[Scores, Sample]:
    """Scores of both methods before and after, and what can be learned from the video."""
    scorer = Scorer()

    def scored() -> Iterator[tuple[LinkedFrame, Plane]]:
        for frame, x in smoothed(read_video(video)):
            versions = {}
            for index, method in enumerate(METHODS):
                versions[method] = frame.given.masks[..., index] > 0.5
                versions[f"{method} refined"] = smooth_in_space(frame, np.ascontiguousarray(x[..., index]), DEFAULT) > 0.5
            assert frame.given.truth is not None
            scorer.push(frame, versions, frame.given.truth)
            yield frame, x

    learnable = sample(scored(), len(video))
    return scorer.means(), learnable


def _learn_without(samples: tuple[Sample, ...], left_out: int) -> SFSegPlusPlus:
    return learn(each for index, each in enumerate(samples) if index != left_out)


def _combine(video: Video, learned: SFSegPlusPlus) -> Scores:
    """Scores of both methods together, with the same and with learned weights."""
    scorer = Scorer()
    for frame, x in smoothed(read_video(video)):
        ways = {MEAN: None, LEARNED: learned}
        versions = {name: smooth_in_space(frame, combine(frame, x, weights), DEFAULT) > 0.5 for name, weights in ways.items()}
        assert frame.given.truth is not None
        scorer.push(frame, versions, frame.given.truth)
    return scorer.means()


def show(names: list[str], rows: list[Mapping[str, tuple[float, float, float]]]) -> None:
    """Two versions beside each other, in percent, and the second one's gain."""
    first, second = rows[0]
    print(f"\n{'':20s}{first:>24s}{second:>24s}{'gain':>24s}")
    print(" " * 20 + "".join(f"{measure:>8s}" for measure in MEASURES) * 3)
    table = np.array([[row[first], row[second], np.subtract(row[second], row[first])] for row in rows]) * 100.0
    for name, values in zip([*names, "mean"], [*table, table.mean(axis=0)], strict=True):
        print(f"{name:20s}" + "".join(f"{value:8.2f}" for value in values[:2].ravel()) + "".join(f"{value:+8.2f}" for value in values[2]))
    print(f"{'better in':20s}" + " " * 48 + "".join(f"{count:5d}/{len(names)}" for count in (table[:, 2] > 0).sum(axis=0)))
