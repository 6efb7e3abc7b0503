"""Threads for the networks: each computes on its own, so that several of them share the cores without fighting over them.

PyTorch's own threads wait for each other in busy loops after every operation. For networks this small that costs more than it gains,
and when other programs use the cores too it slows them down many times over.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
import scipy.linalg  # noqa: F401  its BLAS must be there to be limited
import torch
from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def limit_library_threads(count: int = 1) -> None:
    """How many threads OpenCV and BLAS share a call among: one where channels run side by side. For the whole process, so for programs."""
    cv2.setNumThreads(count)
    threadpool_limits(count, user_api="blas")


def pin_to_one_thread() -> None:
    """One thread per library, PyTorch included: for processes that run side by side, and for figures that do not depend on the cores."""
    limit_library_threads()
    torch.set_num_threads(1)


@contextmanager
def shared_threads(count: int) -> Iterator[None]:
    """PyTorch takes a share of its threads as if there were `count` programs: for making engines that run side by side.

    They keep the number that they were made with (see `sftrack.engine.fastest_engine`).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads // count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TorchWorkers:
    """A pool of threads in each of which PyTorch uses one core."""

    def __init__(self, count: int, name: str) -> None:
        self.count = max(count, 1)
        self._pool = ThreadPoolExecutor(self.count, name, initializer=torch.set_num_threads, initargs=(1,))

    def start(self, job: Callable[[], Result]) -> Future[Result]:
        """Begin a job; the caller goes on and asks the future for the result."""
        return self._pool.submit(job)

    def run(self, jobs: Sequence[Callable[[], Result]], meanwhile: Callable[[], None] | None = None) -> list[Result]:
        """Run all jobs at the same time, as far as there are threads; results in the jobs' order. The first error is raised.

        `meanwhile` is called once when all jobs wait for their thread; what it starts comes after them.
        """
        started = [self.start(job) for job in jobs]
        if meanwhile is not None:
            meanwhile()
        return [future.result() for future in started]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
