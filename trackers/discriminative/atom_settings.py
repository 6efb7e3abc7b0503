"""The hyper-parameters of ATOM."""

from dataclasses import dataclass, replace

from sftrack.errors import ConfigError

from ..base import check_counts
from .augmentation import Augmentation
from .dimp_settings import Settings
from .iou_net import Space

BLURS = ((2, 0.2), (0.2, 2), (3, 1), (1, 3), (2, 2))
ROTATIONS = (5, -5, 10, -10, 20, -20, 30, -30, 45, -45, -60, 60)


@dataclass(frozen=True)
class ATOMSettings(Settings):
    """As for DiMP, with the values of ATOM. Iterations are of conjugate gradients; those of the first frame are the sum over all steps.

    Attributes:
        init_steps: Gauss-Newton steps on the first frame.
        compressed_channels: of the features after the projection.
        label_sigma_factor: width of the labels in sizes of the target.
    """

    dropouts: int = 7
    sample_memory_size: int = 250
    train_skipping: int = 10
    init_iterations: int = 60
    update_iterations: int = 5
    hard_negative_iterations: int = 5
    target_not_found_threshold: float = 0.25
    refinement_space: Space = "default"
    refinement_iterations: int = 5
    refinement_step_length: float = 1.0
    init_steps: int = 6
    compressed_channels: int = 64
    label_sigma_factor: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(init_steps=(self.init_steps, 1), compressed_channels=(self.compressed_channels, 1))
        if self.init_iterations % self.init_steps:
            raise ConfigError(f"expected init_iterations as a multiple of init_steps ({self.init_steps}), got {self.init_iterations}")
        if self.label_sigma_factor <= 0.0:
            raise ConfigError(f"expected label_sigma_factor > 0, got {self.label_sigma_factor}")
        if self.max_shrink is not None:
            raise ConfigError(f"expected no max_shrink, because ATOM does not reckon with a crop that was moved, got {self.max_shrink}")

    @property
    def augmentation(self) -> Augmentation:
        """Of the first frame."""
        common = super().augmentation
        return replace(common, blurs=BLURS, rotations=ROTATIONS) if self.use_augmentation else common
