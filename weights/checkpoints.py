"""Read the tensors of a checkpoint that somebody else wrote, without running anything that is in it.

A checkpoint is a safetensors file, or what `torch.save` wrote: a zip archive, or before PyTorch 1.6 a row of pickles. A pickle is a
program: it names functions and calls them. PyTorch's own unpickler (`weights_only=True`) knows only what tensors need and refuses the
rest, and published training states hold more than tensors: objects of a training program that is not installed, NumPy numbers. Every name
that the unpickler does not know is therefore bound to an inert class for the length of the load, so that nothing which the file names is
looked up, imported or called. (Functions of `os`, `posix`, `nt` and `sys` PyTorch refuses even so.)
"""

import hashlib
import json
import pickle
import pickletools
import threading
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sftrack.errors import WeightsError

WRAPPERS = ("state_dict", "net", "model")
"""Keys under which training programs keep the state dict (PySOT and its kin, PyTracking, others)."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_PICKLES = 4  # magic number, protocol, system, object; the keys and bytes of the storages follow
_standing_in = threading.Lock()  # PyTorch's list of allowed names is the process's


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds that is of use.

    Attributes:
        tensors: by official name; floating-point ones as float32, on the CPU.
        constructor: keyword arguments with which PyTracking's checkpoints say their network is built; empty for others.
    """

    tensors: dict[str, Tensor]
    constructor: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a safetensors or PyTorch file; wrapper dictionaries and `module.` prefixes are taken off.

    Raises:
        WeightsError: the file is missing, empty, cut short, no checkpoint, or needs more than tensors to be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"expected a weights file at '{path}', cannot read it ({error.strerror})") from error
    if not head:
        raise WeightsError(f"expected weights, '{path}' is empty; fetch it again")
    if head[8:9] == b"{" and not head.startswith((_ZIP, _PICKLE)):
        return _read_safetensors(path)
    if not head.startswith((_ZIP, _PICKLE)):
        raise WeightsError(f"expected weights (safetensors or PyTorch), '{path}' {_what_it_is(head)}")
    loaded = _read_torch(path, zipped=head.startswith(_ZIP))
    return Checkpoint(state_dict_of(loaded, str(path)), _constructor_of(loaded))


def state_dict_of(loaded: object, origin: str) -> dict[str, Tensor]:
    """The tensors by name out of a loaded checkpoint: bare, or in one of the `WRAPPERS`; without the prefix `module.` of parallel training.

    Raises:
        WeightsError: there is no mapping of names to tensors in it.
    """
    state = loaded
    while isinstance(state, Mapping) and (inner := next((key for key in WRAPPERS if isinstance(state.get(key), Mapping)), None)):
        state = state[inner]
    if not isinstance(state, Mapping) or not state:
        kind = "an empty mapping" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise WeightsError(f"expected a mapping of names to tensors, '{origin}' holds {kind}; give the file with the network's state dict")
    odd = next((name for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)), None)
    if odd is not None:
        raise WeightsError(
            f"expected a mapping of names to tensors, or one under {', '.join(WRAPPERS)}, '{origin}' holds '{odd}' "
            f"({type(state[odd]).__name__}) among {len(state)} entries; give the file with the network's state dict"
        )
    return {name.removeprefix("module."): _plain(tensor) for name, tensor in state.items()}


def structure_of(tensors: Mapping[str, Tensor]) -> str:
    """A short digest of names and shapes, equal for all weights of one network, with or without batch norm's counters."""
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items() if not is_counter(name))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def is_counter(name: str) -> bool:
    """Whether this is batch norm's count of training steps, which no prediction needs."""
    return name.endswith("num_batches_tracked")


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"expected a safetensors file, '{path}' is cut short or damaged ({error}); fetch it again") from error
    try:
        constructor = json.loads(metadata.get("constructor", "{}"))
    except json.JSONDecodeError as error:
        raise WeightsError(f"expected JSON in the metadata 'constructor' of '{path}': {error}") from error
    return Checkpoint(state_dict_of(tensors, str(path)), constructor)


def _read_torch(path: Path, *, zipped: bool) -> object:
    damaged = f"expected a PyTorch checkpoint, '{path}' is cut short or damaged"
    try:
        allowed: list[Any] = [(_stand_in(name), name) for name in sorted(_names_in(path, zipped=zipped))]
        with _standing_in, torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which pickle protocol it is in changes nothing for the user
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].strip().splitlines()[0]
        raise WeightsError(f"expected a checkpoint of tensors, '{path}' asks for more, and nothing of it was run: {reason}") from error
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(f"{damaged} ({error}); fetch it again") from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError, OSError, OverflowError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{damaged} ({first}); fetch it again") from error


def _names_in(path: Path, *, zipped: bool) -> set[str]:
    """Every `module.name` that the pickled objects name, found without unpickling."""
    with path.open("rb") as file:
        if not zipped:
            return set(_names_of_pickles(file, _LEGACY_PICKLES))
        with zipfile.ZipFile(file) as archive:
            pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if not pickled:
                raise KeyError("it has no data.pkl")
            with archive.open(pickled[0]) as stream:
                return set(_names_of_pickles(stream, 1))


def _names_of_pickles(file: IO[bytes], count: int) -> Iterator[str]:
    for _ in range(count):
        for operation, argument, _place in pickletools.genops(file):
            if operation.name == "GLOBAL" and isinstance(argument, str):
                module, name = argument.split(" ", 1)
                if (module, name) in NAME_MAPPING:  # Python 2's names, which torch.save writes for the standard library
                    module, name = NAME_MAPPING[module, name]
                yield f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _stand_in(name: str) -> Any:  # noqa: ANN401
    """A class that takes any arguments and any state and does nothing with them but keep plain attributes."""
    if name == "collections.defaultdict":
        return _empty_dict  # its entries follow, and PyTorch's unpickler puts entries only into dictionaries

    def accept(cls: type, *_args: object, **_kwargs: object) -> object:
        return object.__new__(cls)

    def keep(self: object, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update({key: value for key, value in state.items() if isinstance(key, str)})

    return type("StandIn", (), {"__new__": accept, "__setstate__": keep, "__doc__": f"Inert, for {name}."})


def _empty_dict(_factory: object = None) -> dict[Any, Any]:
    return {}


def _constructor_of(loaded: object) -> dict[str, Any]:
    constructor = loaded.get("constructor") if isinstance(loaded, Mapping) else None
    keywords = getattr(constructor, "kwds", None)
    return {key: value for key, value in keywords.items() if _is_json(value)} if isinstance(keywords, dict) else {}


def _is_json(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _what_it_is(head: bytes) -> str:
    text = head.decode("utf-8", "replace").strip()
    if text[:9].lower() == "<!doctype" or text[:5].lower() == "<html":
        title = text.lower().find("<title>")
        named = f" ('{_first_words(text[title + 7 :].split('<')[0])}')" if title >= 0 else ""
        return (
            f"is a web page{named}: the server did not give the file itself (Google Drive: quota used up, or it wants a click); "
            "download it in a browser, then `sftrack weights add FILE`"
        )
    if "\0" not in text and "�" not in text[:-1]:  # the last character may be cut
        return f"is a text that begins with '{_first_words(text)}'; fetch it again"
    return "is something else; fetch it again"


def _first_words(text: str) -> str:
    return " ".join(text.split())[:60]


__all__ = ["WRAPPERS", "Checkpoint", "is_counter", "read_checkpoint", "state_dict_of", "structure_of"]
