"""The small networks that come with the package: read, check, save. Files are safetensors, so reading one never runs code."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sftrack.errors import WeightsError, nearest

Network = TypeVar("Network", bound=nn.Module)


def bundled_path(name: str) -> Path:
    """Where the package keeps the weights of one of its own networks (`feat2seg`, `combine`, `seg2box`)."""
    return Path(__file__).resolve().parent / f"{name}.safetensors"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, as float32 where they are floating-point.

    Raises:
        WeightsError: missing or damaged file.
    """
    if not path.is_file():
        raise WeightsError(f"expected a weights file at '{path}', found none; install the package again or train it (docs/training.md)")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"expected a safetensors file, '{path}' is damaged ({error}); install the package again") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def load_network(network: Network, path: Path) -> Network:
    """Fill a network from a file whose names and shapes are exactly its own; the network is returned in eval mode."""
    fill(network, read_tensors(path), f"'{path}'")
    return network.eval()


def fill(network: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors into a network.

    Args:
        origin: where they are from, as messages call it.

    Raises:
        WeightsError: a missing, unexpected or differently shaped tensor; the message names the first ones and the nearest match.
    """
    wanted = network.state_dict()
    missing, unexpected = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unexpected:
        names = missing or unexpected
        meant = nearest(names[0], unexpected if missing else wanted)
        hint = f", nearest is '{meant}'" if meant else ""
        what = "lacks" if missing else f"has the unknown tensor{'s' if len(names) > 1 else ''}"
        others = f": {_first(unexpected)}" if missing and unexpected and unexpected != [meant] else ""
        raise WeightsError(
            f"expected the {len(wanted)} tensors of {type(network).__name__}, {origin} {what} {_first(names)}{hint} "
            f"({len(missing)} missing, {len(unexpected)} unexpected{others}); use weights made for this network"
        )
    differing = [name for name in wanted if tensors[name].shape != wanted[name].shape]
    if differing:
        shapes = f"expected '{differing[0]}' of shape {tuple(wanted[differing[0]].shape)}, got {tuple(tensors[differing[0]].shape)}"
        more = f" (and {len(differing) - 1} more: {_first(differing[1:])})" if len(differing) > 1 else ""
        raise WeightsError(f"{shapes} in {origin}{more}; use weights made for this network")
    network.load_state_dict(dict(tensors))


def _first(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def save_network(network: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a network in half precision (half the size; the difference is far below what training left to chance)."""
    state = network.state_dict()
    halved = {name: tensor.half().contiguous() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(halved, path, metadata=dict(metadata))
    path.chmod(0o644)  # safetensors keeps it to the owner, and a package is for everybody


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


__all__ = ["bundled_path", "fill", "load_network", "parameter_count", "read_tensors", "save_network"]
