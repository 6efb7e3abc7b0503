"""Read the tensors of a checkpoint that somebody else wrote, without running anything that is in it.

A checkpoint is a safetensors file, or what `torch.save` wrote: a zip archive, or before PyTorch 1.6 a row of pickles. A pickle is a
program: it names functions and calls them. PyTorch's own unpickler (`weights_only=True`) knows only what tensors need and refuses the
rest, and published training states hold more than tensors: objects of a training program that is not installed, NumPy numbers. Every name
that the unpickler does not know is therefore bound to an inert class for the length of the load, so that nothing which the file names is
looked up, imported or called. (Functions of `os`, `posix`, `nt` and `sys` PyTorch refuses even so.) Which names those are `pickles` finds
out beforehand; what it overlooks PyTorch refuses.
"""

import collections
import hashlib
import json
import pickle
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sftrack.errors import WeightsError

from .pickles import Survey, survey

WRAPPERS = ("state_dict", "net", "model")
"""Keys under which training programs keep the state dict (PySOT and its kin, PyTracking, others)."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_PICKLES = 4  # magic number, protocol, system, object; the keys and bytes of the storages follow
_PROTOCOL = 2  # of pickles, which torch.save writes and the weights-only unpickler reads
_SMALL_BYTES = 1 << 20
_SYSTEM_MODULES = ("nt", "os", "posix", "sys")  # which PyTorch refuses whoever allows them
_standing_in = threading.Lock()  # PyTorch's list of allowed names is the process's


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds that is of use.

    Attributes:
        tensors: by official name; floating-point ones as float32, on the CPU.
        origin: where they are from, as messages call it.
        constructor: keyword arguments with which PyTracking's checkpoints say their network is built; empty for others.
    """

    tensors: dict[str, Tensor]
    origin: str
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
    return _read_torch(path, zipped=head.startswith(_ZIP))


def state_dict_of(loaded: object, origin: str) -> dict[str, Tensor]:
    """The tensors by name out of a loaded checkpoint: bare, or in one of the `WRAPPERS`; without the prefix `module.` of parallel training.

    Args:
        origin: where it is from, as messages call it.

    Raises:
        WeightsError: there is no mapping of names to tensors in it, or one of them is no array of real numbers.
    """
    state = loaded
    for _ in WRAPPERS:  # each at most once: a hostile file may hold a mapping that holds itself
        if isinstance(state, Mapping):
            state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not state:
        kind = "an empty mapping" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise WeightsError(f"expected a mapping of names to tensors, {origin} holds {kind}; give the file with the network's state dict")
    odd = next((name for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)), None)
    if odd is not None:
        shown = f"'{_first_words(odd)}'" if isinstance(odd, str) else f"a key that is a {type(odd).__name__}"
        raise WeightsError(
            f"expected a mapping of names to tensors, or one under {', '.join(WRAPPERS)}, {origin} holds {shown} "
            f"({type(state[odd]).__name__}) among {len(state)} entries; give the file with the network's state dict"
        )
    return {name.removeprefix("module."): _plain(tensor, f"{origin} holds '{name}'") for name, tensor in state.items()}


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
    origin = f"'{path}'"
    return Checkpoint(state_dict_of(tensors, origin), origin, constructor)


def _read_torch(path: Path, *, zipped: bool) -> Checkpoint:
    origin = f"'{path}'"
    try:
        loaded = _load(path, zipped=zipped)
        return Checkpoint(state_dict_of(loaded, origin), origin, _constructor_of(loaded))
    except WeightsError:
        raise
    except Exception as error:  # nobody lists what the bytes of a damaged or hostile file make zipfile, pickletools and PyTorch raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"expected a PyTorch checkpoint, '{path}' is cut short or damaged ({first}); fetch it again") from error


