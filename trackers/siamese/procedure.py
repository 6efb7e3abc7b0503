"""The tracking procedure that SiamRPN++, SiamBAN and NanoTrack have in common; each brings its network."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sftrack.boxes import center_xy, checked_box
from sftrack.contracts import BoxXYWH, ImageRGB, is_number
from sftrack.errors import ConfigError, NotInitialisedError

from ..base import BoxTracker
from .crop import crop_square, fill_colour
from .penalty import Choice, choose, context_side, shape_penalty

EXEMPLAR_SIZE_PX = 127
"""Side of the template's crop."""

INSTANCE_SIZE_PX = 255
"""Side of the search crop, as most of the networks take it."""

MIN_SIZE_PX = 10.0
"""Width and height of the target never fall below this."""


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a published experiment.

    Attributes:
        penalty_k: how much a change of size or aspect ratio counts against a candidate.
        window_influence: share of the window, which prefers the middle, in a candidate's total, in [0, 1].
        lr: how far the size follows a candidate of score 1 and penalty 1, in [0, 1].
        temperature: what the log-odds of the score that is handed out are divided by (Guo et al., ICML 2017); 1 is the published score.
            The choice among candidates and the rate of the size keep to the published one.
    """

    penalty_k: float
    window_influence: float
    lr: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            if not is_number(value := getattr(self, setting.name)):
                raise ConfigError(f"expected {setting.name} as a number, got {value!r}")
        if not (np.isfinite(self.penalty_k) and self.penalty_k >= 0.0):
            raise ConfigError(f"expected penalty_k >= 0, got {self.penalty_k}")
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise ConfigError(f"expected temperature > 0, got {self.temperature}")
        for name in ("window_influence", "lr"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"expected {name} in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class Candidates:
    """What a network proposes in a search crop.

    Attributes:
        scores: `(N,) float32` in [0, 1].
        boxes: `(4, N) float32`: x and y of the centre relative to the middle of the crop, width, height, in its pixels.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]


def soften(score: float, temperature: float) -> float:
    """The score in [0, 1] whose log-odds are those of `score`, divided; those of 0 and 1 are as far as float32 reaches."""
    if temperature == 1.0:
        return score
    kept = min(max(score, 1e-7), 1.0 - 6e-8)
    return 1.0 / (1.0 + math.exp(math.log((1.0 - kept) / kept) / temperature))


class SiameseTracker(BoxTracker):
    """Follows a target by comparing each frame with the first one. Subclasses write `_set_template` and `_compare`.

    The box that is given has its centre at `x + w / 2`, as the published evaluations pass it (they add 0.5 to x and y, because their
    procedure takes `x + (w - 1) / 2`).
    """

    _as_published = True

    def __init__(self, settings: Settings, window: NDArray[np.float64], instance_size: int = INSTANCE_SIZE_PX) -> None:
        """`window`: the preference of each of the N candidates, `(N,)`; `instance_size`: side of the search crop."""
        self._settings = settings
        self._window = window
        self._instance_size = instance_size

    def _set_template(self, crop_rgb: ImageRGB) -> None:
        """Remember the target as it looks in the first frame's crop, `(127, 127, 3)`."""
        raise NotImplementedError

    def _compare(self, crop_rgb: ImageRGB) -> Candidates:
        """Look for the target in a crop of `instance_size`."""
        raise NotImplementedError

    def move_to(self, box_xywh: BoxXYWH, *, forget_last: bool = False) -> None:
        """Go on from another box with the template of the first frame (see `Movable`).

        Raises:
            NotInitialisedError: `init` was not called.
            BoxError: as for `init`.
        """
        if self._size_wh is None:
            raise NotInitialisedError("call init(image_rgb, box_xywh) before move_to(box_xywh)")
        self._box = checked_box(box_xywh, self._size_wh)
        self._stand_on(self._box)

    def _stand_on(self, box_xywh: BoxXYWH) -> None:
        self._center, self._size = center_xy(box_xywh), box_xywh[2:].copy()

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self._stand_on(box_xywh)
        self._fill = fill_colour(image_rgb)
        side = round(context_side(*self._size.tolist()))
        self._set_template(crop_square(image_rgb, self._center, side, EXEMPLAR_SIZE_PX, self._fill))

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        context = context_side(*self._size.tolist())
        instance = self._instance_size
        crop = crop_square(image_rgb, self._center, round(context * (instance / EXEMPLAR_SIZE_PX)), instance, self._fill)
        choice = self._move(self._compare(crop), EXEMPLAR_SIZE_PX / context, (image_rgb.shape[1], image_rgb.shape[0]))
        if choice is None:
            return None, 0.0
        return np.concatenate([self._center - self._size / 2.0, self._size]), soften(choice.score, self._settings.temperature)

    def _move(self, candidates: Candidates, scale: float, frame_size_wh: tuple[int, int]) -> Choice | None:
        """Choose a candidate and let centre and size follow it; None, and nothing moves, where the best one is not finite.

        `scale`: pixels of the crop per pixel of the frame.
        """
        settings = self._settings
        with np.errstate(all="ignore"):  # networks overflow on pictures unlike any that they were trained on
            penalties = shape_penalty(candidates.boxes, self._size * scale, settings.penalty_k)
            choice = choose(candidates.scores, penalties, self._window, settings.window_influence)
        found = candidates.boxes[:, choice.index].astype(np.float64) / scale
        if not (np.isfinite(found).all() and np.isfinite(choice.total)):
            return None
        rate = settings.lr * choice.penalty * choice.score
        limits = np.array(frame_size_wh, dtype=np.float64)
        self._center = np.clip(self._center + found[:2], 0.0, limits)
        self._size = np.maximum(np.minimum(self._size * (1.0 - rate) + rate * found[2:], limits), MIN_SIZE_PX)
        return choice
