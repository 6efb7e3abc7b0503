"""Jobs on many machines, as tasks of Ray: what a lost node was doing is done again on another one.

All machines need this package and see the data sets under the same paths. Results come back to the process that started the run, which
alone writes files. Ray is the extra `distributed`.
"""

import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftrack.benchmark.jobs import Done, Event, Failed, reason_of
from sftrack.benchmark.results import SequenceResult
from sftrack.benchmark.runner import Job, track, with_recordings
from sftrack.errors import ConfigError, SinkError
from sftrack.workers import pin_to_one_thread

if TYPE_CHECKING:
    from ray import ObjectRef

RETRIES = 5
"""How often a sequence is begun again because its machine was lost."""


class RayEngine:
    """On a cluster; each job has a CPU and, where the device is `cuda`, a GPU of its own."""

    def __init__(self, address: str | None, device: str) -> None:
        """`address` of a running cluster as Ray takes it (`auto`, `host:port`); None: one on this machine, ended with the run.

        Raises:
            ConfigError: Ray is not installed.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ConfigError(
                "expected the package 'ray' for --engine ray, it is not installed: pip install 'sftrack[distributed]'"
            ) from error
        # A task sees its GPU alone, as the first one, whatever its number is elsewhere.
        self._ray, self._address, self._device = ray, address, device.partition(":")[0]

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        ray = self._ray
        is_ours = not ray.is_initialized()
        if is_ours:
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, ValueError) as error:
                raise ConfigError(f"expected a Ray cluster at {self._address}, found none: {error}") from error
        gpus = 1 if self._device == "cuda" else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(collect)
        pending: dict[ObjectRef[Any], Job] = {}
        try:
            for job in sorted(jobs, key=lambda job: -len(job.video)):
                try:
                    pending[task.remote(with_recordings(job), self._device)] = job
                except SinkError:
                    raise
                except Exception as error:  # a recording that is missing
                    yield Failed(job, reason_of(error), traceback.format_exc())
            while pending:
                [ready], _ = ray.wait(list(pending), num_returns=1)
                yield self._finish(pending.pop(ready), ready)
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            if is_ours:
                ray.shutdown()

    def _finish(self, job: Job, reference: "ObjectRef[Any]") -> Event:
        """Write what a task brought.

        Raises:
            SinkError: it cannot be written.
        """
        try:
            outcome = self._ray.get(reference)
            if not isinstance(outcome, SequenceResult):
                return Failed(job, *outcome)
            with job.folder.writing(job.video.name, job.video.first_pixel) as writer:
                for box, seconds, score in zip(outcome.boxes_xywh, outcome.seconds, outcome.scores, strict=True):
                    writer.write(box, float(seconds), float(score))
        except SinkError:
            raise
        except Exception as error:  # the machine was lost too often, or the tracker's box cannot be written
            return Failed(job, reason_of(error), traceback.format_exc())
        return Done(job)


def collect(job: Job, device: str) -> SequenceResult | tuple[str, str]:
    """The task: a job's result with 0-based boxes, or why there is none, in one line, and the traceback."""
    pin_to_one_thread()
    try:
        frames = list(track(job, device))
    except (Exception, SystemExit) as error:  # some trackers call exit()
        return reason_of(error), traceback.format_exc()
    boxes: NDArray[np.float64] = np.array([frame.box_xywh for frame in frames])
    return SequenceResult(boxes, np.array([frame.seconds for frame in frames]), np.array([frame.score for frame in frames]))
