"""Jobs done one after the other in this process, or by several worker processes; both report the same events.

A worker that dies takes only its sequence with it and is replaced, as is one on a GPU whose job failed. Workers end when the process that
started them ends, even if that was killed.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

from sftrack.benchmark.runner import Job, perform
from sftrack.errors import SFTrackError, SinkError
from sftrack.workers import pin_to_one_thread

REPORT_EVERY_S = 0.2


@dataclass(frozen=True, eq=False)
class Advanced:
    """So many frames of a job are done."""

    job: Job
    frames: int


@dataclass(frozen=True, eq=False)
class Done:
    """A job's result is complete."""

    job: Job


@dataclass(frozen=True, eq=False)
class Failed:
    """A job has no result: why, in one line, and the traceback."""

    job: Job
    reason: str
    details: str


Event = Advanced | Done | Failed


class Engine(Protocol):
    """Does jobs in any order and place. What cannot be written ends all with `SinkError`: the next job would fare no better."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]: ...


class SerialEngine:
    """In this process."""

    def __init__(self, device: str) -> None:
        self._device = device

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        for job in jobs:
            try:
                for frames in perform(job, self._device):
                    yield Advanced(job, frames)
            except SinkError:
                raise
            except (Exception, SystemExit) as error:  # some trackers call exit()
                yield Failed(job, reason_of(error), traceback.format_exc())
            else:
                yield Done(job)


class ProcessEngine:
    """In worker processes, each with one thread per library; they take the devices in turn."""

    def __init__(self, count: int, devices: Sequence[str]) -> None:
        self._count, self._devices = count, devices

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        pending = sorted(jobs, key=lambda job: len(job.video))  # the longest first: pop() takes from the end
        count = min(self._count, len(pending))
        workers = [_Worker(self._devices[number % len(self._devices)]) for number in range(count)]
        try:
            for worker in workers:
                worker.start(pending.pop())
            while busy := [worker for worker in workers if worker.job is not None]:
                ready = wait([worker.connection for worker in busy])
                for worker in [worker for worker in busy if worker.connection in ready]:
                    event = worker.receive()
                    if not isinstance(event, Advanced):
                        worker.job = None
                        if pending:
                            worker.start(pending.pop())
                    yield event
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A process that does one job after the other, seen from outside."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.job: Job | None = None
        self._process: SpawnProcess | None = None
        self.connection: Connection

    def start(self, job: Job) -> None:
        self.job = job
        try:
            self._connected().send(job)
        except ConnectionError:  # it died since its last job
            self.end()
            self._connected().send(job)

    def _connected(self) -> Connection:
        """The way to the process, which is started where there is none."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")  # a fork would share threads' locks and CUDA
            self.connection, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, self._device), daemon=True)
            self._process.start()
            theirs.close()
        return self.connection

    def receive(self) -> Event:
        """What the process says about its job; that it has died, where it has.

        Raises:
            SinkError: the job's result cannot be written.
        """
        assert self.job is not None
        assert self._process is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            reason = f"the worker process ended with exit code {self._process.exitcode} in the middle of the sequence"
            self.end()
            return Failed(self.job, reason, "")
        if isinstance(message, SinkError):
            raise message
        if isinstance(message, int):
            return Advanced(self.job, message)
        if message is None:
            return Done(self.job)
        if self._device.startswith("cuda"):  # after most errors of CUDA nothing else works there in this process
            self.end()
        return Failed(self.job, *message)

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self.connection.close()
            self._process = None


def _work(connection: Connection, device: str) -> None:
    """The worker process: jobs in; out come frame counts and, at a job's end, None, (reason, details) or the SinkError."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to all processes of a terminal; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pin_to_one_thread()
    with connection:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(_attempt(job, device, connection))


def _attempt(job: Job, device: str, connection: Connection) -> SinkError | tuple[str, str] | None:
    reported_s = 0.0
    try:
        for frames in perform(job, device):
            if time.monotonic() - reported_s > REPORT_EVERY_S:
                connection.send(frames)
                reported_s = time.monotonic()
    except SinkError as error:
        return error
    except (Exception, SystemExit) as error:
        return reason_of(error), traceback.format_exc()
    return None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong: our own errors say it themselves."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SFTrackError) else f"{type(error).__name__}: {text}"
