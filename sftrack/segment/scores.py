"""J, F and TCONT of masks that arrive frame by frame."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sftrack.metrics import boundary_f, consistent_mask, jaccard
from sftrack.metrics.masks import Mask
from sftrack.segment.links import LinkedFrame

MEASURES = ("J", "F", "TCONT")


@dataclass
class Scorer:
    """Scores several versions of a video's masks on its frames 2 to n - 1.

    DAVIS leaves out the first frame, whose mask may have been given, and the last; and TCONT needs two neighbours.
    """

    _last: deque[tuple[LinkedFrame, Mapping[str, Mask], Mask]] = field(default_factory=lambda: deque(maxlen=3))
    _values: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)

    def push(self, frame: LinkedFrame, versions: Mapping[str, Mask], truth: Mask) -> None:
        """Add the next frame with its masks by name of the version."""
        self._last.append((frame, versions, truth))
        if len(self._last) < 3:
            return
        (_, before, _), (current, masks, true), (_, after, _) = self._last
        if current.previous is None or current.following is None:
            raise ValueError("expected frames linked to both neighbours between the first and the last one")
        for name, mask in masks.items():
            combined = consistent_mask(before[name], mask, after[name], current.previous.flow, current.following.flow)
            values = jaccard(mask, true), boundary_f(mask, true), jaccard(combined, true)
            self._values.setdefault(name, []).append(values)

    def means(self) -> "Scores":
        """Mean J, F and TCONT per version.

        Raises:
            ValueError: fewer than three frames.
        """
        if not self._values:
            raise ValueError("expected at least 3 frames to score a video, got fewer; the first and the last do not count")
        return {name: (float(j), float(f), float(t)) for name, values in self._values.items() for j, f, t in [np.mean(values, axis=0)]}


Scores = Mapping[str, tuple[float, float, float]]
"""Version -> J, F, TCONT in [0, 1]."""


@dataclass
class Table:
    """Scores as lines of text, in percent: a row per video, three columns per version."""

    videos: Sequence[str]
    rows: list[Scores] = field(default_factory=list)

    def add(self, video: str, scores: Scores) -> list[str]:
        """The next video's line; before the first one, two lines of headings."""
        self.rows.append(scores)
        if len(self.rows) > 1:
            return [self._line(video, scores)]
        measures = "".join(f"{measure:>8s}" for measure in MEASURES)
        return [
            self._row("", {version: version for version in scores}),
            self._row("", dict.fromkeys(scores, measures)),
            self._line(video, scores),
        ]

    def mean(self) -> str:
        """The last line: the mean over the videos so far."""
        means = {name: np.mean([row[name] for row in self.rows], axis=0) for name in self.rows[0]}
        return self._line("mean", {name: (float(j), float(f), float(t)) for name, (j, f, t) in means.items()})

    def _line(self, name: str, scores: Scores) -> str:
        return self._row(name, {version: "".join(f"{100 * value:8.2f}" for value in values) for version, values in scores.items()})

    def _row(self, name: str, cells: Mapping[str, str]) -> str:
        """A cell per version, which is as wide as the version's name needs it."""
        width = max(map(len, (*self.videos, "mean")))
        return f"{name:{width}s}" + "".join(f"{cell:>{max(len(version) + 2, 24)}s}" for version, cell in cells.items())
