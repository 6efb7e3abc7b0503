"""From `create(..., weights=...)` to a network that holds exactly those weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sftrack.errors import WeightsError
from sftrack.weights import registry
from sftrack.weights.bundled import fill
from sftrack.weights.checkpoints import Checkpoint, is_counter, read_checkpoint, state_dict_of

Weights = str | Path | Mapping[str, Tensor] | None
"""A safetensors or PyTorch file, a state dict, or None for the registry's file."""


def load_checkpoint(source: Weights, name: str) -> Checkpoint:
    """The tensors by official name, float32, on the CPU, and constants that are stored beside them; never runs code from a file.

    Args:
        source: a safetensors or PyTorch file, a state dict (bare or wrapped), or None for the registry's file.
        name: of the weights in the registry (`weights/weights.toml`); only used where `source` is None and in messages.

    Raises:
        MissingWeightsError: `source` is None, and the file was not fetched yet; the message says how.
        WeightsError: the file is missing, empty, cut short or no checkpoint, or a value is not finite.
    """
    if source == "":
        raise WeightsError(f"expected a weights file for {name}, got an empty path; leave it out for the published weights")
    if isinstance(source, Mapping):
        origin = f"the state dict given for {name}"
        checkpoint = Checkpoint(state_dict_of(source, origin), origin)
    else:
        read = read_checkpoint(registry.locate(name) if source is None else Path(source))
        checkpoint = replace(read, origin=f"{read.origin} (for {name})")
    odd = next((key for key, tensor in checkpoint.tensors.items() if not torch.isfinite(tensor).all()), None)
    if odd is not None:
        remedy = "; fetch them again" if source is None else ""
        raise WeightsError(f"expected finite weights, {checkpoint.origin} holds NaN or infinity in '{odd}'{remedy}")
    return checkpoint


def load_into(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Fill a network with the tensors of a checkpoint that has exactly its names and shapes, and put it in eval mode.

    Batch norm's `num_batches_tracked` may be missing on either side: old files lack it and no prediction needs it.

    Raises:
        WeightsError: missing, unexpected or differently shaped tensors (the first are named, with the nearest match and the counts; where
            the names are those of another network of the registry, that is said).
    """
    own = network.state_dict()
    given = {key: tensor for key, tensor in checkpoint.tensors.items() if key in own or not is_counter(key)}
    given |= {key: tensor for key, tensor in own.items() if is_counter(key) and key not in given}
    try:
        fill(network, given, checkpoint.origin)
    except WeightsError as error:
        others = registry.recognise(checkpoint.tensors)
        hint = f"; these are weights of {' or '.join(others)}" if others else ""
        raise WeightsError(f"{error}{hint}") from error
    network.eval()
