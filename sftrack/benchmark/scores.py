"""Results against the truth: per sequence, per attribute, overall, and how fast the tracker was."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sftrack.benchmark.results import RunFolder, SequenceResult, fit_length
from sftrack.datasets import Sequence as Video
from sftrack.metrics import BoxScores, Conventions, mean_scores, score_boxes


@dataclass(frozen=True)
class Speed:
    """Of the tracker alone, without reading images: frames per second, 95th percentile of the seconds per frame; `init` does not count."""

    frames_per_second: float
    p95_s: float
    frames: int


@dataclass(frozen=True)
class Standing:
    """How one entrant did on one benchmark.

    Attributes:
        sequences: scores by sequence, of those that have a result and a truth.
        attributes: mean scores of the sequences that have an attribute; empty where the data set on disk does not say.
        overall: mean over all, None where nothing could be judged.
        speed: None where no times are known.
        speeds: the same by sequence, of those whose times are known.
        missing: sequences without a result.
        unjudged: sequences whose truth is not public.
        notes: where a result did not fit its sequence.
    """

    sequences: Mapping[str, BoxScores]
    attributes: Mapping[str, BoxScores]
    overall: BoxScores | None
    speed: Speed | None
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(videos: Iterable[Video], result_of: Callable[[str], SequenceResult | None], conventions: Conventions) -> Standing:
    """Judge an entrant.

    Args:
        videos: sequences with their truth, read one at a time.
        result_of: the result of a sequence by its name, None where there is none; see `results_in`.
        conventions: of a toolkit (`sftrack.metrics.CONVENTIONS`).
    """
    scores: dict[str, BoxScores] = {}
    members: dict[str, list[str]] = {}
    seconds: dict[str, NDArray[np.float64]] = {}
    missing, unjudged, notes = [], [], []
    for video in videos:
        result = result_of(video.name)
        if result is None:
            missing.append(video.name)
            continue
        seconds[video.name] = result.seconds[1:]
        if not video.is_judged:
            unjudged.append(video.name)
            continue
        if len(result.boxes_xywh) != len(video):
            notes.append(
                f"{video.name}: {len(result.boxes_xywh)} boxes for {len(video)} frames; what is too much is cut, what lacks is a miss"
            )
        scores[video.name] = score_video(video, result, conventions)
        for attribute in video.attributes:
            members.setdefault(attribute, []).append(video.name)
    attributes = {name: mean_scores([scores[key] for key in keys], conventions.averaged) for name, keys in sorted(members.items())}
    overall = mean_scores(list(scores.values()), conventions.averaged) if scores else None
    speeds = {name: speed for name, values in seconds.items() if (speed := speed_of([values])) is not None}
    return Standing(scores, attributes, overall, speed_of(list(seconds.values())), speeds, tuple(missing), tuple(unjudged), tuple(notes))


def score_video(video: Video, result: SequenceResult, conventions: Conventions) -> BoxScores:
    """Scores of one sequence; see `judge` for results of another length."""
    offset = np.array([video.first_pixel, video.first_pixel, 0.0, 0.0])
    boxes = fit_length(result.boxes_xywh, len(video)) - offset
    return score_boxes(boxes, video.boxes_xywh, conventions, frame_size_wh=_frame_size(video) if conventions.clipped else None)


def results_in(folder: RunFolder) -> Callable[[str], SequenceResult | None]:
    """The complete results of a run's folder, for `judge`."""
    return lambda name: folder.read(name) if folder.is_complete(name) else None


def speed_of(seconds: Sequence[NDArray[np.float64]]) -> Speed | None:
    """Over all frames of all sequences."""
    every = np.concatenate(seconds) if seconds else np.zeros(0)
    if not every.size or not every.sum() > 0:
        return None
    return Speed(every.size / float(every.sum()), float(np.percentile(every, 95)), every.size)


def _frame_size(video: Video) -> tuple[int, int]:
    height, width = video.frame(0).shape[:2]
    return width, height
