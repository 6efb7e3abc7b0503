"""Reference values of the spectral step, and the inputs that they were made from."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch


def reference(shared: Path, name: str = "sfseg") -> Mapping[str, np.ndarray]:
    """All arrays that the original code left."""
    with np.load(shared / "parity" / f"{name}.npz") as stored:
        return dict(stored)


def made(name: str, shape: tuple[int, ...], kind: str = "uniform") -> torch.Tensor:
    """A named pseudo-random tensor, as `parity/deterministic.py` makes it with seed 1."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"1/{name}".encode())))
    values = rng.uniform(0.0, 1.0, shape) if kind == "uniform" else rng.standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def volumes(seed: int, count: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """`count` random volumes in [0.05, 1): away from 0, where a power has no derivative."""
    return list(0.05 + 0.95 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))
