"""A GPU that is not there: tensors that say they lie on it, and behave as such, on a machine without one.

`pretend_gpu()` makes `"cuda"` (or `"mps"`) a device for as long as it is open, in this thread and those that are started meanwhile. A
tensor "on" it holds an ordinary one, on which PyTorch's CPU operators do the work. It checks what goes wrong most often in code that was
written where there was no GPU:

- an operator that is given tensors of both places (numbers in tensors without dimensions may come from the CPU, as may indices);
- a tensor that is handed to NumPy without `.cpu()`;
- a generator of the CPU that is to fill a tensor on the device;
- operands of different types;
- float64 on `mps`, which has none;
- a page-locked buffer that is written to again before anything waited for the copy out of it;
- a tensor that is used in another stream than it was made in, before either waited;

and it counts how often the host waits for the device: `.cpu()`, `.item()`, `bool(...)`, operators whose result has a size that depends on
values, and copies to the device that are not both page-locked and `non_blocking`.

It cannot tell how fast anything is, how the device's own kernels round, what they lack, how much memory there is, or whether memory
that one stream frees is still read by another.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, NamedTuple, Self

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sftrack import channels

aten = torch.ops.aten

# Autograd asks the device's driver for a stream, so PyTorch itself must be told of a device that needs no driver: that of tensors
# without values. Only what asks a tensor where it is gets the pretended name.
BELOW = torch.device("meta")

WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
    aten._linalg_eigh.default,
    aten._linalg_svd.default,
}
"""Operators after which the host goes on only when the device has come so far (besides copies and masks as indices)."""

JOINING = {aten.cat.default, aten.stack.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnDevice(Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: Tensor
    gpu: "PretendGPU"
    made: "Moment"

    @staticmethod
    def __new__(cls: type[Self], held: Tensor, gpu: "PretendGPU") -> Self:
        wrapper: Self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=BELOW
        )
        wrapper.held, wrapper.gpu, wrapper.made = held, gpu, gpu.now()
        return wrapper

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        with torch._C.DisableTorchFunctionSubclass():
            return _gpu_of(args, kwargs).function(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return _gpu_of(args, kwargs).operator(func, args, kwargs or {})


def _leaves(values: Any) -> Iterator[Any]:  # noqa: ANN401
    """What lies in nested sequences and mappings: arguments of operators nest so, and PyTorch's general way to do this takes longer."""
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, list | tuple):
        yield values
        return
    for value in values:
        yield from _leaves(value)


def _mapped(change: Callable[[Any], Any], values: Any) -> Any:  # noqa: ANN401
    """The same nest of changed leaves."""
    if isinstance(values, list | tuple):
        changed = [_mapped(change, value) for value in values]
        return type(values)(changed) if type(values) in (list, tuple) else tuple(changed)
    return change(values)


