"""Take over files that the user has: write one as safetensors, or put one among the registered ones."""

import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from sftrack.errors import WeightsError

from . import registry
from .checkpoints import read_checkpoint
from .fetch import check
from .registry import WeightsFile


def convert(path: Path, out: Path | None = None) -> Path:
    """Write a checkpoint's tensors as safetensors: same names, nothing that could run, and of which file they are in the metadata.

    Args:
        out: the file to write; default: beside the original, with the suffix `.safetensors`.

    Raises:
        WeightsError: the checkpoint cannot be read, or `out` exists or cannot be written.
    """
    checkpoint = read_checkpoint(path)
    target = out if out is not None else path.with_name(registry.converted_name(path.name))
    if target.exists():
        raise WeightsError(f"expected a new file to write, '{target}' exists; remove it or give another one with --out")
    names = registry.recognise(checkpoint.tensors)
    metadata = {
        "source": path.name,
        "source_sha256": registry.sha256_of(path),
        "network": " or ".join(names) or "unknown",
        "constructor": json.dumps(checkpoint.constructor),
    }
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        # several names may share one piece of memory, which safetensors does not store
        save_file({name: tensor.contiguous().clone() for name, tensor in checkpoint.tensors.items()}, partial, metadata)
        partial.chmod(0o644)
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write '{target}' ({error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def add(path: Path, name: str | None = None) -> tuple[WeightsFile, Path]:
    """Copy a file that was downloaded by hand to where `locate` finds it, and accept its hash.

    Args:
        name: of the weights; default: recognised by the file's hash, its name, or the names and shapes of its tensors.

    Raises:
        ConfigError: unknown name.
        WeightsError: no checkpoint, not the weights of that name, or not recognised.
    """
    checkpoint = read_checkpoint(path)
    entry = registry.find(name) if name is not None else _recognised(path, registry.recognise(checkpoint.tensors))
    check(entry, path)
    target = registry.folder() / (entry.converted if path.suffix == ".safetensors" else entry.file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(path)):
            partial = target.with_name(f"{target.name}.new")
            shutil.copyfile(path, partial)
            partial.replace(target)
        registry.accept(target)
    except OSError as error:
        raise WeightsError(f"cannot write '{target}' ({error.strerror}); {registry.FOLDER_VARIABLE} names another folder") from error
    registry.verify(entry, target)
    return entry, target


def _recognised(path: Path, by_structure: tuple[str, ...]) -> WeightsFile:
    digest = registry.sha256_of(path)
    entries = registry.entries().values()
    for entry in entries:
        if entry.sha256 == digest or path.name in (entry.file, entry.converted):
            return entry
    if len(by_structure) == 1:
        return registry.find(by_structure[0])
    fitting = f"its tensors are those of {' or '.join(by_structure)}" if by_structure else "neither its name nor its tensors are registered"
    known = ", ".join(by_structure) or ", ".join(entry.name for entry in entries)
    raise WeightsError(f"cannot tell which weights '{path}' holds ({fitting}); say so with --name, one of {known}")


__all__ = ["add", "convert"]
