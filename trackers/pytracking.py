"""Any tracker of a PyTracking checkout as a channel: `pytracking:dimp/dimp50`; in a process, and if need be an interpreter, of its own.

PyTracking is not a dependency and nothing of it is in here: who has it, with its environment and weights, may let its trackers take part.
"""

import json
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sftrack.config import DEVICES
from sftrack.contracts import BoxXYWH, ImageRGB, is_number
from sftrack.errors import ConfigError, MissingWeightsError, TrackerProcessError, nearest_hint

from .base import BoxTracker, check_paths
from .registry import register

log = logging.getLogger(__name__)

ROOT_VARIABLE, PYTHON_VARIABLE = "PYTRACKING_ROOT", "PYTRACKING_PYTHON"
WORKER = Path(__file__).with_name("pytracking_worker.py")

ENVIRONMENT = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
"""PyTracking's checkpoints hold objects of its classes, which its `torch.load(path)` refuses since PyTorch 2.6 unless this is set. It gives
nothing away: the checkout is the user's own, and its code is what the process is there to run."""

_MISSING = re.compile(r"No matching checkpoint file found|Failed to load network")
"""What PyTracking says, besides FileNotFoundError, where there is no file for a network; the second where network_path is a list."""
_NOT_COMPILED = re.compile(r"Precise RoI Pooling|CUDA_HOME|Ninja is required")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LAST_WORDS_S = 5.0
"""How long a process that answers no more may take to end."""


@register("pytracking")
class PyTracking(BoxTracker):
    """See the module. PyTracking's trackers have no common measure of confidence: the score is 1 where a tracker gives none.

    Args:
        tracker: its name and its parameters', as `dimp/dimp50`.
        root: folder of the checkout, which holds the folders `pytracking` and `ltr`; None reads `PYTRACKING_ROOT`.
        python: interpreter that can run it; None reads `PYTRACKING_PYTHON`, and without that takes this one.
        time_limit_s: for a frame; the process is ended after that, and started again with the next `init`.
        start_limit_s: for the first frame, on which PyTracking loads its networks.
        device: of the checkout's PyTorch; if it is not `cuda`, the tracker is told not to use a GPU, as far as its parameters can say so.

    Raises:
        ConfigError: there is no such checkout, tracker, parameter file, interpreter or device; the checkout is not set up; a limit is not
            positive.
    """

    _as_published = True

    def __init__(
        self,
        *,
        tracker: str = "",
        root: str | Path | None = None,
        python: str | Path | None = None,
        time_limit_s: float = 30.0,
        start_limit_s: float = 300.0,
        device: str = "cpu",
    ) -> None:
        for limit, value in (("time_limit_s", time_limit_s), ("start_limit_s", start_limit_s)):
            if not (is_number(value) and value > 0):
                raise ConfigError(f"expected {limit} above 0, got {value!r}")
        device = str(device)
        if device.partition(":")[0] not in DEVICES[1:]:
            raise ConfigError(f"expected the device {', '.join(DEVICES[1:])} for PyTracking, got '{device}'")
        self._limit_s, self._start_limit_s = time_limit_s, start_limit_s
        check_paths(root=root, python=python)
        folder = _checked_root(root)
        self._name = tracker
        self._python = _checked_python(python)
        name, parameters = _checked_tracker(folder, tracker)
        self._command = [self._python, str(WORKER), str(folder), name, parameters, "1" if device.startswith("cuda") else "0"]
        self._process: _Process | None = None

    def close(self) -> None:
        """End the process; it also ends with this object."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        if self._process is None:
            try:
                self._process = _Process(self._command)
            except OSError as error:
                raise TrackerProcessError(f"expected '{self._python}' to be a Python interpreter, it cannot be run: {error}") from None
        try:
            self._ask(self._process, image_rgb, box_xywh.tolist(), self._start_limit_s)
        except (TrackerProcessError, MissingWeightsError):
            self.close()
            raise

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        if self._process is None:
            raise TrackerProcessError(f"{self._name} of PyTracking has ended; it is started again with init")
        answer = self._ask(self._process, image_rgb, None, self._limit_s)
        box = np.asarray(answer["box"], dtype=np.float64)
        if box.shape != (4,) or not (box[2:] > 0).all():
            return None, 0.0
        return box, float(answer["score"])

    def _ask(self, process: "_Process", image_rgb: ImageRGB, box: list[float] | None, limit_s: float) -> dict[str, Any]:
        try:
            answer = process.ask({"size_hw": image_rgb.shape[:2], "box": box}, image_rgb, limit_s)
        except TimeoutError:
            self.close()
            raise TrackerProcessError(f"expected {self._name} of PyTracking to answer within {limit_s:g} s, it was ended") from None
        except EOFError as error:
            self.close()
            raise TrackerProcessError(f"{self._name} of PyTracking ended by itself: {error}") from None
        except ValueError as error:
            self.close()
            raise TrackerProcessError(
                f"expected a Python interpreter that prints nothing by itself, '{self._python}' printed '{error}'; give another one as "
                f"python=... or {PYTHON_VARIABLE}"
            ) from None
        if "error" in answer:
            raise self._explained(answer)
        return answer

    def _explained(self, answer: Mapping[str, str]) -> TrackerProcessError | MissingWeightsError:
        what = f"{answer['type']}: {_first_line(answer['error'])}"
        if _NOT_COMPILED.search(what):
            return TrackerProcessError(
                f"expected CUDA for {self._name} of PyTracking, which compiles its PrRoIPool for that only ({what}); give the channel "
                'device = "cuda", on a machine with a GPU, the CUDA toolkit, a C++ compiler and ninja'
            )
        if answer["type"] == "ModuleNotFoundError":
            return TrackerProcessError(
                f"expected an interpreter that can import {self._name} of PyTracking, {self._python} cannot ({what}); give that of its "
                f"environment as python=... or {PYTHON_VARIABLE}"
            )
        if answer["stage"] != "track" and (answer["type"] == "FileNotFoundError" or _MISSING.search(what)):
            return MissingWeightsError(
                f"expected the weights of {self._name} in the network_path of PyTracking's pytracking/evaluation/local.py ({what}); "
                "fetch them as its MODEL_ZOO.md says"
            )
        return TrackerProcessError(f"{self._name} of PyTracking failed in {answer['stage']}: {what}")


class _Process:
    """A worker, and questions to it with a time limit."""

    def __init__(self, command: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**ENVIRONMENT, **os.environ},
            # A terminal's Ctrl+C is not for it: whoever asks the questions ends it. The first is for POSIX, the second for Windows.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._end = weakref.finalize(self, _end, self._process)

    def ask(self, request: Mapping[str, object], image_rgb: ImageRGB, limit_s: float) -> dict[str, Any]:
        """Send a request with its picture and wait for the answer.

        Raises:
            TimeoutError: it takes longer.
            EOFError: the process ended; the message says how, and what it wrote to stderr last.
            ValueError: it printed something that is no answer, which is the message.
        """
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        head, body = json.dumps(request).encode() + b"\n", np.ascontiguousarray(image_rgb)
        # A pipe cannot be waited for on every system, a thread can. It ends with the process at the latest.
        threading.Thread(target=_exchange, args=(self._process, head, body, answers), name="pytracking", daemon=True).start()
        try:
            line = answers.get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise EOFError(self._last_words())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ValueError(_first_line(line.decode("utf-8", "replace"))[:100])
        return answer

    def close(self) -> None:
        """Kill it, and on POSIX what it started, whatever they do."""
        self._end()
        self._errors.close()

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        code = self._process.poll()
        how = "it closed its pipes" if code is None else _name_of_end(code)
        lines: list[str] = []
        with suppress(ValueError):  # closed meanwhile
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").splitlines()
        last = next((shown for line in reversed(lines) if (shown := _first_line(line))), "")
        return f"{how}, after '{last}'" if last else how


def _name_of_end(code: int) -> str:
    """What a return code of `subprocess` means."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of the system's that have no name
        return f"signal {-code}"


