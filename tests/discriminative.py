"""The numeric fixtures of the trackers with online learning, and how whole tracks of ATOM and DiMP are compared with them."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sftrack.contracts import ImageRGB, Tracker
from sftrack.trackers.discriminative import procedure
from sftrack.trackers.discriminative.augmentation import Augmentation
from sftrack.trackers.discriminative.localisation import Localisation, localise
from sftrack.trackers.discriminative.patches import Patch, sample_patch
from sftrack.trackers.discriminative.refinement import Refinement
from tests.parity import deterministic

TRACES: dict[str, dict[str, Any]] = {"plain": {"use_augmentation": False}, "aug": {"random_shift_factor": 0.0, "dropouts": 0}}
"""The tracks of the fixtures, and what is left of the first frame's views in them: nothing that is random."""


class Fixtures:
    """Those of one tracker (`atom18`, `prdimp18`) in a folder `shared`; `fixtures[name]` is an array."""

    def __init__(self, shared: Path, tracker: str) -> None:
        folder = shared / "parity"
        with np.load(folder / f"{tracker}.npz") as stored:
            self._arrays = dict(stored)
        self.shapes: dict[str, list[int]] = json.loads((folder / f"{tracker}_state.json").read_text())
        self.seed = int(self["seed"])
        module = deterministic(shared)
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


def trace(fixtures: Fixtures, shared: Path, kind: str) -> tuple[list[ImageRGB], dict[str, Any]]:
    """Frames of a track and what the original made of them; skips where pictures are not decoded to the same pixels."""
    prefix = f"trace_{kind}_"
    frames = frames_of(shared, str(fixtures[f"{prefix}sequence"]), fixtures[f"{prefix}frame_numbers"])
    if not decoded_as(fixtures, f"trace_{kind}", frames):
        pytest.skip("this machine decodes JPEG to other pixels")
    return frames, {name.removeprefix(prefix): fixtures[name] for name in fixtures.names(prefix)}


@dataclass
class Record:
    """What went in and out of the stages while a tracker ran."""

    scores: list[np.ndarray] = field(default_factory=list)
    found: list[Localisation] = field(default_factory=list)
    rough: list[np.ndarray] = field(default_factory=list)
    refined: list[np.ndarray] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    views: list[Tensor] = field(default_factory=list)

    def attach(self, monkeypatch: pytest.MonkeyPatch, tracker: ModuleType) -> None:
        """Watch the stages of the tracker in a module."""

        def localising(*args: Any) -> Localisation:  # noqa: ANN401
            self.scores.append(args[0])
            self.found.append(localise(*args))
            return self.found[-1]

        def refining(*args: Any, original: Any = Refinement.refine) -> Any:  # noqa: ANN401
            box, best = original(*args)
            self.rough.append(args[3])
            self.refined.append(box)
            self.best.append(best)
            return box, best

        def sampling(*args: Any, **kwargs: Any) -> Patch:  # noqa: ANN401
            self.patches.append(sample_patch(*args, **kwargs))
            return self.patches[-1]

        def viewing(*args: Any, original: Any = Augmentation.samples) -> Any:  # noqa: ANN401
            views, shifts = original(*args)
            self.views.append(views)
            return views, shifts

        monkeypatch.setattr(tracker, "localise", localising)
        monkeypatch.setattr(procedure, "sample_patch", sampling)
        monkeypatch.setattr(Refinement, "refine", refining)
        monkeypatch.setattr(Augmentation, "samples", viewing)

    def check(self, expected: dict[str, Any], kind: str) -> None:
        """Compare all but the scores, which mean something else in each tracker."""
        np.testing.assert_array_equal([found.flag for found in self.found], expected["flags"])
        np.testing.assert_allclose([found.translation for found in self.found], expected["translation_yx"], atol=0.05)
        np.testing.assert_allclose(self.rough, expected["refine_input_box"], atol=0.05)
        np.testing.assert_allclose(self.refined, expected["refine_output_box"], atol=0.05)
        np.testing.assert_allclose(self.best, expected["refine_iou"], rtol=1e-3)
        [views], crop = self.views, self.patches[1].image_rgb
        np.testing.assert_allclose(views[:, :, ::12, ::12], expected["crop_init_sub_f32"], atol=0.01)
        np.testing.assert_allclose(crop[:, :, ::8, ::8], expected["crop_frame1_sub_f32"], atol=0.01)
        if kind == "plain":
            for pixels, stored in ((views[0], "crop_init_u8"), (crop[0], "crop_frame1_u8")):
                np.testing.assert_allclose(pixels.permute(1, 2, 0).round(), expected[stored], atol=1)


def check_boxes(tracker: Tracker, frames: list[ImageRGB], expected: np.ndarray) -> None:
    """Start on the first frame and follow the target over the others, within 0.05 pixel."""
    tracker.init(frames[0], expected[0])
    np.testing.assert_allclose([tracker.update(frame).box_xywh for frame in frames[1:]], expected[1:], atol=0.05)
