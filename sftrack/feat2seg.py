"""NN_feat2seg: an image and a box in it become a segmentation of the object in the box (paper, Sec. 5.2, first network).

The paper feeds `[R, G, B, box image]` of whole frames to a U-Net of 4.3 M parameters once per channel, 300 ms each. All channels look at
the same crop, so here the picture is encoded once (`encode`), and only what depends on the box runs per channel (`decode`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftrack.boxes import iou
from sftrack.contracts import BoxXYWH, ImageRGB, SoftMask
from sftrack.engine import KEPT_SIZES, Array, Engine, fastest_engine, fold
from sftrack.feat2seg_net import Feat2Seg, Features
from sftrack.resampling import block_means
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.window import rasterise
from sftrack.workers import TorchWorkers

ALIKE = 0.75
"""Overlap from which two boxes mean the same object."""


def distinct_boxes(boxes_xywh: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The boxes `(N, 4)` among `(K, 4)` that differ, and for each of the K which of these stands for it, `(K,)`."""
    alike = iou(boxes_xywh[:, None], boxes_xywh[None])
    np.fill_diagonal(alike, 1.0)
    chosen: list[int] = []
    for index in range(len(boxes_xywh)):
        if not chosen or alike[index, chosen].max() < ALIKE:
            chosen.append(index)
    return boxes_xywh[chosen], alike[:, chosen].argmax(axis=1) if chosen else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Encoded:
    """A crop of a size `(h, w)` as `Segmenter.encode` leaves it: the fields of `Features`, where the engine keeps them."""

    size_hw: tuple[int, int]
    features: Sequence[Array | Tensor]


@dataclass(frozen=True)
class Segmentations:
    """What NN_feat2seg says about K boxes in one crop.

    Attributes:
        masks: `(K, h, w) float32` in [0, 1].
        descriptors: `(K, D) float32`, unit length: the mean feature under each mask, a signature of what was segmented.
    """

    masks: NDArray[np.float32]
    descriptors: NDArray[np.float32]


class _Encoder(nn.Module):
    """The first half of the network as an engine runs it."""

    def __init__(self, network: Feat2Seg) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop_rgb: Tensor) -> tuple[Tensor, ...]:
        """Crop `(h, w, 3) uint8` to the fields of `Features`."""
        return tuple(self.network.encode(crop_rgb.permute(2, 0, 1)[None].to(self.network.mean.dtype) / 255.0))


class _Decoder(nn.Module):
    """The second half."""

    def __init__(self, network: Feat2Seg) -> None:
        super().__init__()
        self.network = network

    def forward(self, boxes: Tensor, visible: Tensor, *features: Tensor) -> Tensor:
        """Box images `(K, h, w)`, image of the frame `(1, h, w)` and the fields of `Features` to masks `(K, h, w)` in [0, 1]."""
        return self.network.decode(Features(*features), boxes[:, None], visible[:, None]).sigmoid()[:, 0]


