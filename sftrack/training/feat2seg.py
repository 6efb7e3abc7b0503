"""Training of NN_feat2seg: exact boxes, then jittered boxes, then boxes with the errors of real channels (paper, Sec. 5.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from sftrack.feat2seg_net import Feat2Seg
from sftrack.training.loop import Batch
from sftrack.training.photos import BoxNoise, PhotoSet, Sample, draw_sample, make_sample
from sftrack.weights.bundled import fill
from sftrack.weights.checkpoints import read_checkpoint


@dataclass(frozen=True)
class Curriculum:
    """Which boxes are given at which part of the run.

    Attributes:
        steps: number of batches in all.
        exact_until: share of the run with exact boxes.
        channels_from: share of the run from which half of the boxes carry recorded errors of real channels.
        recorded: those errors, `(N, 4)`; None where there are none, and the jitter goes on.
        exact_share: share of exact boxes after the first part: the start box of a track is exact.
        size_px: side of the crops.
    """

    steps: int
    exact_until: float = 0.1
    channels_from: float = 0.75
    recorded: NDArray[np.float64] | None = None
    exact_share: float = 0.2
    size_px: int = 128

    def noise_at(self, step: int) -> BoxNoise:
        """The disturbance of the boxes at a step; exact boxes stay in the mix at later stages."""
        done = step / self.steps
        if done < self.exact_until:
            return BoxNoise(0.0)
        return BoxNoise(1.0, self.recorded if done >= self.channels_from else None)


class SampleStream(IterableDataset[Batch]):
    """Endless batches; batch `n` depends on the seed and `n` alone, so a resumed run sees what an unbroken one would."""

    def __init__(self, photos: PhotoSet, curriculum: Curriculum, *, batch: int, seed: int, first_step: int) -> None:
        self.photos, self.curriculum, self.batch, self.seed, self.first_step = photos, curriculum, batch, seed, first_step

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first_step, self.curriculum.steps):
            rng = np.random.default_rng((self.seed, step))
            noise = self.curriculum.noise_at(step)
            yield collate([self._draw(rng, noise) for _ in range(self.batch)])

    def _draw(self, rng: np.random.Generator, noise: BoxNoise) -> Sample:
        exact = rng.random() < self.curriculum.exact_share
        return draw_sample(self.photos, rng, BoxNoise(0.0) if exact else noise, self.curriculum.size_px)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples: `image` `(B, 3, S, S) uint8`, `box`, `visible` and `mask` `(B, 1, S, S) float32`."""
    images = torch.from_numpy(np.stack([sample.image_rgb for sample in samples]))
    return {
        "image": images.permute(0, 3, 1, 2),
        "box": torch.from_numpy(np.stack([sample.box_image for sample in samples]))[:, None],
        "visible": torch.from_numpy(np.stack([sample.visible for sample in samples]))[:, None],
        "mask": torch.from_numpy(np.stack([sample.mask for sample in samples]))[:, None],
    }


def batches_from(photos: PhotoSet, curriculum: Curriculum, *, batch: int, seed: int, first_step: int) -> DataLoader[Batch]:
    """The stream, made in a process of its own while the network learns."""
    stream = SampleStream(photos, curriculum, batch=batch, seed=seed, first_step=first_step)
    return DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=6)


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice per sample; `(B, 1, H, W)` logits and masks in [0, 1]."""
    logits = logits.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, mask)
    probability = logits.sigmoid()
    overlap = (probability * mask).sum((1, 2, 3))
    dice = 1.0 - (2.0 * overlap + 1.0) / (probability.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1.0)
    return entropy + dice.mean()


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Loss of one batch of `SampleStream`."""
    images = batch["image"].float().div_(255.0).contiguous(memory_format=torch.channels_last)
    return segmentation_loss(network(images, batch["box"], batch["visible"]), batch["mask"])


@torch.inference_mode()
def validate(network: nn.Module, photos: PhotoSet, *, size_px: int = 160, count: int = 192, seed: int = 7) -> str:
    """Mean Jaccard on held-out photos with exact and with jittered boxes, in words."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(photos.items))[:count]
    words = []
    for name, noise in (("exact", BoxNoise(0.0)), ("jittered", BoxNoise(1.0))):
        drawn = (make_sample(photos, photos.items[i], rng, noise, size_px, augment=False) for i in chosen)
        batch = collate([sample for sample in drawn if sample is not None])
        found = network(batch["image"].float() / 255.0, batch["box"], batch["visible"]) > 0
        true = batch["mask"] > 0.5
        jaccard = (found & true).sum((1, 2, 3)) / (found | true).sum((1, 2, 3)).clamp(min=1)
        words.append(f"J({name}) {float(jaccard.mean()):.3f}")
    return " ".join(words)


def start_from_nanotrack(network: Feat2Seg, path: Path) -> None:
    """Give the backbone the weights that NanoTrack v3 learned, made to look at RGB in [0, 1] instead of BGR in 0 to 255.

    Raises:
        WeightsError: not a readable checkpoint of NanoTrack v3.
    """
    tensors = read_checkpoint(path).tensors
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    if (first := "features.0.0.weight") in backbone:
        backbone[first] = backbone[first].flip(1) * 255.0
    fill(network.backbone, backbone, f"'{path}'")


def photo_sets(data_dir: Path) -> tuple[PhotoSet, PhotoSet]:
    """Training and validation pictures."""
    return PhotoSet(data_dir, validation=False), PhotoSet(data_dir, validation=True)
