"""Training of NN_seg2box and of the channel combination on recorded frames (see `record`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftrack.combine import CombineNet
from sftrack.config import PipelineConfig
from sftrack.errors import SourceError
from sftrack.training.loop import Batch

Rows = dict[str, NDArray[np.generic]]
HELD_OUT_EVERY = 10
"""Every n-th recorded clip is kept for validation."""


def load_rows(folders: Sequence[Path], *, held_out: bool) -> Rows:
    """All recorded frames of some folders, either those to learn from or those to check with; `K` is padded with NaN to the most channels.

    Raises:
        SourceError: no recordings.
    """
    files = [path for folder in folders for path in sorted(folder.glob("*_[0-9][0-9][0-9][0-9][0-9].npz"))]
    chosen = [path for number, path in enumerate(files) if (number % HELD_OUT_EVERY == 0) == held_out]
    if not chosen:
        raise SourceError(f"expected recordings in {', '.join(map(str, folders))}, found none; run the stage 'record' first")
    parts = [np.load(path) for path in chosen]
    parts = [part for part in parts if len(part["edges"])]
    rows: Rows = {name: np.concatenate([part[name] for part in parts]) for name in ("maps", "edges", "errors")}
    most = max(part["overlaps"].shape[1] for part in parts)
    return rows | {name: np.concatenate([_padded(part[name], most) for part in parts]) for name in ("features", "overlaps")}


def _padded(values: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    missing = [(0, 0), (0, channels - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
    return np.pad(values, missing, constant_values=np.nan)


def rows_by_channels(rows: Rows) -> dict[int, NDArray[np.int64]]:
    """Which rows have how many channels (those that failed do not count); below two there is nothing to choose."""
    counts = np.isfinite(rows["overlaps"]).sum(axis=1)
    return {int(count): np.flatnonzero(counts == count) for count in np.unique(counts) if count >= 2}


def combine_batches(rows: Rows, *, batch: int, seed: int, steps: int, first_step: int) -> Iterator[Batch]:
    """`features` `(B, K, F)` and `overlaps` `(B, K)` of random frames that have the same number of channels."""
    groups = rows_by_channels(rows)
    sizes = np.array([len(group) for group in groups.values()])
    for step in range(first_step, steps):
        rng = np.random.default_rng((seed, step))
        channels = int(rng.choice(list(groups), p=sizes / sizes.sum()))
        chosen = rng.choice(groups[channels], batch)
        yield {name: torch.from_numpy(rows[name][chosen, :channels]) for name in ("features", "overlaps")}


def combine_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the predicted overlaps, plus that the best channel of a frame is ranked first."""
    logits = network(batch["features"]).float()
    overlap = functional.binary_cross_entropy_with_logits(logits, batch["overlaps"])
    sharpness = PipelineConfig.sharpness  # by which the pipeline makes weights of the overlaps
    wanted = functional.softmax(sharpness * batch["overlaps"], dim=1)
    ranking = -(wanted * functional.log_softmax(sharpness * logits.sigmoid(), dim=1)).sum(1).mean()
    return overlap + 0.1 * ranking


def standardise(network: CombineNet, rows: Rows) -> None:
    """Put mean and spread of the features into the network."""
    features = rows["features"][np.isfinite(rows["overlaps"])].astype(np.float32)
    network.mean.copy_(torch.from_numpy(features.mean(axis=0)))
    network.std.copy_(torch.from_numpy(features.std(axis=0) + 1e-2))


@torch.inference_mode()
def validate_combine(network: nn.Module, rows: Rows) -> str:
    """Mean overlap of the channel ranked first, beside the mean and the best possible, for each number of channels, in words."""
    words = []
    for channels, group in rows_by_channels(rows).items():
        overlaps = rows["overlaps"][group, :channels]
        best = network(torch.from_numpy(rows["features"][group, :channels])).numpy().argmax(axis=1)
        picked = overlaps[np.arange(len(best)), best].mean()
        words.append(f"{channels} channels: all {overlaps.mean():.3f}, picked {picked:.3f}, oracle {overlaps.max(1).mean():.3f}")
    return "overlap of " + "; ".join(words)


