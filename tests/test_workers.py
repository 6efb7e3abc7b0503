"""The threads for the networks: order, errors, one core each, and that they end; and that no others are woken beside them."""

import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from sftrack import SFTracker
from sftrack.combine import CombineNet, Combiner
from sftrack.engine import OnnxEngine
from sftrack.workers import TorchWorkers, limit_library_threads, pin_to_one_thread
from tests.targets import straight_clip

VIEWS = {
    "alias",
    "detach",
    "lift_fresh",
    "select",
    "slice",
    "view",
    "_unsafe_view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "t",
    "transpose",
    "permute",
}
"""Operations that compute nothing."""


def later(seconds: float, result: int) -> int:
    time.sleep(seconds)
    return result


def fail(seconds: float, message: str) -> int:
    time.sleep(seconds)
    raise ValueError(message)


def test_results_come_in_the_order_of_the_jobs() -> None:
    workers = TorchWorkers(3, "test")
    assert workers.run([partial(later, 0.03 - 0.01 * number, number) for number in range(3)]) == [0, 1, 2]
    assert workers.run([]) == []
    workers.close()


def test_the_first_jobs_error_is_raised_and_the_threads_go_on() -> None:
    workers = TorchWorkers(2, "test")
    with pytest.raises(ValueError, match="first"):
        workers.run([partial(later, 0.0, 1), partial(fail, 0.02, "first"), partial(fail, 0.0, "second")])
    assert workers.run([partial(later, 0.0, 7)]) == [7]
    workers.close()


def test_torch_uses_one_thread_in_each_and_as_many_as_before_outside() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    together = threading.Barrier(2)

    def count() -> int:
        together.wait(timeout=5.0)
        return torch.get_num_threads()

    workers = TorchWorkers(2, "test")
    try:
        assert workers.run([count, count]) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        workers.close()


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_there_is_at_least_one_thread(count: int) -> None:
    workers = TorchWorkers(count, "test")
    assert workers.count == 1
    assert workers.run([partial(later, 0.0, number) for number in range(3)]) == [0, 1, 2]
    workers.close()


def test_closing_ends_the_threads_and_may_be_repeated() -> None:
    before = set(threading.enumerate())
    workers = TorchWorkers(2, "test")
    workers.run([partial(later, 0.01, number) for number in range(4)])
    assert set(threading.enumerate()) - before
    workers.close()
    workers.close()
    assert not set(threading.enumerate()) - before


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    opencv, pytorch = cv2.getNumThreads(), torch.get_num_threads()
    with threadpool_limits(2):  # more than one, whatever the machine has
        yield
    cv2.setNumThreads(opencv)
    torch.set_num_threads(pytorch)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.usefixtures("threads_as_before")
def test_a_program_limits_opencv_and_blas_and_leaves_pytorch_to_its_engines() -> None:
    before = torch.get_num_threads()
    limit_library_threads()
    assert (cv2.getNumThreads(), blas_threads(), torch.get_num_threads()) == (1, {1}, before)


@pytest.mark.usefixtures("threads_as_before")
def test_processes_that_run_side_by_side_have_one_thread_of_each() -> None:
    pin_to_one_thread()
    assert (cv2.getNumThreads(), blas_threads(), torch.get_num_threads()) == (1, {1}, 1)


class Computations(TorchDispatchMode):
    """The names of all PyTorch operations of this thread that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: OpOverload, types: Sequence[type], args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        name = function._schema.name.removeprefix("aten::")
        if name not in VIEWS:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def test_a_frame_is_fused_without_pytorch_in_the_callers_thread() -> None:
    """Its threads would wait in busy loops for the next operation, on the cores that the channels need."""
    clip = straight_clip(4)
    with SFTracker.from_preset("light", device="cpu") as tracker:
        tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
        tracker.update(clip.images_rgb[1])  # engines are made when they are first needed
        with Computations() as seen:
            result = tracker.update(clip.images_rgb[2])
    assert np.isfinite(result.box_xywh).all()
    assert seen.names == []


def test_networks_may_be_exported_in_several_threads_at_once() -> None:
    """PyTorch's exporter cannot, and who loses would run PyTorch ever after."""
    together = threading.Barrier(3)

    def make() -> Combiner:
        together.wait(timeout=10.0)
        return Combiner(CombineNet(), 12.0)

    workers = TorchWorkers(3, "test")
    made = workers.run([make] * 3)
    workers.close()
    assert [type(combiner._engine) for combiner in made] == [OnnxEngine] * 3
