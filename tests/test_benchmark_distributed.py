"""Results at an address, and sequences as tasks on several machines, one of which is lost."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from sftrack.benchmark.entrants import Entrant
from sftrack.benchmark.jobs import Done, SerialEngine
from sftrack.benchmark.mirror import Mirror
from sftrack.benchmark.plan import Campaign, read_course
from sftrack.benchmark.results import RunFolder
from sftrack.benchmark.suites import find_suite
from sftrack.cli import main
from sftrack.config import ChannelConfig
from sftrack.errors import SinkError
from tests.benchmark_data import SEQUENCES, Note, write_otb
from tests.conftest import ROOT
from tests.test_benchmark_run import content

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'distributed': pip install ray")


@pytest.fixture(scope="module")
def otb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_otb(tmp_path_factory.mktemp("otb"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, in which a run works when its results go to an address."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache"


def bench(otb: Path, out: object, *more: str) -> int:
    return main(["bench", "run", "--benchmark", "otb", "--root", str(otb), "--tracker", "test-still", "--out", str(out), *more])


def test_results_at_an_address_are_those_in_a_folder(otb: Path, tmp_path: Path, cache: Path) -> None:
    url = f"memory://{tmp_path.name}/results"
    assert bench(otb, url, "--sequence", "Deer") == 0
    remote: Any = fsspec.filesystem("memory")
    assert len(remote.find(f"/{tmp_path.name}/results/OTB100/test-still")) == 4
    for path in sorted(cache.rglob("*"), reverse=True):  # another machine goes on
        path.unlink() if path.is_file() else path.rmdir()
    assert bench(otb, url) == 0
    assert bench(otb, tmp_path / "folder") == 0
    here = tmp_path / "folder" / "OTB100" / "test-still"
    for name, written in content(here).items():
        assert remote.cat(f"/{tmp_path.name}/results/OTB100/test-still/{name}") == written
    assert bench(otb, url, "--seed", "1") == 2  # results of other settings are known there too


def test_a_failure_is_told_at_the_address_until_it_is_mended(otb: Path, tmp_path: Path, cache: Path) -> None:
    root = write_otb(tmp_path / "own")
    image = root / "Girl" / "img" / "0005.jpg"
    whole = image.read_bytes()
    image.write_bytes(b"damaged")
    there = tmp_path / "there"
    assert bench(root, f"file://{there}") == 1
    folder = RunFolder(there / "OTB100" / "test-still")
    assert set(folder.failures()) == {"Girl"}
    image.write_bytes(whole)
    assert bench(root, f"file://{there}") == 0
    assert folder.failures() == {}
    assert folder.sequences() == SEQUENCES


def test_an_address_that_cannot_be_read_is_one_line(otb: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = f"memory://{tmp_path.name}/results"

    def lost(*_: object, **__: object) -> list[str]:
        raise OSError("the network is gone")

    mirror = Mirror.of(there)
    monkeypatch.setattr(mirror._remote, "find", lost)
    for act in (lambda: mirror.fetch(["OTB100"]), lambda: mirror.send_missing(RunFolder(mirror.local / "OTB100" / "test-still"))):
        with pytest.raises(SinkError, match=r"cannot read /?\S+/results/OTB100\S*: the network is gone"):
            act()


def test_an_unknown_address_is_one_line(otb: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench(otb, "nowhere://bucket/results") == 2
    assert "expected --out to be a folder or an address that fsspec knows" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_is_asked_for_by_name_where_it_lacks(otb: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench(otb, tmp_path, "--engine", "ray") == 2
    assert "pip install 'sftrack[distributed]'" in capfd.readouterr().err.splitlines()[-1]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two machines with one CPU each, in processes of this one; the driver's own has none."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    lost, kept = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes, lost, kept
    ray.shutdown()
    nodes.shutdown()


@needs_ray
def test_a_machine_that_is_lost_changes_no_result(tmp_path: Path, cluster: Any) -> None:  # noqa: ANN401
    from sftrack.benchmark.ray_engine import RayEngine

    nodes, lost, _ = cluster
    course = read_course(find_suite("otb"), write_otb(tmp_path / "otb", frames=40))
    entrants = [Entrant(name, (ChannelConfig(name, name, {"note": Note()}),)) for name in ("test-random", "test-still", "test-slow")]
    for out in ("alone", "cluster"):
        engine = SerialEngine("cpu") if out == "alone" else RayEngine(None, "cpu")
        with Campaign(tmp_path / out, "cpu") as campaign:
            done = 0
            for event in engine.run(campaign.jobs(course, entrants)):
                done += isinstance(event, Done)
                if out == "cluster" and done == 2 and lost is not None:
                    nodes.remove_node(lost, allow_graceful=False)
                    lost = None
        assert done == len(entrants) * len(SEQUENCES)
    assert lost is None
    for entrant in entrants:
        assert content(tmp_path / "alone" / "OTB100" / entrant.name) == content(tmp_path / "cluster" / "OTB100" / entrant.name)


@needs_ray
def test_a_tracker_that_raises_on_a_cluster_is_a_failure_of_its_sequence(tmp_path: Path, otb: Path, cluster: Any) -> None:  # noqa: ANN401
    from sftrack.benchmark.jobs import Failed
    from sftrack.benchmark.ray_engine import RayEngine

    entrant = Entrant("raises", (ChannelConfig("raises", "test-raises", {"note": Note()}),))
    with Campaign(tmp_path, "cpu") as campaign:
        events = list(RayEngine(None, "cpu").run(campaign.jobs(read_course(find_suite("otb"), otb), [entrant])))
    assert all(isinstance(event, Failed) and event.reason == "FileNotFoundError: a tracker's own trouble" for event in events)
    assert len(events) == len(SEQUENCES)


@needs_ray
def test_a_task_computes_on_the_only_gpu_that_it_sees(tmp_path: Path, otb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Ray that runs no task: here is no GPU for one."""
    import ray

    from sftrack.benchmark.ray_engine import RayEngine, collect

    asked: list[tuple[object, ...]] = []

    def remote(**needs: object) -> Any:  # noqa: ANN401
        return lambda task: SimpleNamespace(remote=lambda job, device: asked.append((task, needs["num_gpus"], device)))

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "wait", lambda references, num_returns: (references[:num_returns], references[num_returns:]))
    monkeypatch.setattr(ray, "get", lambda _reference: ("no GPU here", ""))
    with Campaign(tmp_path, "cpu") as campaign:
        jobs = campaign.jobs(read_course(find_suite("otb"), otb, ["Deer"]), [Entrant("still", (ChannelConfig("still", "test-still"),))])
        assert len(list(RayEngine(None, "cuda:1").run(jobs))) == 1
    assert asked == [(collect, 1, "cuda")]