def _first_line(text: str) -> str:
    """The first line of a text with something in it, without the colours of a terminal."""
    lines = (line.strip() for line in _ESCAPE.sub("", text).splitlines())
    return next((line for line in lines if line), "")


def _exchange(process: "subprocess.Popen[bytes]", head: bytes, body: ImageRGB, answers: "queue.SimpleQueue[bytes]") -> None:
    """One question and its answer, which is empty where the process ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(OSError):  # a broken pipe; it may have said something all the same
            process.stdin.write(head)
            process.stdin.write(body.data)
            process.stdin.flush()
        answers.put(process.stdout.readline())
    except (OSError, ValueError):  # one that was closed meanwhile
        answers.put(b"")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(OSError):  # there is none left
            os.killpg(process.pid, signal.SIGKILL)  # what it has started too; it is the first of its group
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written
                pipe.close()


def _checked_root(root: str | Path | None) -> Path:
    given = root or os.environ.get(ROOT_VARIABLE)
    if not given:
        raise ConfigError(
            "expected the folder of a PyTracking checkout, got none; clone https://github.com/visionml/pytracking and name its folder "
            f"with --pytracking-root DIR, {ROOT_VARIABLE} or root=..."
        )
    folder = Path(given).expanduser().resolve()
    if not (folder / "pytracking" / "tracker").is_dir():
        hint = f"; did you mean '{folder.parent}'?" if (folder / "tracker").is_dir() else ""
        raise ConfigError(f"expected the folder of a PyTracking checkout, '{folder}' has no pytracking/tracker in it{hint}")
    settings = folder / "pytracking" / "evaluation"
    if (settings / "environment.py").is_file() and not (settings / "local.py").is_file():
        raise ConfigError(
            f"expected a PyTracking checkout that is set up, '{settings}' has no local.py; in the checkout run python -c 'from "
            "pytracking.evaluation.environment import create_default_local_file as create; create()' and set its network_path"
        )
    return folder


def _checked_tracker(root: Path, tracker: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\w+)/(\w+)", tracker)
    if match is None:
        raise ConfigError(f"expected a tracker of PyTracking and its parameters, as dimp/dimp50, got '{tracker}'")
    name, parameters = match[1], match[2]
    trackers = sorted(path.parent.name for path in (root / "pytracking" / "tracker").glob("*/__init__.py"))
    if name not in trackers:
        raise ConfigError(f"expected a tracker of '{root}' out of {', '.join(trackers)}, got '{name}'{nearest_hint(name, trackers)}")
    known = sorted(path.stem for path in (root / "pytracking" / "parameter" / name).glob("*.py") if path.stem != "__init__")
    if parameters not in known:
        raise ConfigError(
            f"expected parameters of {name} out of {', '.join(known) or '(none)'}, got '{parameters}'{nearest_hint(parameters, known)}"
        )
    return name, parameters


def _checked_python(python: str | Path | None) -> str:
    given = str(python or os.environ.get(PYTHON_VARIABLE) or sys.executable)
    found = shutil.which(os.path.expanduser(given))
    if found is None:
        raise ConfigError(
            f"expected a Python interpreter for PyTracking, '{given}' is none; give its path as python=... or {PYTHON_VARIABLE}"
        )
    return found
