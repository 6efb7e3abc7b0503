"""The threads for the networks: order, errors, one core each, and that they end."""

import threading
import time
from functools import partial

import pytest
import torch

from sftrack.workers import TorchWorkers


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
