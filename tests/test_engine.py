"""Engines: same numbers from both, choice between them, and what they do with inputs and outputs of several kinds."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftrack import engine
from sftrack.engine import Engine, OnnxEngine, TorchEngine, fastest_engine


class Sample(nn.Module):
    """Takes an image and a vector, gives a map, a number of another shape and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.conv(image.permute(2, 0, 1)[None].to(self.conv.weight.dtype)) * factor.reshape(1, -1, 1, 1)
        return maps, maps.mean((2, 3)), maps.flatten(1).argmax(1)


class Sorting(nn.Module):
    """Uses what ONNX has no operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


IMAGE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
FACTOR = np.array([1.0, 2.0, -1.0, 0.5], np.float32)
EXAMPLES = [torch.zeros(12, 10, 3, dtype=torch.uint8), torch.zeros(4)]


@pytest.fixture(params=["pytorch", "onnxruntime"])
def made(request: pytest.FixtureRequest) -> Engine:
    return TorchEngine(Sample()) if request.param == "pytorch" else OnnxEngine(Sample(), EXAMPLES)


def test_arrays_in_arrays_out(made: Engine) -> None:
    with torch.inference_mode():
        expected = Sample()(torch.from_numpy(IMAGE), torch.from_numpy(FACTOR))
    outputs = made.run(IMAGE, FACTOR)
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == wanted.numpy().dtype
        np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)


def test_views_of_larger_arrays_are_taken(made: Engine) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    view = frame[5:17, 7:17]
    for one, other in zip(made.run(view, FACTOR), made.run(view.copy(), FACTOR), strict=True):
        np.testing.assert_array_equal(one, other)


def test_later_runs_do_not_change_what_was_handed_out(made: Engine) -> None:
    first = made.run(IMAGE, FACTOR)[0]
    kept = first.copy()
    made.run(IMAGE[::-1], FACTOR)
    np.testing.assert_array_equal(first, kept)


def test_kept_outputs_go_into_either_engine(made: Engine) -> None:
    class Factor(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2.0

    kept = TorchEngine(Factor()).keep(FACTOR / 2)
    for one, other in zip(made.run(IMAGE, *kept), made.run(IMAGE, FACTOR), strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision_comes_back_as_float32() -> None:
    maps, means, places = TorchEngine(Sample(), dtype=torch.float16).run(IMAGE, FACTOR.astype(np.float16))
    assert maps.dtype == means.dtype == np.float32
    assert places.dtype == np.int64


def test_what_onnx_cannot_express_is_left_to_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = fastest_engine(Sorting(), [torch.eye(3)])
    assert isinstance(made, TorchEngine)
    assert "onnxruntime cannot run Sorting, PyTorch does (slower)" in caplog.text
    np.testing.assert_allclose(made.run(np.eye(3, dtype=np.float32))[0], 1.0)


@pytest.mark.parametrize(("dtype", "installed"), [(torch.float16, True), (torch.float32, False)], ids=["half precision", "not installed"])
def test_pytorch_runs_what_onnxruntime_does_not(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, installed: bool) -> None:
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: installed)
    assert isinstance(fastest_engine(Sample(), EXAMPLES, dtype=dtype), TorchEngine)


def test_onnxruntime_is_preferred_where_it_is_there() -> None:
    assert engine.has_onnxruntime()
    assert isinstance(fastest_engine(Sample(), EXAMPLES), OnnxEngine)
