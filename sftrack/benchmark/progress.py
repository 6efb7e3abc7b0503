"""What the user sees of a run: a bar where stderr is a terminal, else now and then a line, or one JSON object per line on stdout."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from sftrack.benchmark.jobs import Advanced, Done, Event, Failed
from sftrack.benchmark.runner import Job

EVERY_S = 1.0
"""Between JSON objects."""
PLAIN_EVERY_S = 30.0
"""Between lines in a file or a batch system's log, which nobody wants to be long."""


class Progress:
    """Counts events and shows them; a failure is said at once."""

    def __init__(self, jobs: int, frames: int, *, say: Callable[[str], None], as_json: bool) -> None:
        """`say` takes lines: of text for people, or of JSON."""
        self.done = 0
        self.failures: list[Failed] = []
        self._jobs, self._frames = jobs, frames
        self._say, self._as_json = say, as_json
        self._counts: dict[Job, int] = {}
        self._frames_done = 0
        self._began_s = self._shown_s = time.monotonic()
        self._bar = tqdm(total=frames, unit=" frames", disable=True if as_json else None, leave=False, dynamic_ncols=True)

    def damaged(self, dataset: str, entrant: str, sequence: str, reason: str) -> None:
        """A sequence that is no job, because its files are damaged; people have been told when these were read."""
        self._emit("failed", dataset=dataset, entrant=entrant, sequence=sequence, reason=reason)

    def follow(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass the events on, showing them."""
        try:
            for event in events:
                self._count(event)
                yield event
        finally:
            self._bar.close()

    def _count(self, event: Event) -> None:
        job = event.job
        before = self._counts.get(job, 0)
        now = event.frames if isinstance(event, Advanced) else len(job.video)  # a failed job needs no more time either
        self._counts[job] = now
        self._frames_done += now - before
        self._bar.update(now - before)
        if isinstance(event, Done):
            self.done += 1
            self._emit("done", dataset=job.video.dataset, entrant=job.entrant.name, sequence=job.video.name, frames=now)
        elif isinstance(event, Failed):
            self.failures.append(event)
            self._failed(event)
        if not isinstance(event, Advanced):
            self._bar.set_postfix_str(self._sequences(), refresh=False)
        if time.monotonic() - self._shown_s > (EVERY_S if self._as_json else PLAIN_EVERY_S):
            self._shown_s = time.monotonic()
            self._show()

    def _failed(self, event: Failed) -> None:
        job = event.job
        if self._as_json:
            self._emit("failed", dataset=job.video.dataset, entrant=job.entrant.name, sequence=job.video.name, reason=event.reason)
            return
        with self._bar.external_write_mode():
            self._say(f"failed: {job.entrant.name} on {job.video.dataset}/{job.video.name}: {event.reason}")

    def _show(self) -> None:
        elapsed_s = time.monotonic() - self._began_s
        rate = self._frames_done / elapsed_s if elapsed_s > 0 else 0.0
        left_s = (self._frames - self._frames_done) / rate if rate > 0 else None
        if self._bar.disable and not self._as_json:
            left = "" if left_s is None else f", {tqdm.format_interval(left_s)} left"
            self._say(f"{self._sequences()}, {self._frames_done} of {self._frames} frames, {rate:.1f} frames/s{left}")
        self._emit(
            "progress",
            frames=self._frames_done,
            of_frames=self._frames,
            sequences=self.done,
            of_sequences=self._jobs,
            failed=len(self.failures),
            frames_per_second=round(rate, 2),
            left_s=None if left_s is None else round(left_s, 1),
        )

    def _sequences(self) -> str:
        return f"{self.done} of {self._jobs} sequences" + (f", {len(self.failures)} failed" if self.failures else "")

    def _emit(self, event: str, **values: Any) -> None:  # noqa: ANN401
        if self._as_json:
            self._say(json.dumps({"event": event, **values}))
