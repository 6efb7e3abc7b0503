"""The hyper-parameters of DiMP, PrDiMP and SuperDiMP."""

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral

from sftrack.contracts import is_number
from sftrack.errors import ConfigError

from ..base import check_counts
from .augmentation import Augmentation
from .iou_net import Space
from .localisation import Thresholds
from .refinement import Refinement

AUGMENTATION = Augmentation(
    shifts=((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6)),
    flip=True,
    blurs=((3.0, 1.0), (1.0, 3.0), (2.0, 2.0)),
    rotations=(10.0, -10.0, 45.0, -45.0),
)
"""What the first frame is turned into; its random shift and dropouts are settings."""


_NOT_NEGATIVE = (
    *("distractor_threshold", "hard_negative_threshold", "target_neighbourhood_scale", "displacement_scale"),
    *("refinement_step_length", "position_jitter", "size_jitter"),
)


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters, with the values of PrDiMP-18. Any of them can be given to `trackers.create` by name.

    Attributes:
        crop_side: side of the search crop in pixels, as the network takes it; a multiple of 32.
        search_area_scale: side of the search crop in sizes (square roots of the area) of the target.
        max_shrink: None repeats the frame's edge beyond it; a factor lets the crop be moved into the frame, and shrunk by up to that factor
            where it is larger.
        fractional_bounds: see `patches.sample_patch`.
        use_augmentation: learn from transformed copies of the first frame, too.
        random_shift_factor, dropouts, dropout_probability: see `Augmentation`.
        sample_memory_size: samples that are remembered.
        learning_rate, hard_negative_learning_rate: weight of a new sample.
        minimum_initial_weight: what the first frame's samples weigh together at least.
        train_skipping: frames between regular updates of the filter.
        init_iterations, update_iterations, hard_negative_iterations: of the optimiser on the first frame, in a regular update, and beside a
            distractor.
        target_not_found_threshold, distractor_threshold, hard_negative_threshold, target_neighbourhood_scale, displacement_scale: see
            `Thresholds`.
        refinement_space, refinement_iterations, refinement_step_length, random_boxes, position_jitter, size_jitter, top_k,
            maximal_aspect_ratio: see `Refinement`.
    """

    crop_side: int = 288
    search_area_scale: float = 5.0
    max_shrink: float | None = None
    fractional_bounds: bool = False
    use_augmentation: bool = True
    random_shift_factor: float = 1 / 3
    dropouts: int = 2
    dropout_probability: float = 0.2
    sample_memory_size: int = 50
    learning_rate: float = 0.01
    hard_negative_learning_rate: float = 0.02
    minimum_initial_weight: float = 0.25
    train_skipping: int = 20
    init_iterations: int = 10
    update_iterations: int = 2
    hard_negative_iterations: int = 1
    target_not_found_threshold: float = 0.04
    distractor_threshold: float = 0.8
    hard_negative_threshold: float = 0.5
    target_neighbourhood_scale: float = 2.2
    displacement_scale: float = 0.8
    refinement_space: Space = "relative"
    refinement_iterations: int = 10
    refinement_step_length: float = 2.5e-3
    random_boxes: int = 9
    position_jitter: float = 0.1
    size_jitter: float = 0.5
    top_k: int = 3
    maximal_aspect_ratio: float = 6.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.type is float and not (is_number(value) and math.isfinite(value)):
                raise ConfigError(f"expected {setting.name} as a finite number, got {value}")
        for name in (
            "random_shift_factor",
            "dropout_probability",
            "learning_rate",
            "hard_negative_learning_rate",
            "minimum_initial_weight",
        ):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"expected {name} in [0, 1), got {getattr(self, name)}")
        check_counts(crop_side=(self.crop_side, 32))
        for least, names in (
            (1, ("sample_memory_size", "train_skipping", "refinement_iterations", "top_k")),
            (0, ("dropouts", "init_iterations", "update_iterations", "hard_negative_iterations", "random_boxes")),
        ):
            check_counts(**{name: (getattr(self, name), least) for name in names})
        for name in ("search_area_scale", "maximal_aspect_ratio"):
            if not getattr(self, name) > 1.0:
                raise ConfigError(f"expected {name} > 1, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0.0:
                raise ConfigError(f"expected {name} from 0, got {getattr(self, name)}")
        if self.max_shrink is not None and not (is_number(self.max_shrink) and 1.0 <= self.max_shrink < math.inf):
            raise ConfigError(f"expected max_shrink as a number from 1, or none, got {self.max_shrink}")
        if self.crop_side % 32:
            raise ConfigError(f"expected crop_side as a multiple of 32 pixels, got {self.crop_side}")
        if self.refinement_space not in ("default", "relative"):
            raise ConfigError(f"expected refinement_space 'default' or 'relative', got '{self.refinement_space}'")
        if self.sample_memory_size <= self.initial_samples:
            raise ConfigError(f"expected sample_memory_size above the first frame's {self.initial_samples}, got {self.sample_memory_size}")

    @property
    def augmentation(self) -> Augmentation:
        """Of the first frame."""
        if not self.use_augmentation:
            return Augmentation()
        return replace(
            AUGMENTATION,
            random_shift=self.random_shift_factor,
            dropouts=self.dropouts,
            dropout_probability=self.dropout_probability,
        )

    @property
    def initial_samples(self) -> int:
        """Samples that the first frame gives."""
        return self.augmentation.count

    @property
    def thresholds(self) -> Thresholds:
        """Of the score map."""
        return Thresholds(
            self.target_not_found_threshold,
            self.distractor_threshold,
            self.hard_negative_threshold,
            self.target_neighbourhood_scale,
            self.displacement_scale,
        )

    @property
    def refinement(self) -> Refinement:
        """Of the box."""
        return Refinement(
            self.refinement_space,
            self.refinement_iterations,
            self.refinement_step_length,
            self.random_boxes,
            self.position_jitter,
            self.size_jitter,
            self.top_k,
            self.maximal_aspect_ratio,
        )


DIMP = Settings(target_not_found_threshold=0.25, refinement_space="default", refinement_iterations=5, refinement_step_length=1.0)
"""Of DiMP-18 and DiMP-50."""

WIDE = Settings(crop_side=352, search_area_scale=6.0, max_shrink=1.5)
"""Of PrDiMP-50; but for one threshold of SuperDiMP."""


def checked_seed(seed: int) -> int:
    """The seed of a tracker's own generator.

    Raises:
        ConfigError: PyTorch takes no such seed.
    """
    if not (isinstance(seed, Integral) and is_number(seed) and 0 <= seed < 2**64):
        raise ConfigError(f"expected seed as a whole number from 0, with 64 bits, got {seed}")
    return int(seed)
