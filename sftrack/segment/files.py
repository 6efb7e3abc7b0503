"""One video from disk to disk."""

import logging
from collections.abc import Callable, Sequence

from sftrack.segment.combine import combine
from sftrack.segment.refine import DEFAULT, smooth_in_space, smoothed
from sftrack.segment.scores import Scorer, Scores
from sftrack.segment.videos import Video, make_out, read_video
from sftrack.sinks.masks import write_mask
from sftrack.spectral import SFSegPlusPlus

log = logging.getLogger(__name__)

REFINED = "refined"
"""Name of the result among the versions that are scored."""


def segment_files(
    video: Video,
    methods: Sequence[str],
    weights: SFSegPlusPlus | None = None,
    *,
    soft: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> Scores | None:
    """Refine or combine the masks of a video, write each as soon as it is done, and score them where the truth is known.

    Args:
        video: from `find_videos`.
        methods: what the methods are called in the scores.
        weights: of several methods; None: their mean.
        soft: write soft masks.
        progress: called after every frame.

    Raises:
        SourceError: a file that cannot be read, or sizes that differ.
        SinkError: a mask that cannot be written; the earlier ones are complete.
    """
    scorer = Scorer() if video.truth is not None else None
    is_empty = True
    if video.out is not None:
        make_out(video.out)
    for path, (frame, x) in zip(video.frames, smoothed(read_video(video)), strict=True):
        mask = smooth_in_space(frame, combine(frame, x, weights), DEFAULT)
        is_empty = is_empty and not (mask > 0.5).any()
        if video.out is not None:
            write_mask(video.out / f"{path.stem}.png", mask, soft=soft)
        if scorer is not None and frame.given.truth is not None:
            before = {method: frame.given.masks[..., index] > 0.5 for index, method in enumerate(methods)}
            scorer.push(frame, {**before, REFINED: mask > 0.5}, frame.given.truth)
        progress()
    if is_empty:
        log.warning("no mask of %s has any object in it, nothing is above one half; soft masks go from 0 to 255", video.name)
    return scorer.means() if scorer is not None else None
