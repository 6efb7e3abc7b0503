"""How a network is run: by PyTorch anywhere, or by onnxruntime, which needs a third of the time for small networks on a CPU.

Both take arrays and give arrays. onnxruntime runs what PyTorch exports from the module itself when the engine is made (0.3 s for NanoTrack,
3 s for ResNet-50), so any weights work, with no second file to keep in step. The exporter is the one by TorchScript: its successor needs
8 s for NanoTrack and another package for the same graph, which is no faster.
"""

import importlib.util
import io
import logging
import threading
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from sftrack.weights.bundled import parameter_count

log = logging.getLogger(__name__)

Array = NDArray[Any]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a network may compute in, by name."""

LARGE = 5_000_000
"""Parameters of a network above which several threads are worth their trouble."""

KEPT_SIZES = 4
"""For how many sizes of its input a network is kept exported; the one that was not needed for longest goes, and is exported again when it
is."""

OPSET = 17
"""Version of the ONNX operators; onnxruntime knows it since 1.12."""


_EXPORTING = threading.Lock()
"""PyTorch's exporter fails where another thread exports at the same time."""

Network = TypeVar("Network", bound=nn.Module)


def fold(network: Network) -> Network:
    """Merge every batch norm into the convolution or linear layer defined right before it, in place; for a network in eval mode."""
    before: nn.Module = network
    before_name = ""
    for name, part in list(network.named_children()):
        if isinstance(part, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(network, before_name, fuse_conv_bn_eval(before, part))
            setattr(network, name, nn.Identity())
        elif isinstance(part, nn.BatchNorm1d) and isinstance(before, nn.Linear):
            setattr(network, before_name, fuse_linear_bn_eval(before, part))
            setattr(network, name, nn.Identity())
        else:
            fold(part)
        before, before_name = part, name
    return network


class Engine(Protocol):
    """Runs one network."""

    def run(self, *inputs: Array | Tensor) -> list[Array]:
        """All inputs of the module's `forward` to all its outputs, floating-point ones as float32; tensors come from `keep`."""
        ...

    def keep(self, *inputs: Array | Tensor) -> Sequence[Array | Tensor]:
        """As `run`, but the outputs stay where the network runs and in its precision, to be given to later runs."""
        ...


class TorchEngine:
    """A module in PyTorch, on any device. It is moved there and belongs to the engine from then on."""

    def __init__(self, network: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self._network = network.eval().to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = torch.device(device)

    @torch.inference_mode()
    def keep(self, *inputs: Array | Tensor) -> list[Tensor]:
        """See `Engine`: tensors on the device."""
        outputs = self._network(*(on_device(value, self._device) for value in inputs))
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    @torch.inference_mode()
    def run(self, *inputs: Array | Tensor) -> list[Array]:
        """See `Engine`. The host waits for a GPU once."""
        outputs = [output.float() if output.is_floating_point() else output for output in self.keep(*inputs)]
        if self._device.type == "cpu":
            return [output.numpy() for output in outputs]
        joined = torch.cat([output.flatten() for output in outputs]).cpu()
        parts = torch.split(joined, [output.numel() for output in outputs])
        return [part.reshape(output.shape).to(output.dtype).numpy() for part, output in zip(parts, outputs, strict=True)]


def on_device(values: Array | Tensor, device: torch.device) -> Tensor:
    """Values on a device, in their type. The host does not wait for a GPU: the copy starts from page-locked memory.

    PyTorch keeps that memory for later, but does not hand it out again while a copy from it is under way.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class OnnxEngine:
    """A module exported to onnxruntime, on the CPU.

    Its threads do not wait in busy loops, which gains little where they have the cores to themselves and harms much where they do not.
    """

    def __init__(self, network: nn.Module, examples: Sequence[Tensor], threads: int = 1, free_axis: int | None = None) -> None:
        """Export a module.

        Args:
            network: the module.
            examples: inputs of the shapes and types that `run` will get, on the CPU.
            threads: how many share the work of one run.
            free_axis: of all inputs, which may be of another length than the examples'.

        Raises:
            Exception: of PyTorch's exporter or of onnxruntime, where one of them does not know an operator.
        """
        import onnxruntime

        names = [f"input{place}" for place in range(len(examples))]
        graph: Any = io.BytesIO()  # which this exporter takes, though the annotation of the joint function asks for a path
        inputs = tuple(example.clone() for example in examples)  # what was made in inference mode cannot be traced
        free = None if free_axis is None else {name: {free_axis: "free"} for name in names}
        with _EXPORTING, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that it is the older exporter, and that shapes are constants: both are meant
            torch.onnx.export(network.eval(), inputs, graph, input_names=names, dynamic_axes=free, opset_version=OPSET, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(graph.getvalue(), options, providers=["CPUExecutionProvider"])
        used = {given.name for given in self._session.get_inputs()}
        self._places = {name: place for place, name in enumerate(names) if name in used}  # the others change no output

    def run(self, *inputs: Array | Tensor) -> list[Array]:
        """See `Engine`."""
        arrays = [value.numpy() if isinstance(value, Tensor) else np.ascontiguousarray(value) for value in inputs]
        outputs: list[Array] = self._session.run(None, {name: arrays[place] for name, place in self._places.items()})
        return outputs

    def keep(self, *inputs: Array | Tensor) -> list[Array]:
        """See `Engine`: the same as `run`, on a CPU."""
        return self.run(*inputs)


def has_onnxruntime() -> bool:
    """Whether onnxruntime is installed, and onnx, through which PyTorch writes for it."""
    return importlib.util.find_spec("onnxruntime") is not None and importlib.util.find_spec("onnx") is not None


def fastest_engine(
    network: nn.Module,
    examples: Sequence[Tensor],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    free_axis: int | None = None,
) -> Engine:
    """onnxruntime for float32 on the CPU if it is installed and can run the network, else PyTorch; the module belongs to the engine.

    A small network runs on one thread, where more cost more than they bring, a `LARGE` one on as many as PyTorch would use. For
    `free_axis` see `OnnxEngine`.
    """
    if device == "cpu" and dtype == torch.float32 and has_onnxruntime():
        threads = torch.get_num_threads() if parameter_count(network) > LARGE else 1
        try:
            return OnnxEngine(network, examples, threads, free_axis)
        except Exception as error:  # the exporter's and onnxruntime's errors have no common base
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            log.warning("onnxruntime cannot run %s, PyTorch does (slower): %s", type(network).__name__, reason)
    return TorchEngine(network, device, dtype)