def _load(path: Path, *, zipped: bool) -> object:
    found = _survey(path, zipped=zipped)
    allowed: list[Any] = [(_stand_in(name, filled_as), name) for name, filled_as in found.names.items()]
    try:
        with _standing_in, torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which pickle protocol it is in changes nothing for the user
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its text is not passed on: it advises to load the file by running what is in it
        raise WeightsError(f"expected a checkpoint of tensors, '{path}' {_why_refused(found)} (nothing of it was run)") from None


def _survey(path: Path, *, zipped: bool) -> Survey:
    """What the pickled objects of a checkpoint name."""
    with path.open("rb") as file:
        if not zipped:
            if tarfile.is_tarfile(file):
                raise WeightsError(f"expected a checkpoint of tensors, '{path}' is a tar archive; save it again with a newer PyTorch")
            return survey(file, _LEGACY_PICKLES)
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise WeightsError(
                    f"expected a checkpoint of tensors, '{path}' is a TorchScript program; save its state_dict() (nothing of it was run)"
                )
            pickled = next((member for member in archive.infolist() if member.filename.endswith("/data.pkl")), None)
            if pickled is None:
                raise ValueError("it has no data.pkl")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:  # PyTorch does not compress
                raise ValueError("its parts would be larger than the file")
            with archive.open(pickled) as stream:
                return survey(stream)


def _why_refused(found: Survey) -> str:
    of_system = next((name for name in found.names if name.partition(".")[0] in _SYSTEM_MODULES), None)
    if of_system is not None:
        return f"names {of_system:.60}, which no tensor needs"
    if found.protocol != _PROTOCOL:
        return (
            f"is written with pickle protocol {found.protocol}, and PyTorch's safe reader knows protocol {_PROTOCOL}; "
            "save it again without pickle_protocol"
        )
    return "holds objects that are put together in a way which PyTorch's safe reader does not know; save the network's state_dict() alone"


def _stand_in(name: str, filled_as: type | None) -> Any:  # noqa: ANN401
    """What is bound to a name: a class that takes any arguments and any state and does nothing with them but keep plain attributes.

    PyTorch's unpickler puts items only into its own dictionaries and lists. What is filled is therefore one of these, and of dictionaries
    the one that may have attributes as well.
    """

    def accept(cls: type, *_args: object, **_kwargs: object) -> object:
        return collections.OrderedDict() if filled_as is dict else [] if filled_as is list else object.__new__(cls)

    def keep(self: object, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update({key: value for key, value in state.items() if isinstance(key, str)})

    return type(name.rpartition(".")[2], (), {"__new__": accept, "__setstate__": keep, "__doc__": f"Inert, for {name}."})


def _constructor_of(loaded: object) -> dict[str, Any]:
    constructor = loaded.get("constructor") if isinstance(loaded, Mapping) else None
    keywords = getattr(constructor, "kwds", None)
    return {key: value for key, value in keywords.items() if _is_plain(value)} if isinstance(keywords, dict) else {}


def _is_plain(value: object) -> bool:
    """A number, a text, nothing, or a row of these, as constructors take them and JSON knows them."""
    row = value if isinstance(value, (list, tuple)) else [value]
    return all(item is None or isinstance(item, (bool, int, float, str)) for item in row)


def _plain(tensor: Tensor, found: str) -> Tensor:
    kinds = {
        "without values (on the device meta)": tensor.is_meta,
        f"in the layout {tensor.layout}": tensor.layout is not torch.strided,
        "quantized": tensor.is_quantized,
        "of complex numbers": tensor.is_complex(),
        "that repeats what is stored": _is_inflated(tensor),
    }
    kind = next((kind for kind, is_so in kinds.items() if is_so), None)
    if kind is not None:
        raise WeightsError(f"expected tensors of real numbers, {found} {kind}; give the weights as plain tensors")
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _is_inflated(tensor: Tensor) -> bool:
    """Whether its strides make more of a few stored numbers than fits into memory unasked."""
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), _SMALL_BYTES)


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
