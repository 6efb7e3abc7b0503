"""Checkpoints that others wrote: every form they come in is read, bad ones are named in one line, and none of them can run anything."""

import argparse
import collections
import configparser
import datetime
import fractions
import functools
import io
import json
import os
import pickle
import pickletools
import re
import subprocess
import sys
import tarfile
import types
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from sftrack.errors import WeightsError
from sftrack.trackers.checkpoints import load_checkpoint, load_into
from sftrack.weights import registry
from sftrack.weights.checkpoints import read_checkpoint, structure_of
from sftrack.weights.pickles import MOST_NAMES, survey

FORMS = {"zip": True, "legacy": False}


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def state() -> dict[str, Tensor]:
    return dict(small().state_dict())


def save(content: object, path: Path, form: str = "zip", **options: int) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=FORMS[form], **options)
    return path


def assert_same(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(given) == list(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(given[name], tensor, rtol=0, atol=0)


class EasyDict(dict[str, Any]):
    """As the package of this name: entries are attributes as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.__dict__.update(self)


WRAPPED: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "bare": lambda tensors: tensors,
    "state_dict": lambda tensors: {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": np.float64(0.1)}},
    "net": lambda tensors: {"net": tensors, "net_type": "X"},
    "model": lambda tensors: {"model": tensors},
    "nested": lambda tensors: {"model": {"state_dict": tensors}},
    "module.": lambda tensors: {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
    "parameters": lambda tensors: {name: nn.Parameter(x) if x.is_floating_point() else x for name, x in tensors.items()},
    "ordered": lambda tensors: collections.OrderedDict(tensors),
    "subclass": lambda tensors: EasyDict(net=EasyDict(tensors)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_a_state_dict_is_found_in_every_usual_wrapping(tmp_path: Path, wrapper: str, form: str) -> None:
    tensors = read_checkpoint(save(WRAPPED[wrapper](state()), tmp_path / "net.pth", form)).tensors
    assert_same(tensors, state())
    assert not any(tensor.requires_grad for tensor in tensors.values())


@pytest.mark.parametrize("wrapper", [name for name in WRAPPED if name != "state_dict"])
def test_a_mapping_given_instead_of_a_file_is_unwrapped_alike(wrapper: str) -> None:
    assert_same(load_checkpoint(WRAPPED[wrapper](state()), "net").tensors, state())  # type: ignore[arg-type]


def test_safetensors_and_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state().items()}
    save_file(halved, tmp_path / "net.safetensors")
    tensors = load_checkpoint(tmp_path / "net.safetensors", "net").tensors
    assert tensors["0.weight"].dtype == torch.float32
    assert tensors["1.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(tensors["0.weight"], state()["0.weight"], atol=1e-3, rtol=1e-3)


@pytest.fixture
def foreign() -> Iterator[types.SimpleNamespace]:
    """Classes of a training program; gone from this process when `remove` was called."""
    names = ("ltr", "ltr.admin", "ltr.admin.model_constructor")
    module = types.ModuleType(names[-1])

    class NetConstructor:
        def __init__(self, *args: object, **kwds: object) -> None:
            self.fun_name, self.fun_module, self.args, self.kwds = "klcedimpnet18", "ltr.models.tracking.dimpnet", args, kwds

    class Slotted:
        __slots__ = ("value",)

    for cls in (NetConstructor, Slotted):
        cls.__module__, cls.__qualname__ = names[-1], cls.__name__
        setattr(module, cls.__name__, cls)
    for name in names:
        sys.modules[name] = module

    def remove() -> None:
        for name in names:
            sys.modules.pop(name, None)

    yield types.SimpleNamespace(NetConstructor=NetConstructor, Slotted=Slotted, remove=remove)
    remove()


@pytest.mark.parametrize("form", FORMS)
def test_objects_of_a_training_program_that_is_not_installed_are_passed_over(
    tmp_path: Path, foreign: types.SimpleNamespace, form: str
) -> None:
    slotted, stats = foreign.Slotted(), collections.defaultdict(list)
    slotted.value = 1
    stats["loss"] = [np.arange(3), np.float32(1.5), np.float64(2.5)]
    content = {
        "epoch": 50,
        "net": state(),
        "constructor": foreign.NetConstructor(filter_size=4, gauss_sigma=0.9, sizes=(1, 2), init=foreign.Slotted()),
        "stats": collections.OrderedDict(train=slotted, more=stats),
        "settings": foreign.NetConstructor(device=torch.device("cpu"), path=Path("x"), long=2**80, chosen={1, 2}, dtype=torch.float16),
    }
    save(content, tmp_path / "prdimp18.pth.tar", form)
    foreign.remove()
    with pytest.raises(Exception, match=r"ltr\.admin|Unsupported"):  # what makes the stand-ins necessary
        torch.load(tmp_path / "prdimp18.pth.tar", weights_only=True)
    checkpoint = read_checkpoint(tmp_path / "prdimp18.pth.tar")
    assert_same(checkpoint.tensors, state())
    assert checkpoint.constructor == {"filter_size": 4, "gauss_sigma": 0.9, "sizes": (1, 2)}
    assert "ltr" not in sys.modules


class TensorList(list[Any]):
    """As in PyTracking."""


class Opaque:
    """Keeps the others."""

    def __init__(self, **held: object) -> None:
        self.__dict__.update(held)


def config_parser() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_dict({"train": {"lr": "0.1"}})
    return parser


BESIDE: dict[str, object] = {
    "dict": EasyDict(lr=0.1, more=EasyDict(steps=TensorList([1, 2]))),
    "empty dict": [EasyDict(), EasyDict(a=1)],
    "list": TensorList([torch.zeros(2), TensorList([1]), EasyDict(a=2)]),
    "long list": TensorList(range(2500)),
    "deque": collections.deque([1, 2], maxlen=3),
    "counter": collections.Counter("aab"),
    "defaultdict": collections.defaultdict(list, loss=[np.arange(3), np.float32(1.5)]),
    "nested": Opaque(a=EasyDict(x=1), b=TensorList([Opaque(c=collections.deque([Opaque()]))])),
    "shared": [(kept := EasyDict(a=1)), kept, Opaque(kept=kept)],
    "config": config_parser(),
    "errors": [ValueError("x"), OSError(1, "x"), KeyError()],
    "arguments": argparse.Namespace(lr=0.1, config=EasyDict(a=1)),
    "times": [datetime.datetime(2020, 1, 1), datetime.timedelta(1), fractions.Fraction(1, 3), uuid.UUID(int=3)],
    "functions": [Opaque, len, functools.partial(max, 1), np.float32],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", BESIDE)
def test_what_training_programs_keep_beside_the_weights_does_no_harm(tmp_path: Path, what: str, form: str) -> None:
    content = {"a": BESIDE[what], "net": state(), "z": BESIDE[what]}
    assert_same(read_checkpoint(save(content, tmp_path / "net.pth", form)).tensors, state())


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


CALLS: dict[str, Callable[[str], Call]] = {
    "os.mkdir": lambda mark: Call(os.mkdir, mark),
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "subprocess": lambda mark: Call(subprocess.call, ["touch", mark]),
    "exec": lambda mark: Call(exec, f"open({mark!r}, 'w').close()"),
    "eval": lambda mark: Call(eval, f"open({mark!r}, 'w').close()"),
    "open": lambda mark: Call(open, mark, "w"),
    "torch.save": lambda mark: Call(torch.save, {}, mark),
    "pickle.loads": lambda mark: Call(pickle.loads, pickle.dumps(Call(os.mkdir, mark))),
}

PLACES: dict[str, Callable[[Call], object]] = {
    "beside": lambda call: {"state_dict": state(), "optimizer": call},
    "before": lambda call: {"a": call, "net": state()},
    "inside": lambda call: {**state(), "0.weight": call},
    "instead": lambda call: call,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_that_a_malicious_checkpoint_calls_is_called(tmp_path: Path, name: str, place: str, form: str) -> None:
    mark = tmp_path / "was_here"
    path = save(PLACES[place](CALLS[name](str(mark))), tmp_path / "net.pth", form)
    tensors, refusal = read_or_refuse(path)
    assert not mark.exists()
    assert refusal or tensors.keys() == state().keys()
    assert name not in ("os.mkdir", "os.system") or re.search(r"names (posix|nt)\.\w+, which no tensor needs", refusal)
    torch.load(path, weights_only=False)  # as its author wants
    assert mark.exists(), "the payload does nothing anyway"


def read_or_refuse(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, or in what words they are refused; no other error."""
    try:
        return read_checkpoint(path).tensors, ""
    except WeightsError as error:
        refusal = str(error)
    assert_in_our_words(refusal)
    return {}, refusal


def assert_in_our_words(message: str) -> None:
    """In one line, and without PyTorch's advice to load the file by running what is in it."""
    assert "\n" not in message
    assert not any(advice in message for advice in ("weights_only", "add_safe_globals", "torch.load")), message


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("form", FORMS)
def test_no_pickle_protocol_gets_a_call_through(tmp_path: Path, form: str, protocol: int) -> None:
    mark = tmp_path / "was_here"
    content = {"state_dict": state(), "optimizer": Call(os.mkdir, str(mark))}
    tensors, refusal = read_or_refuse(save(content, tmp_path / "net.pth", form, pickle_protocol=protocol))
    assert not tensors
    assert re.search(r"nothing of it was run|cut short or damaged|is something else", refusal)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_in_a_newer_pickle_protocol_is_named_as_such(tmp_path: Path, form: str, protocol: int) -> None:
    said = f"pickle protocol {protocol}, and PyTorch's safe reader knows protocol 2; save it again without pickle_protocol"
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(save(state(), tmp_path / "net.pth", form, pickle_protocol=protocol))


def test_a_refusal_leaves_no_trace_of_pytorchs_advice(tmp_path: Path) -> None:
    """Not even where the whole traceback is printed."""
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(save(CALLS["os.system"]("x"), tmp_path / "net.pth"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "net.pt"))
    _, refusal = read_or_refuse(tmp_path / "net.pt")
    assert "net.pt' is a TorchScript program; save its state_dict()" in refusal


def test_a_tar_archive_is_refused(tmp_path: Path) -> None:
    """PyTorch's first format; reading one extracts files."""
    with tarfile.open(tmp_path / "net.pth.tar", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(WeightsError, match=r"expected weights .*net\.pth\.tar'"):
        read_checkpoint(tmp_path / "net.pth.tar")


def test_a_tar_archive_that_begins_like_a_pickle_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "net.pth.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("\x80\x02N." * 4), io.BytesIO())
    tensors, refusal = read_or_refuse(tmp_path / "net.pth.tar")
    assert not tensors
    assert "is a tar archive" in refusal


def test_the_allowed_names_are_forgotten_after_a_load(tmp_path: Path, foreign: types.SimpleNamespace) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(save({"net": state(), "constructor": foreign.NetConstructor()}, tmp_path / "net.pth"))
    assert set(torch.serialization.get_safe_globals()) == before


def test_one_name_may_not_take_over_a_real_class(tmp_path: Path) -> None:
    """A stand-in is bound to a name only for what PyTorch itself does not know."""
    tensors = read_checkpoint(save({"net": collections.OrderedDict(state()), "size": torch.Size([1])}, tmp_path / "net.pth")).tensors
    assert all(type(tensor) is Tensor for tensor in tensors.values())


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def write_zip_without_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


QUOTA_PAGE = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Too many users</body></html>"""
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot read it (No such file"),
    "folder": (lambda path: path.mkdir(), "cannot read it (Is a directory"),
    "empty": (lambda path: path.touch(), "is empty; fetch it again"),
    "quota page": (lambda path: path.write_bytes(QUOTA_PAGE), "is a web page ('Google Drive - Quota exceeded')"),
    "web page without title": (lambda path: path.write_bytes(b"\n  <HTML>"), "is a web page: "),
    "text": (lambda path: path.write_text("Not Found\nat all é"), "is a text that begins with 'Not Found at all é'"),
    "picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\xff"), "is something else"),
    "zip": (write_zip_without_pickle, "has no data.pkl"),
    "list": (lambda path: save([1, 2], path), "holds a list"),
    "tensor": (lambda path: save(torch.zeros(3), path), "holds a Tensor"),
    "empty mapping": (lambda path: save({}, path), "holds an empty mapping"),
    "numbers": (lambda path: save({"epoch": 3, "lr": 0.1}, path), "holds 'epoch' (int) among 2 entries"),
    "whole network": (lambda path: save(small(), path), "holds a Sequential; give the file with the network's state dict"),
    "zip cut early": (lambda path: cut(save(state(), path), 0.3), "cut short or damaged"),
    "zip cut late": (lambda path: cut(save(state(), path), 0.99), "cut short or damaged"),
    "legacy cut early": (lambda path: cut(save(state(), path, "legacy"), 0.3), "cut short or damaged"),
    "legacy cut late": (lambda path: cut(save(state(), path, "legacy"), 0.99), "cut short or damaged"),
    "safetensors cut": (lambda path: (save_file(state(), path), cut(path, 0.9)), "cut short or damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    make, said = BAD[kind]
    make(path := tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert any(part in message for part in said.split("|")), message
    assert "net.pth" in message
    assert_in_our_words(message)


def circular() -> dict[str, object]:
    holds_itself: dict[str, object] = {}
    holds_itself["net"] = holds_itself
    return holds_itself


def shared_lists(depth: int) -> list[object]:
    lists: list[object] = []
    for _ in range(depth):
        lists = [lists, lists]
    return lists


def doubled(depth: int) -> tuple[object, ...]:
    tuples: tuple[object, ...] = ()
    for _ in range(depth):
        tuples = (tuples, tuples)
    return tuples


def deflate(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a mapping that holds itself": (lambda path: save(circular(), path), "among 1 entries"),
    "a key that is longer than a line": (lambda path: save({doubled(16): torch.zeros(1)}, path), "a key that is a tuple"),
    "strides of 0": (lambda path: save({"w": torch.zeros(1).half().expand(1 << 32)}, path), "'w' that repeats what is stored"),
    "deflated storages": (lambda path: (save({"w": torch.zeros(1 << 20)}, path), deflate(path)), "larger than the file"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_small_file_that_would_take_all_time_or_memory_is_refused(tmp_path: Path, kind: str) -> None:
    make, said = HOSTILE[kind]
    make(path := tmp_path / "net.pth")
    assert path.stat().st_size < 10_000
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(path)


def test_constants_that_share_lists_without_end_are_left_out(tmp_path: Path, foreign: types.SimpleNamespace) -> None:
    constructor = foreign.NetConstructor(filter_size=4, endless=shared_lists(60))
    path = save({"net": state(), "constructor": constructor}, tmp_path / "net.pth")
    foreign.remove()
    assert read_checkpoint(path).constructor == {"filter_size": 4}


def test_a_pickle_that_names_thousands_of_classes_is_refused() -> None:
    names = b"".join(b"cmodule\nname%d\n0" % number for number in range(MOST_NAMES + 1))
    with pytest.raises(ValueError, match="more than 1000 classes and functions"):
        survey(io.BytesIO(b"\x80\x02" + names + b"N."))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from(["zip", "legacy", "safetensors"]))
def test_a_file_damaged_anywhere_is_read_or_refused_with_an_error_of_ours(tmp_path: Path, data: st.DataObject, form: str) -> None:
    path = tmp_path / "net.pth"
    if form == "safetensors":
        save_file(state(), path)
    else:
        save({"state_dict": state(), "optimizer": {"lr": np.float64(0.1)}}, path, form)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), "place")
    change = data.draw(st.sampled_from(["cut", "flip", "drop"]), "change")
    if change == "cut":
        del content[place:]
    elif change == "drop":
        del content[place]
    else:
        content[place] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(content)
    tensors, refusal = read_or_refuse(path)
    assert tensors or refusal


def fill(network: nn.Module, source: dict[str, Tensor] | Path, name: str) -> None:
    load_into(network, load_checkpoint(source, name))


INSTRUCTIONS = [instruction.code.encode("latin-1") for instruction in pickletools.opcodes]
OPERANDS = [
    b"ccollections\nOrderedDict\n",
    b"cos\nmkdir\n",
    b"ceasydict\nEasyDict\n",
    b"cany\\nthing\nx\n",
    b"X\x01\0\0\0a",
    b"q\1",
    b"h\1",
]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    program=st.lists(st.sampled_from(INSTRUCTIONS) | st.sampled_from(OPERANDS) | st.binary(max_size=3), max_size=40),
    form=st.sampled_from(list(FORMS)),
)
def test_any_pickle_program_is_read_or_refused_with_an_error_of_ours(tmp_path: Path, program: list[bytes], form: str) -> None:
    path, pickled = tmp_path / "net.pth", b"\x80\x02" + b"".join(program) + b"."
    if form == "legacy":
        head = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
        path.write_bytes(b"".join(pickle.dumps(value, 2) for value in head) + pickled)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", pickled)
            archive.writestr("net/version", "3\n")
    tensors, refusal = read_or_refuse(path)
    assert tensors or refusal


def test_a_pickle_that_unpacks_to_more_than_its_file_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + b"N" * 10_000_000 + b".")
    _, refusal = read_or_refuse(tmp_path / "net.pth")
    assert "its parts would be larger than the file" in refusal


def test_attributes_from_the_file_do_not_get_between_a_mapping_and_its_items(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return collections.OrderedDict, (), {"items": 1, "keys": 1, "get": 1}, None, iter(state().items())

    tensors, refusal = read_or_refuse(save({"net": Hostile(), "constructor": Hostile()}, tmp_path / "net.pth"))
    assert tensors or refusal


def test_a_network_is_filled_and_put_in_eval_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    fill(network, state(), "small")
    assert_same(dict(network.state_dict()), state())
    assert not network.training


def test_batch_norms_counters_may_be_missing_or_left_over_but_nothing_else() -> None:
    without = {name: tensor for name, tensor in state().items() if not name.endswith("num_batches_tracked")}
    fill(small(), without, "old")
    fill(small(), {**state(), "9.num_batches_tracked": torch.tensor(1)}, "new")
    del without["1.running_mean"]
    with pytest.raises(WeightsError, match=r"the state dict given for old lacks '1\.running_mean' \(1 missing, 0 unexpected\)"):
        fill(small(), without, "old")


def test_missing_and_unexpected_tensors_are_listed_with_counts_and_the_nearest() -> None:
    renamed = {name.replace("1.", "bn."): tensor for name, tensor in state().items()}
    said = r"lacks '1\.bias', '1\.running_mean', '1\.running_var', \.\.\., nearest is 'bn\.bias' \(4 missing, 4 unexpected: 'bn\.bias', "
    with pytest.raises(WeightsError, match=said):
        fill(small(), renamed, "renamed")


def test_wrong_shapes_are_listed_with_their_count() -> None:
    said = r"expected '2\.weight' of shape \(2, 4\), got \(3, 4\) in the state dict given for wide \(and 1 more: '2\.bias'\)"
    with pytest.raises(WeightsError, match=said):
        fill(small(), {**state(), "2.weight": torch.zeros(3, 4), "2.bias": torch.zeros(3)}, "wide")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(WeightsError, match=r"the state dict given for broken holds NaN or infinity in '2\.bias'$"):
        fill(small(), {**state(), "2.bias": torch.tensor([0.0, value])}, "broken")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"2.bias": torch.zeros(3)}, r"got \(3,\) in '{path}' \(for small\); "),
        ({"3.bias": torch.zeros(2)}, r"'{path}' \(for small\) has the unknown tensor '3\.bias'"),
        ({"2.bias": torch.tensor([0.0, torch.nan])}, r"'{path}' \(for small\) holds NaN or infinity in '2\.bias'$"),
    ],
)
def test_of_a_file_that_was_given_the_file_is_named(tmp_path: Path, change: dict[str, Tensor], said: str) -> None:
    path = save({**state(), **change}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=said.format(path=path)):
        fill(small(), path, "small")


def test_only_registered_weights_are_to_be_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({**state(), "2.bias": torch.tensor([0.0, torch.nan])}, tmp_path / "published.pth")
    monkeypatch.setattr(registry, "locate", lambda _name: path)
    with pytest.raises(WeightsError, match=r"published\.pth' \(for small\) holds NaN or infinity in '2\.bias'; fetch them again"):
        load_checkpoint(None, "small")


def test_an_empty_path_is_no_folder() -> None:
    with pytest.raises(WeightsError, match="expected a weights file for small, got an empty path"):
        load_checkpoint("", "small")


STRANGE: dict[str, Callable[[], Tensor]] = {
    r"without values \(on the device meta\)": lambda: torch.zeros(2, device="meta"),
    r"in the layout torch\.sparse_coo": lambda: torch.zeros(2).to_sparse(),
    "of complex numbers": lambda: torch.zeros(2, dtype=torch.complex64),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
}


@pytest.mark.filterwarnings(r"ignore:torch\.quantize_per_tensor")
@pytest.mark.parametrize("kind", STRANGE)
def test_a_tensor_that_is_no_array_of_real_numbers_is_refused(tmp_path: Path, kind: str) -> None:
    strange = {**state(), "2.bias": STRANGE[kind]()}
    for source in (strange, save(strange, tmp_path / "net.pth")):
        with pytest.raises(WeightsError, match=f"holds '2\\.bias' {kind}; give the weights as plain tensors"):
            load_checkpoint(source, "small")


def test_weights_of_another_registered_network_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.WeightsFile("siamese-x", "x.pth", "free", "somewhere", structure=structure_of(state()))
    monkeypatch.setattr(registry, "entries", lambda: {"siamese-x": entry})
    with pytest.raises(WeightsError, match="these are weights of siamese-x"):
        fill(nn.Linear(3, 3), state(), "other")


def test_structure_does_not_depend_on_order_values_or_counters() -> None:
    reordered = dict(reversed([(name, tensor + 1) for name, tensor in state().items() if "num_batches" not in name]))
    assert structure_of(reordered) == structure_of(state())
    assert structure_of({**state(), "2.bias": torch.zeros(3)}) != structure_of(state())


@pytest.mark.parametrize(("version", "names"), [("v2", "nanotrack_v2"), ("v3", "nanotrack")])
def test_real_nanotrack_weights_load_with_exactly_the_specified_tensors(shared: Path, version: str, names: str) -> None:
    path = shared / "weights" / "nanotrack" / f"nanotrack{version}.pth"
    with pytest.raises(pickle.UnpicklingError, match="numpy"):  # their optimizer's state holds NumPy numbers
        torch.load(path, map_location="cpu", weights_only=True)
    wanted = json.loads((shared / "parity" / f"{names}_state.json").read_text())
    tensors = load_checkpoint(path, f"nanotrack-{version}").tensors
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == wanted
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
