"""A run that is killed at any moment and started again gives the files of a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sftrack.benchmark.results import RunFolder
from tests.benchmark_data import SEQUENCES, write_otb
from tests.conftest import ROOT
from tests.test_benchmark_run import content

KILLS = 5

# One process that has loaded everything forks the runs: what is killed is the work, not the imports.
FORKS = """
import os, signal, sys, time
from sftrack.cli import main
import sftrack.benchmark.jobs, sftrack.benchmark.settings, sftrack.trackers  # noqa

sftrack.benchmark.settings.environment()
for line in sys.stdin:  # seconds after which the run is killed, none: never
    child = os.fork()
    if child == 0:
        os._exit(main(sys.argv[1:]))
    began = time.monotonic()
    if line.strip():
        time.sleep(float(line))
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), time.monotonic() - began, flush=True)
"""


class Runs:
    """Runs of one command, each in a process of its own that may be killed."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )

    def run(self, kill_after_s: float | None = None) -> tuple[int, float]:
        """Exit code and seconds of a run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n" if kill_after_s is None else f"{kill_after_s}\n")
        self._process.stdin.flush()
        line = ""
        while not line or line.startswith(("OTB", "{")):  # what the run itself says
            line = self._process.stdout.readline()
            assert line, "the runs' process has ended"
        code, seconds = line.split()
        return int(code), float(seconds)

    def close(self) -> None:
        self._process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_killed_at_random_moments_and_restarted_it_gives_the_same_files(tmp_path: Path) -> None:
    otb = write_otb(tmp_path / "otb", frames=60)
    arguments = ("bench", "run", "--benchmark", "otb", "--root", otb, "--tracker", "template", "--out")
    undisturbed = Runs(*arguments, tmp_path / "undisturbed")
    code, seconds = undisturbed.run()
    undisturbed.close()
    assert code == 0

    folder = RunFolder(tmp_path / "killed" / "OTB100" / "template")
    moments, in_the_middle = random.Random(6), 0
    runs = Runs(*arguments, tmp_path / "killed")
    for _ in range(KILLS):
        code, _ = runs.run(kill_after_s=moments.uniform(0.05, 0.5) * seconds)
        assert code in (-signal.SIGKILL, 0)
        whole = folder.sequences()
        in_the_middle += len(whole) < len(SEQUENCES)
        for name in whole:  # what has its name is whole and right
            assert content(folder.path)[f"{name}.txt"] == (tmp_path / "undisturbed/OTB100/template" / f"{name}.txt").read_bytes()
    assert in_the_middle > 0, "no kill came in the middle of the work"
    assert runs.run()[0] == 0
    runs.close()
    assert content(folder.path) == content(tmp_path / "undisturbed" / "OTB100" / "template")
    assert not list(folder.path.glob("*.part"))
    settings = [json.loads((tmp_path / out / "OTB100/template/run.json").read_text())["settings"] for out in ("undisturbed", "killed")]
    assert settings[0] == settings[1]


def test_workers_end_when_the_run_that_started_them_is_killed(tmp_path: Path) -> None:
    otb = write_otb(tmp_path / "otb", frames=400)
    flags = ["bench", "run", "--benchmark", "otb", "--root", otb, "--tracker", "csrt", "--jobs", 2, "--out", tmp_path / "out"]
    program = [sys.executable, "-c", "import sys; from sftrack.cli import main; sys.exit(main())", *map(str, flags)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as run:
        waited_s = time.monotonic() + 120
        while not list((tmp_path / "out").rglob("*.part")) and run.poll() is None and time.monotonic() < waited_s:
            time.sleep(0.05)
        workers = [process for process in psutil.Process(run.pid).children(recursive=True) if "spawn_main" in " ".join(process.cmdline())]
        assert len(workers) == 2
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