class Segmenter:
    """NN_feat2seg as the pipeline uses it: NumPy in, NumPy out. It keeps nothing of a crop, so several trackers may share it."""

    def __init__(self, network: Feat2Seg, device: str = "cpu") -> None:
        """The network belongs to the segmenter from then on."""
        self._network = fold(network.eval().requires_grad_(False))
        self._device = device
        self._engines = lru_cache(KEPT_SIZES)(self._new_engines)

    @classmethod
    @cache
    def bundled(cls, device: str = "cpu") -> Self:
        """With the weights that the package ships; one for all who ask."""
        return cls(load_network(Feat2Seg(), bundled_path("feat2seg")), device)

    def segment(
        self, crop_rgb: ImageRGB, boxes_xywh: NDArray[np.float64], frame_xywh: BoxXYWH, workers: TorchWorkers | None = None
    ) -> Segmentations:
        """Segment the objects in K boxes of one crop; boxes that are `ALIKE` share a segmentation.

        Args:
            crop_rgb: `(h, w, 3) uint8`, sides multiples of 16.
            boxes_xywh: `(K, 4)` in crop pixels, K >= 1; parts outside the crop are ignored.
            frame_xywh: where the whole frame lies, in crop pixels; what is beyond it is not looked at.
            workers: threads that share the boxes among them; without them one is segmented after the other in this thread.
        """
        return self.decode(self.encode(crop_rgb), boxes_xywh, frame_xywh, workers)

    def encode(self, crop_rgb: ImageRGB) -> Encoded:
        """What does not depend on the boxes; `decode` goes on with it."""
        height, width = crop_rgb.shape[:2]
        encoder, _ = self._engines((height, width))
        return Encoded((height, width), encoder.keep(crop_rgb))

    def decode(
        self,
        encoded: Encoded,
        boxes_xywh: NDArray[np.float64],
        frame_xywh: BoxXYWH,
        workers: TorchWorkers | None = None,
        known: Mapping[int, SoftMask] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Segmentations:
        """The second half of `segment`, with the same arguments.

        Args:
            known: masks `(h, w)` of the crop by index of their box, from trackers that segment: they are only described, not made again.
            meanwhile: see `TorchWorkers.run`; without workers it is not called.
        """
        known = known or {}
        wanted = [index for index in range(len(boxes_xywh)) if index not in known]
        distinct, owner = distinct_boxes(boxes_xywh[wanted])
        # A GPU takes all boxes at once; on a CPU one after the other stays in the cache, and threads share them evenly.
        count = 1 if self._device == "cpu" else max(len(distinct), 1)
        jobs = [partial(self._decode, encoded, distinct[at : at + count], frame_xywh) for at in range(0, len(distinct), count)]
        done = workers.run(jobs, meanwhile) if workers else [job() for job in jobs]
        masks = np.concatenate([*done, *(mask[None] for mask in known.values())])
        row_of = dict(zip(wanted, owner.tolist(), strict=True)) | {index: len(distinct) + row for row, index in enumerate(known)}
        rows = [row_of[index] for index in range(len(boxes_xywh))]
        return Segmentations(masks[rows], self._descriptors(encoded, masks)[rows])

    def _new_engines(self, size_hw: tuple[int, int]) -> tuple[Engine, Engine]:
        """Both halves, for crops of a size."""
        crop, boxes = torch.zeros(*size_hw, 3, dtype=torch.uint8), torch.zeros(1, *size_hw)
        encoder, decoder = _Encoder(self._network).eval(), _Decoder(self._network).eval()
        with torch.no_grad():
            features = encoder(crop) if self._device == "cpu" else ()
        return fastest_engine(encoder, [crop], self._device), fastest_engine(decoder, [boxes, boxes, *features], self._device)

    def _decode(self, encoded: Encoded, boxes_xywh: NDArray[np.float64], frame_xywh: BoxXYWH) -> SoftMask:
        """Masks `(K, h, w)`."""
        _, decoder = self._engines(encoded.size_hw)
        drawn = rasterise(np.concatenate([boxes_xywh, frame_xywh[None]]), encoded.size_hw[::-1])
        return decoder.run(drawn[:-1], drawn[-1:], *encoded.features)[0]

    @staticmethod
    def _descriptors(encoded: Encoded, masks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean feature under each of the masks `(K, h, w)`, see `Segmentations`."""
        quarter = torch.as_tensor(encoded.features[Features._fields.index("raw_quarter")])[0].flatten(1).float().cpu().numpy()
        # In NumPy: this is the caller's thread, where PyTorch would wake threads of its own (see `workers`).
        shares = np.stack([block_means(mask, 4) for mask in masks]).reshape(len(masks), -1)
        means = (shares @ quarter.T) / (shares.sum(1, keepdims=True) + 1e-3) - quarter.mean(1)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), dtype=np.float32)