@cache
def _is_composed(func: Any) -> bool:  # noqa: ANN401
    """Whether an operator is nothing but calls of others."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), torch._C.DispatchKey.CompositeImplicitAutograd))


def _gpu_of(args: Any, kwargs: Any) -> "PretendGPU":  # noqa: ANN401
    return next(leaf.gpu for leaf in _leaves((args, kwargs or {})) if isinstance(leaf, OnDevice))


class Stream:
    """In place of `torch.cuda.Stream`; work in one stream is done in order, and knows of other streams only what it waited for."""

    gpu: "PretendGPU"

    def __init__(self, _device: object = None) -> None:
        self.device = self.gpu.device
        self.done = 0
        self.known: dict[Stream, int] = {}

    def wait_stream(self, other: "Stream") -> None:
        """What is queued from now on begins when all that is in the other stream now is done."""
        self.known[other] = self.gpu.clock


class Moment(NamedTuple):
    """When something was queued, and where."""

    stream: Stream
    time: int


class PretendGPU:
    """What the device does, and what it has seen.

    Attributes:
        waits: why the host waited, by how often.
        synchronisations: calls of `torch.cuda.synchronize`.
    """

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind, 0)
        self.waits: Counter[str] = Counter()
        self.synchronisations = 0
        self.clock = 0
        self.Stream = type("Stream", (Stream,), {"gpu": self})
        self._default, self._threads = self.Stream(), threading.local()
        self._pinned: list[Tensor] = []
        self._under_way: list[tuple[Tensor, Tensor]] = []
        self._replaced: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: lambda tensor: self.device if isinstance(tensor, OnDevice) else torch.device("cpu"),  # type: ignore[attr-defined]
            Tensor.is_cuda.__get__: lambda tensor: isinstance(tensor, OnDevice) and kind == "cuda",  # type: ignore[attr-defined]
            Tensor.is_mps.__get__: lambda tensor: isinstance(tensor, OnDevice) and kind == "mps",  # type: ignore[attr-defined]
            Tensor.is_cpu.__get__: lambda tensor: not isinstance(tensor, OnDevice),  # type: ignore[attr-defined]
            Tensor.is_meta.__get__: lambda _tensor: False,  # type: ignore[attr-defined]
            Tensor.cuda: lambda tensor, _device=None, non_blocking=False: tensor.to(BELOW, non_blocking=non_blocking),
            Tensor.pin_memory: self._pin,
            Tensor.is_pinned: lambda tensor: not isinstance(tensor, OnDevice) and self._is_pinned(tensor),
            torch.tensor: self._tensor,
            torch.as_tensor: self._tensor,
            Tensor.new_tensor: lambda tensor, values, **how: self._tensor(
                values, **({"dtype": tensor.dtype, "device": BELOW if isinstance(tensor, OnDevice) else None} | how)
            ),
        }
        self._overridden: dict[Any, Callable[..., Any]] = {Tensor.numpy: self._refuse_numpy, Tensor.__array__: self._refuse_numpy}
        self._overridden[Tensor.__deepcopy__] = lambda tensor, _memo: tensor.detach().clone()
        self._overridden[Tensor.tolist] = lambda tensor: tensor.cpu().tolist()

    def wait(self, reason: str) -> None:
        """The host waits until the device has done all that is in this thread's stream."""
        self.waits[reason] += 1
        self.stream.done = self.clock
        self.check_buffers()

    def check_buffers(self) -> None:
        """Raise where a buffer was changed since a copy out of it began, and forget all copies, which are done now."""
        copies, self._under_way = self._under_way, []
        if not all(torch.equal(source, copied) for source, copied in copies):
            raise RuntimeError("a page-locked buffer was written to while the copy from it to the device could still be under way")

    @property
    def stream(self) -> Stream:
        """This thread's."""
        return getattr(self._threads, "stream", self._default)

    def current_stream(self, _device: object = None) -> Stream:
        """In place of `torch.cuda.current_stream`."""
        return self.stream

    @contextmanager
    def in_stream(self, stream: Stream | None) -> Iterator[None]:
        """In place of `torch.cuda.stream`."""
        before = self.stream
        self._threads.stream = stream or before
        try:
            yield
        finally:
            self._threads.stream = before

    def now(self) -> Moment:
        """One more thing is queued."""
        self.clock += 1
        return Moment(self.stream, self.clock)

    def _check_order(self, tensor: OnDevice) -> None:
        """Raise where a tensor may not be there yet."""
        stream, time = tensor.made
        if stream is not self.stream and time > max(stream.done, self.stream.known.get(stream, 0)):
            raise RuntimeError("a tensor is used in another stream than it was made in, and neither waited for it")

    def synchronize(self, _device: object = None) -> None:
        """In place of `torch.cuda.synchronize`; only for a device on which nothing else runs meanwhile."""
        self.synchronisations += 1
        self._default.done = self.stream.done = self.clock
        self.check_buffers()

    def function(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """A function of PyTorch or a method or attribute of a tensor, as it is called from Python."""
        if getattr(func, "__name__", "") == "__get__":  # by far the most calls
            return self._replaced.get(func, func)(*args)
        args, kwargs = _mapped(self._below, tuple(args)), {name: self._below(value, name) for name, value in kwargs.items()}
        if func is Tensor.to and len(args) > 1:
            args = (args[0], self._below(args[1], "device"), *args[2:])
        if func in self._replaced:
            return self._replaced[func](*args, **kwargs)
        if func in self._overridden and isinstance(args[0], OnDevice):
            return self._overridden[func](*args, **kwargs)
        return func(*args, **kwargs)

    def operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """An operator, below autograd."""
        if _is_composed(func):
            with _Operators(self):  # in inference mode nothing has taken it apart yet
                return func.decompose(*args, **kwargs)
        kwargs = dict(kwargs)
        given = list(_leaves((args, kwargs)))
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        for tensor in ours:
            self._check_order(tensor)
        device = kwargs.get("device")
        stays = bool(ours) if device is None else device == BELOW
        if kwargs.pop("pin_memory", None):
            return self._pin(func(*args, **kwargs))
        if not (ours or stays):
            return func(*args, **kwargs)
        if any(isinstance(leaf, torch.Generator) and leaf.device.type == "cpu" for leaf in given) and stays:
            raise RuntimeError(f"Expected a '{self.device.type}' device type for generator but found 'cpu'")
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[-1] if func is aten.copy_.default and len(args) == 2 else args[1 if func is aten.copy_.default else 0]
            self._copied(
                source, stays if func is aten._to_copy.default else isinstance(args[0], OnDevice), bool(self._flag(func, args, kwargs))
            )
        else:
            self._check_places(func, args, tensors, bool(ours))
            if func in WAITING:
                self.wait(str(func))
        return self._run(func, args, kwargs, stays=stays if func is not aten.copy_.default else isinstance(args[0], OnDevice))

    @staticmethod
    def _flag(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:  # noqa: ANN401
        return kwargs.get("non_blocking", args[2] if func is aten.copy_.default and len(args) > 2 else False)

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any], *, stays: bool) -> Any:  # noqa: ANN401
        if kwargs.get("device") == BELOW:
            kwargs["device"] = torch.device("cpu")
        wrappers = {id(leaf.held): leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, OnDevice)}

        def held(leaf: Any) -> Any:  # noqa: ANN401
            return leaf.held if isinstance(leaf, OnDevice) else leaf

        results = func(*_mapped(held, tuple(args)), **{name: _mapped(held, value) for name, value in kwargs.items()})

        def wrapped(result: Any) -> Any:  # noqa: ANN401
            if not isinstance(result, Tensor):
                return result
            if id(result) in wrappers:  # in place
                wrapper = wrappers[id(result)]
                if wrapper.shape != result.shape or wrapper.stride() != result.stride():
                    raise NotImplementedError(f"{func} changes the shape of a tensor in place, which is not pretended")
                wrapper.made = self.now()
                return wrapper
            return self._placed(result) if stays else result

        return _mapped(wrapped, results)

    def _placed(self, tensor: Tensor) -> OnDevice:
        if self.device.type == "mps" and tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        with torch.inference_mode(False):  # autograd wants to count the changes of views of parameters, even where none are recorded
            return OnDevice(tensor, self)

    def _check_places(self, func: Any, args: Sequence[Any], tensors: Sequence[Tensor], has_ours: bool) -> None:  # noqa: ANN401
        others = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
        if func in INDEXING and isinstance(args[0], OnDevice):
            indices = [index for index in args[1] if index is not None]
            for index in indices:
                if index.dtype in (torch.bool, torch.uint8):
                    self.wait(f"{func} with a mask")
                elif not isinstance(index, OnDevice):
                    self.wait(f"{func} with indices from the CPU")
            others = [tensor for tensor in others if not any(tensor is index for index in indices)]
        if has_ours and any(tensor.dim() or func in JOINING for tensor in others):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {self.device} and cpu! (in {func})"
            )

    def _copied(self, source: Tensor, arrives: bool, non_blocking: bool) -> None:
        if isinstance(source, OnDevice):
            if not arrives:
                self.wait("copy to the CPU")
        elif arrives and source.dim():
            if non_blocking and self._is_pinned(source):
                self._under_way.append((source, source.clone()))
            else:
                self.wait("copy to the device")

    def _below(self, value: Any, name: str = "") -> Any:  # noqa: ANN401
        """The pretended device by the name that PyTorch gets to see; everything else as it is."""
        if isinstance(value, torch.device) or (name == "device" and isinstance(value, str)):
            return BELOW if torch.device(value).type == self.device.type else value
        return value

    def _tensor(self, values: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:  # noqa: ANN401
        tensor = torch.as_tensor(values, dtype=dtype)
        return tensor if device is None else tensor.to(device)

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned.append(tensor.clone(memory_format=torch.preserve_format))
        return self._pinned[-1]

    def _is_pinned(self, tensor: Tensor) -> bool:
        return any(tensor.data_ptr() == pinned.data_ptr() for pinned in self._pinned)

    def _refuse_numpy(self, *_args: object, **_kwargs: object) -> None:
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )


