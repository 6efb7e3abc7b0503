"""The numeric fixtures of the trackers with online learning: what the original implementations make of reproducible weights and inputs."""

import importlib.util
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sftrack.contracts import ImageRGB


class Fixtures:
    """Those of one tracker (`atom18`, `prdimp18`) in a folder `shared`; `fixtures[name]` is an array."""

    def __init__(self, shared: Path, tracker: str) -> None:
        folder = shared / "parity"
        with np.load(folder / f"{tracker}.npz") as stored:
            self._arrays = dict(stored)
        self.shapes: dict[str, list[int]] = json.loads((folder / f"{tracker}_state.json").read_text())
        self.seed = int(self["seed"])
        spec = importlib.util.spec_from_file_location("deterministic", folder / "deterministic.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._tensor: Callable[..., np.ndarray] = module.tensor
        self._state: Callable[..., dict[str, np.ndarray]] = module.state

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 (arrays of any type)
        return self._arrays[name]

    def names(self, prefix: str) -> list[str]:
        """The arrays whose names begin so."""
        return [name for name in self._arrays if name.startswith(prefix)]

    def tensor(self, name: str, shape: tuple[int, ...], kind: str = "normal") -> Tensor:
        """The input of that name: standard normal, or another `kind`."""
        return torch.from_numpy(self._tensor(self.seed, name, shape, kind))

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """The state dict, or the part whose names begin with `prefix`, without it."""
        arrays = self._state(self.seed, {name: shape for name, shape in self.shapes.items() if name.startswith(prefix)})
        return {name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items()}


def assert_close(actual: ArrayLike | Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal but for `tolerance` times the largest magnitude that is expected."""
    values = np.asarray(actual)
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=0.0, atol=tolerance * float(np.abs(expected).max()))


def frames_of(shared: Path, sequence: str, numbers: np.ndarray) -> list[ImageRGB]:
    """Frames of a sequence of DAVIS."""
    folder = shared / "data/DAVIS/JPEGImages/480p" / sequence
    return [np.ascontiguousarray(cv2.imread(str(folder / f"{number:05d}.jpg"))[..., ::-1]) for number in numbers]


def decoded_as(fixtures: Fixtures, prefix: str, frames: list[ImageRGB]) -> bool:
    """Whether the pictures were decoded to the same pixels as where the fixtures were made."""
    return [zlib.crc32(frame.tobytes()) for frame in frames] == fixtures[f"{prefix}_frame_crc32"].tolist()
