"""The networks' files: what is wrong with a bad one is said, and the bundled ones fit their networks and their limit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sftrack.combine import CombineNet
from sftrack.errors import WeightsError
from sftrack.feat2seg_net import Feat2Seg
from sftrack.seg2box import Seg2Box
from sftrack.weights.bundled import bundled_path, fill, load_network, parameter_count, read_tensors, save_network

BUNDLED: dict[str, type[nn.Module]] = {"feat2seg": Feat2Seg, "combine": CombineNet, "seg2box": Seg2Box}


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_a_saved_network_comes_back_up_to_half_precision(tmp_path: Path) -> None:
    saved, path = small(), tmp_path / "small.safetensors"
    saved[1](torch.rand(2, 4, 6, 6))
    save_network(saved, path, {"seed": "1"})
    loaded = load_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)), path)
    assert not loaded.training
    for name, tensor in saved.state_dict().items():
        restored = loaded.state_dict()[name]
        assert restored.dtype == tensor.dtype
        torch.testing.assert_close(restored, tensor, atol=1e-3, rtol=1e-3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors', found none; install the package again or train it"):
        load_network(small(), tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"not weights at all", None], ids=["empty", "text", "cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.safetensors"
    save_network(small(), path, {})
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(WeightsError, match=r"bad\.safetensors' is damaged"):
        read_tensors(path)


def test_a_missing_tensor_is_named_with_the_nearest_one() -> None:
    tensors = dict(small().state_dict())
    tensors["2.wieght"] = tensors.pop("2.weight")
    with pytest.raises(WeightsError, match=r"lacks '2\.weight', nearest is '2\.wieght' \(1 missing, 1 unexpected\)"):
        fill(small(), tensors, "there")


def test_a_tensor_that_is_unlike_the_missing_one_is_named_too() -> None:
    tensors = dict(small().state_dict())
    tensors["something.else"] = tensors.pop("2.weight")
    with pytest.raises(WeightsError, match=r"lacks '2\.weight' \(1 missing, 1 unexpected: 'something\.else'\)"):
        fill(small(), tensors, "there")


def test_an_unexpected_tensor_is_named_with_the_nearest_one() -> None:
    with pytest.raises(WeightsError, match=r"unknown tensor '2\.bias2', nearest is '2\.bias' \(0 missing, 1 unexpected\)"):
        fill(small(), {**small().state_dict(), "2.bias2": torch.zeros(2)}, "there")


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    with pytest.raises(WeightsError, match=r"expected '2\.weight' of shape \(2, 4\), got \(2, 5\) in there;"):
        fill(small(), {**small().state_dict(), "2.weight": torch.zeros(2, 5)}, "there")


def test_a_refused_file_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network, path = small(), tmp_path / "other.safetensors"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_file({**{name: torch.zeros_like(tensor) for name, tensor in before.items()}, "more": torch.zeros(1)}, path)
    with pytest.raises(WeightsError):
        load_network(network, path)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_anybody_may_read_a_saved_file(tmp_path: Path) -> None:
    """A package installed by the administrator is used by others."""
    path = tmp_path / "small.safetensors"
    save_network(small(), path, {})
    assert path.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_weights_fit_their_network_and_are_finite(name: str) -> None:
    network = load_network(BUNDLED[name](), bundled_path(name))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
    assert parameter_count(network) > 0


def test_the_three_bundled_files_have_at_most_3_000_000_bytes_together() -> None:
    assert sum(bundled_path(name).stat().st_size for name in BUNDLED) <= 3_000_000