def seg2box_batches(rows: Rows, *, batch: int, seed: int, steps: int, first_step: int) -> Iterator[Batch]:
    """`maps` `(B, 4, 64, 64)` and `edges` `(B, 4)` of random frames, mirrored, moved and scaled at random."""
    for step in range(first_step, steps):
        rng = np.random.default_rng((seed, step))
        chosen = rng.integers(0, len(rows["edges"]), batch)
        pairs = [_disturb(rows["maps"][row].astype(np.uint8), rows["edges"][row].astype(np.float32), rng) for row in chosen]
        maps = torch.from_numpy(np.stack([maps for maps, _ in pairs])).float().div_(255.0)
        yield {"maps": maps, "edges": torch.from_numpy(np.stack([edges for _, edges in pairs]).astype(np.float32))}


def _disturb(
    maps: NDArray[np.uint8], edges: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Move and scale the current maps (not those of the first frame), mirror all of them, sometimes hide the channels' votes."""
    size = maps.shape[1]
    scale, shift = np.exp(rng.normal(0.0, 0.1, 2)), rng.normal(0.0, 0.05, 2) * size
    center = size / 2.0
    matrix = np.array([[scale[0], 0.0, center - scale[0] * center + shift[0]], [0.0, scale[1], center - scale[1] * center + shift[1]]])
    current = np.ascontiguousarray(maps[:2].transpose(1, 2, 0))
    moved = cv2.warpAffine(current, matrix, (size, size)).transpose(2, 0, 1)
    result = np.concatenate([moved, maps[2:]])
    scales, shifts = np.tile(scale, 2), np.tile(matrix[:, 2] / size, 2)
    edges = (edges * scales + shifts).astype(np.float32)
    if rng.random() < 0.1:
        result[1] = 0
    if rng.random() < 0.5:
        result = result[:, :, ::-1]
        edges = np.array([1.0 - edges[2], edges[1], 1.0 - edges[0], edges[3]], dtype=np.float32)
    return np.ascontiguousarray(result), edges


def _overlap(edges: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., 2019) of `(B, 4)` edges x1, y1, x2, y2."""
    low, high = torch.maximum(edges[:, :2], others[:, :2]), torch.minimum(edges[:, 2:], others[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=1e-4).prod(1) for box in (edges, others)]
    union = areas[0] + areas[1] - both
    hull = (torch.maximum(edges[:, 2:], others[:, 2:]) - torch.minimum(edges[:, :2], others[:, :2])).clamp(min=1e-4).prod(1)
    overlap = both / union
    return overlap, overlap - (hull - union) / hull


def seg2box_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Generalised IoU and L1 of the edges, cross-entropy of the score with the overlap that was reached."""
    edges, logits = network(batch["maps"].contiguous(memory_format=torch.channels_last))
    overlap, generalised = _overlap(edges.float(), batch["edges"])
    box_loss = (1.0 - generalised).mean() + 2.0 * (edges.float() - batch["edges"]).abs().mean()
    total: Tensor = box_loss + 0.5 * functional.binary_cross_entropy_with_logits(logits.float(), overlap.detach())
    return total


@torch.inference_mode()
def validate_seg2box(network: nn.Module, rows: Rows) -> str:
    """Mean overlap of the boxes on recorded frames, beside the previous box, in words."""
    overlaps, errors = [], []
    for start in range(0, len(rows["edges"]), 256):
        maps = torch.from_numpy(rows["maps"][start : start + 256].astype(np.uint8)).float() / 255.0
        edges, logits = network(maps)
        overlap, _ = _overlap(edges, torch.from_numpy(rows["edges"][start : start + 256].astype(np.float32)))
        overlaps.append(overlap)
        errors.append((logits.sigmoid() - overlap).abs())
    return f"overlap {float(torch.cat(overlaps).mean()):.3f}, error of the score {float(torch.cat(errors).mean()):.3f}"
