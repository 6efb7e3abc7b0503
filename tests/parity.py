"""The numeric fixtures under shared/parity: reproducible weights and inputs, and what the original implementations made of them."""

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


class Parity:
    """One fixture file with its `meta`, and the generator of its weights and inputs."""

    def __init__(self, shared: Path, network: str) -> None:
        self._folder = shared / "parity"
        self._network = network
        with np.load(self._folder / f"{network}.npz") as stored:
            self.arrays = {name: stored[name] for name in stored.files}
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta")))
        self._frames = shared / "data/DAVIS/JPEGImages/480p" / self.meta["sequence"]
        self._generator = deterministic(shared)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.arrays if name.startswith(prefix)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of the official state dict, in its order."""
        return {name: tuple(shape) for name, shape in json.loads((self._folder / f"{self._network}_state.json").read_text()).items()}

    def input(self, name: str, shape: tuple[int, ...], kind: str = "normal") -> Tensor:
        return torch.from_numpy(self._generator.tensor(self.meta["seed"], name, shape, kind))

    def state(self) -> dict[str, Tensor]:
        """The raw state: random weights of the official names and shapes."""
        return {name: torch.from_numpy(value) for name, value in self._generator.state(self.meta["seed"], self.shapes()).items()}

    def frame_bgr(self, number: int) -> np.ndarray:
        return np.asarray(cv2.imread(str(self._frames / f"{number:05d}.jpg")))

    def check(self, name: str, full: Tensor | np.ndarray, tolerance: float = 1e-4) -> None:
        """Compare a complete array with what is stored of it: itself, a sub-sample, or its mean, deviation, minimum and maximum.

        `tolerance` is a share of the stored array's standard deviation.
        """
        values = np.asarray(full, dtype=np.float64)
        found = [stored for stored in self.arrays if stored == name or stored.startswith(f"{name}__")]
        assert found, f"no fixture {name}"
        # The deviation of the complete array: a sub-sample of a sparse map may be almost all zeros.
        scale = self.arrays[f"{name}__stat"][1] if f"{name}__stat" in self.arrays else self.arrays[name].astype(np.float64).std()
        for stored in found:
            expected = self.arrays[stored].astype(np.float64)
            if stored.endswith("__stat"):
                actual = np.array([values.mean(), values.std(), values.min(), values.max()])
            else:
                sample = re.fullmatch(r".*__c(\d+)s(\d+)", stored)
                actual = values[:, :: int(sample[1]), :: int(sample[2]), :: int(sample[2])] if sample else values
            assert actual.shape == expected.shape, stored
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=stored)


def captured(network: torch.nn.Module, names: list[str]) -> tuple[dict[str, Tensor], list[Any]]:
    """What the named parts of a network give when it runs next, and the hooks, to be removed after that."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:  # noqa: ANN401 (a hook)
        return lambda _module, _inputs, output: seen.__setitem__(name, output.clone())

    parts: Mapping[str, torch.nn.Module] = dict(network.named_modules())
    return seen, [parts[name].register_forward_hook(keep(name)) for name in names]


def deterministic(shared: Path) -> ModuleType:
    """The generator of weights and inputs."""
    path = shared / "parity/deterministic.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