class _Functions(TorchFunctionMode):
    def __init__(self, gpu: PretendGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return self._gpu.function(func, args, kwargs or {})


class _Operators(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # which would import the compiler, for seconds

    def __init__(self, gpu: PretendGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return self._gpu.operator(func, args, kwargs or {})


@contextmanager
def pretend_gpu(kind: str = "cuda") -> Iterator[PretendGPU]:
    """See the module. `kind`: `cuda` or `mps`."""
    gpu = PretendGPU(kind)
    plain_run = threading.Thread.run

    @contextmanager
    def pretending() -> Iterator[None]:
        with ExitStack() as modes:
            modes.enter_context(_Functions(gpu))
            modes.enter_context(_Operators(gpu))
            yield

    def run(thread: threading.Thread) -> None:
        with pretending():
            plain_run(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "run", run)
        # A parameter that several modules share stays one when they are moved, as on a real device.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        patch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
        patch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        patch.setattr(torch.cuda, "device_count", lambda: int(kind == "cuda"))
        patch.setattr(torch.cuda, "synchronize", gpu.synchronize)
        patch.setattr(torch.cuda, "device", lambda _device: nullcontext())  # there is one
        patch.setattr(torch.cuda, "Stream", gpu.Stream)
        patch.setattr(torch.cuda, "stream", gpu.in_stream)
        patch.setattr(torch.cuda, "current_stream", gpu.current_stream)
        patch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
        patch.setattr(channels, "_stream_of", cache(channels._stream_of.__wrapped__))  # whose memory must not outlast the device
        with pretending():
            yield gpu
    gpu.check_buffers()
