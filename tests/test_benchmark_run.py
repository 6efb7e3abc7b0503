"""`sftrack bench run` over tiny data sets: what it writes, what it does again, and what it survives."""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sftrack.benchmark import progress, settings
from sftrack.benchmark.entrants import Entrant, find_entrant, replayed
from sftrack.benchmark.guest import Guest
from sftrack.benchmark.jobs import Advanced, Done, Failed, ProcessEngine, SerialEngine, _Worker
from sftrack.benchmark.plan import Campaign, read_course
from sftrack.benchmark.results import RunFolder
from sftrack.benchmark.suites import find_suite
from sftrack.cli import main
from sftrack.config import ChannelConfig
from sftrack.datasets import read_boxes, read_sequence, record
from sftrack.errors import ConfigError, SFTrackError
from sftrack.sinks import files
from tests.benchmark_data import FRAMES, SEQUENCES, Holds, Note, write_otb
from tests.conftest import Run

Bench = Callable[..., Run]


@pytest.fixture(scope="session")
def otb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_otb(tmp_path_factory.mktemp("otb"))


def content(folder: Path, endings: tuple[str, ...] = (".txt",)) -> dict[str, bytes]:
    """The result files by name, times left out."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name.endswith(endings) and "_time" not in path.name}


def test_results_are_as_other_tools_read_them(otb: Path, bench: Bench) -> None:
    done = bench("run", "--benchmark", "otb", "--root", otb, "--tracker", "template", "--out", "out")
    assert (done.code, done.out.count("4 of 100 sequences; AUC 0.9")) == (0, 1), done
    assert done.err.startswith("OTB-100: 4 of 100 sequences, missing: Basketball")
    folder = Path("out/OTB100/template")
    for name in SEQUENCES:
        lines = (folder / f"{name}.txt").read_text().splitlines()
        assert len(lines) == FRAMES
        assert all(re.fullmatch(r"-?\d+\.\d{3},-?\d+\.\d{3},\d+\.\d{3},\d+\.\d{3}", line) for line in lines)
        assert len((folder / f"{name}_time.txt").read_text().splitlines()) == FRAMES
        assert len((folder / f"{name}_object_presence_scores.txt").read_text().splitlines()) == FRAMES
    truth = read_boxes(otb / "Deer" / "groundtruth_rect.txt")
    np.testing.assert_array_equal(read_boxes(folder / "Deer.txt")[0], truth[0])  # 1-based, as the data set counts
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["seed"] == 0
    assert record["settings"]["channels"] == [{"name": "template", "params": {}, "tracker": "template"}]
    assert {"torch", "numpy", "python", "commit", "since", "system"} <= set(record["environments"][0])
    assert record["environments"][0]["sftrack"], "known in a plain clone too"


def test_the_commit_is_ours_and_not_that_of_a_repository_in_which_we_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}
    subprocess.run(["git", "-C", tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True, env={**os.environ, **names})
    monkeypatch.setattr(settings, "_CHECKOUT", tmp_path)
    assert settings._commit() is not None
    (tmp_path / "venv").mkdir()
    monkeypatch.setattr(settings, "_CHECKOUT", tmp_path / "venv")
    assert settings._commit() is None
    assert settings._checkout_version() is None


def test_only_what_is_missing_or_incomplete_is_done_again(otb: Path, bench: Bench) -> None:
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out")
    bench(*arguments)
    folder = Path("out/OTB100/test-still")
    before, stamps = content(folder), {path.name: path.stat().st_mtime_ns for path in folder.glob("*.txt")}
    (folder / "Deer.txt").unlink()
    (folder / "Girl_time.txt").write_text("0.1\n")
    (folder / "Girl.txt.part").write_text("1,2,3,4\n")
    for path in folder.glob("Jogging-1*.txt"):  # whole, but of another length than the sequence
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert bench(*arguments).code == 0
    assert content(folder) == before
    assert not list(folder.glob("*.part"))
    redone = {path.name for path in folder.glob("*.txt") if path.stat().st_mtime_ns != stamps[path.name]}
    assert {name.split("_")[0].removesuffix(".txt") for name in redone} == {"Deer", "Girl", "Jogging-1"}
    assert bench(*arguments, "--json").out.count('"done"') == 0


def test_a_sequence_that_fails_is_listed_and_the_others_go_on(otb: Path, tmp_path: Path, bench: Bench) -> None:
    root = Path(shutil.copytree(otb, tmp_path / "damaged"))
    (root / "Girl" / "img" / "0005.jpg").write_bytes(b"damaged")
    (root / "Jogging" / "groundtruth_rect.1.txt").write_text("")
    arguments = ("run", "--benchmark", "otb", "--root", root, "--tracker", "test-still", "--out", "out")
    done = bench(*arguments)
    folder = Path("out/OTB100/test-still")
    assert done.code == 1
    assert re.search(r"^failed: test-still on OTB100/Girl: expected an image at .*0005\.jpg, the file is no picture$", done.err, re.M)
    assert re.search(r"^Jogging-1: expected true boxes in .*groundtruth_rect\.1\.txt, it is empty$", done.err, re.M)
    assert "Traceback" not in done.err
    assert "Traceback" in (folder / "Girl.failed.log").read_text()
    assert RunFolder(folder).sequences() == ("Deer", "Jogging-2")
    assert set(RunFolder(folder).failures()) == {"Girl", "Jogging-1"}
    assert not list(folder.glob("*.part"))
    shutil.copy(otb / "Girl" / "img" / "0005.jpg", root / "Girl" / "img")
    shutil.copy(otb / "Jogging" / "groundtruth_rect.1.txt", root / "Jogging")
    assert bench(*arguments).code == 0
    assert RunFolder(folder).sequences() == SEQUENCES
    assert RunFolder(folder).failures() == {}


def test_fewer_images_than_true_boxes_and_the_reverse(otb: Path, tmp_path: Path, bench: Bench) -> None:
    root = Path(shutil.copytree(otb, tmp_path / "damaged"))
    (root / "Girl" / "img" / "0012.jpg").unlink()
    shutil.copy(root / "Deer" / "img" / "0001.jpg", root / "Deer" / "img" / "0013.jpg")
    done = bench("run", "--benchmark", "otb", "--root", root, "--tracker", "test-still", "--out", "out")
    assert done.code == 1
    assert "Girl: expected 12 images of OTB100/Girl, one per true box, found 11" in done.err
    assert "OTB100/Deer: 1 more images than true boxes; the last ones are left out" in done.err
    assert RunFolder(Path("out/OTB100/test-still")).sequences() == ("Deer", "Jogging-1", "Jogging-2")


@pytest.mark.parametrize(
    ("tracker", "reason"),
    [
        ("test-raises", "FileNotFoundError: a tracker's own trouble"),
        ("test-nan", "ValueError: expected a box of four finite numbers"),
        ("test-exits", "SystemExit: no licence"),
    ],
)
def test_what_a_tracker_does_wrong_is_its_own_failure(otb: Path, bench: Bench, tracker: str, reason: str) -> None:
    done = bench("run", "--benchmark", "otb", "--root", otb, "--tracker", tracker, "--tracker", "test-still", "--out", "out")
    assert done.code == 1
    assert done.err.count(reason) == 4
    assert "4 of 8 sequences failed; tracebacks are in out/" in done.err
    assert RunFolder(Path(f"out/OTB100/{tracker}")).sequences() == ()
    assert RunFolder(Path("out/OTB100/test-still")).sequences() == SEQUENCES


def test_what_a_tracker_holds_besides_memory_is_freed_whatever_it_does(otb: Path, tmp_path: Path) -> None:
    course, pictures = read_course(find_suite("otb"), otb, ["Deer"]), read_sequence("OTB100", otb, "Deer")
    made = Holds.made
    with Campaign(tmp_path, "cpu") as campaign:
        [*_, event] = SerialEngine("cpu").run(campaign.jobs(course, [find_entrant("test-holds", "cpu")]))
    assert isinstance(event, Failed)
    assert Holds.made == made + 2, "one to see that it can be made, one for the sequence"
    assert Holds.held == []
    record(ChannelConfig("a", "test-holds"), pictures)
    assert (Holds.made, Holds.held) == (made + 3, [])
    np.testing.assert_array_equal(record(ChannelConfig("a", "test-exits"), pictures).scores[:3], [1.0, 0.0, 0.0])
    guest = Guest("test-holds", "cpu")
    for _ in range(2):
        guest.init(pictures.frame(0), pictures.boxes_xywh[0])
        assert len(Holds.held) == 1, "the one of the sequence before is closed"
    guest.close()
    assert (Holds.made, Holds.held) == (made + 6, [])


def test_a_full_disk_is_one_line_and_nothing_is_lost(otb: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out")
    written = 0
    write_line = files.LineFile.write_line

    def until_full(self: files.LineFile, line: str) -> None:
        nonlocal written
        written += 1
        if written > 3 * FRAMES + 5:
            raise files.sink_error(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        write_line(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(files.LineFile, "write_line", until_full)
        done = bench(*arguments)
    assert done.code == 2
    assert [line for line in done.err.splitlines() if "No space left on device" in line] == [done.err.splitlines()[-1]]
    folder = RunFolder(Path("out/OTB100/test-still"))
    assert folder.sequences() == ("Deer",)
    assert not list(folder.path.glob("*.part"))
    assert bench(*arguments).code == 0
    assert folder.sequences() == SEQUENCES


def test_results_of_other_settings_are_refused(otb: Path, bench: Bench) -> None:
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-random", "--out", "out")
    bench(*arguments)
    before = content(Path("out/OTB100/test-random"))
    refused = bench(*arguments, "--seed", 1)
    assert refused.code == 2
    assert refused.err.splitlines()[-1].startswith(
        "error: expected results of these settings in out/OTB100/test-random, it has those of another seed"
    )
    assert content(Path("out/OTB100/test-random")) == before
    assert bench(*arguments, "--seed", 1, "--force").code == 0
    assert content(Path("out/OTB100/test-random")) != before
    for path in Path("out/OTB100/test-random").glob("*.txt"):
        path.unlink()
    assert bench(*arguments).code == 0, "settings without results bind nobody"
    assert bench(*arguments, "--seed", 1).code == 2
    Path("out/OTB100/test-random/run.json").unlink()  # now nobody knows the settings
    assert "expected out/OTB100/test-random/run.json beside the results there" in bench(*arguments, "--seed", 1).err
    assert bench(*arguments, "--force").code == 0
    assert content(Path("out/OTB100/test-random")) == before


def test_results_of_another_version_are_said(otb: Path, bench: Bench) -> None:
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out")
    bench(*arguments)
    path = Path("out/OTB100/test-still/run.json")
    record = json.loads(path.read_text())
    record["environments"][0]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    assert "out/OTB100/test-still goes on with another torch than before" in bench(*arguments).err
    assert len(json.loads(path.read_text())["environments"]) == 2
    path.write_text("{")
    assert "--force starts anew" in bench(*arguments).err


def test_random_trackers_repeat_themselves_whatever_ran_before(otb: Path, bench: Bench) -> None:
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-random")
    bench(*arguments, "--out", "all")
    bench(*arguments, "--out", "one", "--sequence", "Jogging_2")
    one, everything = content(Path("one/OTB100/test-random")), content(Path("all/OTB100/test-random"))
    assert one["Jogging-2.txt"] == everything["Jogging-2.txt"] != everything["Deer.txt"]
    bench(*arguments, "--out", "runs", "--runs", 2)
    first, second = (content(Path(f"runs/OTB100/test-random_{run:03d}")) for run in (0, 1))
    assert first == everything
    assert first["Deer.txt"] != second["Deer.txt"]


def test_a_folder_that_another_run_writes_to_is_left_alone(otb: Path, bench: Bench) -> None:
    with Campaign(Path("out"), "cpu") as campaign:
        campaign.jobs(read_course(find_suite("otb"), otb), [find_entrant("test-still", "cpu")])
        refused = bench("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out")
    assert refused.code == 2
    assert "expected to write to out/OTB100/test-still alone, another run does" in refused.err


def test_run_tracker_with_benchmark_is_bench_run(otb: Path, bench: Bench) -> None:
    assert bench("check", "--root", otb).code == 0
    arguments = ["--benchmark=otb", "--root", str(otb), "--tracker", "test-still", "--sequence", "Deer", "--out", "out"]
    assert main(["track", *arguments]) == 0
    assert RunFolder(Path("out/OTB100/test-still")).sequences() == ("Deer",)


def test_json_has_every_event_on_a_line(otb: Path, bench: Bench) -> None:
    done = bench(
        "run", "--benchmark", "otb", "--root", otb, "--tracker", "test-raises", "--tracker", "test-still", "--out", "out", "--json"
    )
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == ["failed"] * 4 + ["done"] * 4 + ["result"] * 2
    assert events[-1]["entrant"] == "test-still"
    assert events[-1]["sequences"] == 4
    assert 0.0 < events[-1]["success_auc"] < 1.0


def test_damaged_sequences_are_failures_for_programs_too(otb: Path, tmp_path: Path, bench: Bench) -> None:
    root = Path(shutil.copytree(otb, tmp_path / "damaged"))
    (root / "Girl" / "groundtruth_rect.txt").write_text("")
    arguments = ("run", "--benchmark", "otb", "--benchmark", "otb2013", "--root", root, "--tracker", "test-raises", "--out", "out")
    done = bench(*arguments, "--json")
    failed = {event["sequence"]: event["reason"] for event in map(json.loads, done.out.splitlines()) if event["event"] == "failed"}
    assert set(failed) == set(SEQUENCES)
    assert failed["Girl"].endswith("it is empty")
    assert done.out.count('"Girl"') == 1, "OTB-2013 is a part of OTB-100"
    assert done.err.splitlines()[-1].startswith("4 of 4 sequences failed")
    assert done.code == 1


def test_a_log_file_gets_a_line_now_and_then_in_place_of_the_bar(otb: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    done = bench("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-raises", "--tracker", "test-still", "--out", "out")
    lines = [line for line in done.err.splitlines() if " left" in line]
    assert re.fullmatch(rf"0 of 8 sequences, 1 of {8 * FRAMES} frames, [\d.]+ frames/s, \d\d:\d\d left", lines[0]), lines[0]
    assert re.fullmatch(rf"4 of 8 sequences, 4 failed, {8 * FRAMES} of {8 * FRAMES} frames, [\d.]+ frames/s, 00:00 left", lines[-1])


def test_a_benchmark_is_told_in_its_own_numbers(tmp_path: Path, bench: Bench) -> None:
    videos = write_otb(tmp_path / "otb")
    for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000002"):
        shutil.copytree(videos / "Deer" / "img", tmp_path / "val" / name)
        shutil.copy(videos / "Deer" / "groundtruth_rect.txt", tmp_path / "val" / name / "groundtruth.txt")
    done = bench("run", "--benchmark", "got10k", "--root", tmp_path, "--tracker", "test-still", "--out", "out")
    assert re.search(r"2 of 180 sequences; AO 0\.\d{3}, SR50 0\.\d{3}, SR75 0\.\d{3}; ", done.out), done.out


def test_otb2013_shares_the_results_of_otb100(otb: Path, bench: Bench) -> None:
    bench("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out")
    done = bench(
        "run", "--benchmark", "otb2013", "--benchmark", "otb50", "--root", otb, "--tracker", "test-still", "--out", "out", "--json"
    )
    assert [json.loads(line)["event"] for line in done.out.splitlines()] == ["result", "result"]
    assert [path.name for path in Path("out").iterdir()] == ["OTB100"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "otp", "--root", "."], "did you mean 'otb'"),
        (["--benchmark", "otb", "--root", "nowhere"], "expected OTB at nowhere"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "ligth"], "did you mean 'light'"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "light/kcf"], "expected a channel of light out of online, online-careful"),
        (["--benchmark", "otb", "--root", "DATA", "--sequence", "Dear"], "expected sequences of OTB-100 that are under"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "mosse", "--replay"], "expected a preset or a settings file"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "mosse", "--tracker", "prdimp18"], "expected the weights of prdimp18"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "mosse", "--address", "auto"], "expected --engine ray with --address auto"),
        (["--benchmark", "otb", "--root", "DATA", "--jobs", "0"], "expected a whole number of at least 1"),
        (["--benchmark", "otb", "--root", "DATA", "--tracker", "test-still", "--out", "/proc/none"], "/proc/none"),
        (["--benchmark", "otb", "--root", "DATA", "--out", ""], "argument --out: expected a path, got an empty text"),
        (["--benchmark", "otb", "--root", "s3://bucket/otb"], "expected a path on this machine, got the address 's3://bucket/otb'"),
        (["--benchmark", "otb"], "required: --root"),
    ],
)
def test_mistakes_are_one_line(otb: Path, bench: Bench, arguments: list[str], message: str) -> None:
    done = bench("run", *[str(otb) if text == "DATA" else text for text in arguments])
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_check_says_what_is_there_and_what_is_wrong(otb: Path, tmp_path: Path, bench: Bench) -> None:
    root = Path(shutil.copytree(otb, tmp_path / "data" / "OTB100")).parent
    good = bench("check", "--root", root)
    assert good.code == 0
    assert [line.partition(",")[0] for line in good.out.splitlines()] == [
        "OTB-100: 4 of 100 sequences",
        "OTB-2013: 4 of 51 sequences",
        "OTB-50: 2 of 50 sequences",
    ]
    assert good.out.splitlines()[2].endswith("; 24 frames")
    (root / "OTB100" / "Girl" / "groundtruth_rect.txt").write_text("1,2,3\n")
    bad = bench("check", "--root", root, "--benchmark", "otb")
    assert bad.code == 1
    assert "  Girl: expected four numbers x,y,w,h in line 1" in bad.out
    some = bench("check", "--root", root, "--benchmark", "otb", "--benchmark", "lasot", "--benchmark", "nfs")
    assert (some.code, some.out) == (2, bad.out)
    assert [line[:23] for line in some.err.splitlines()] == ["error: expected LaSOT a", "error: expected NFS at "]
    nothing = bench("check", "--root", tmp_path / "empty")
    assert nothing.code == 2
    assert "found none" in nothing.error


def test_a_sequence_need_not_be_in_every_benchmark(otb: Path, bench: Bench) -> None:
    checked = bench("check", "--root", otb, "--sequence", "Jogging.1")
    assert checked.code == 0, checked.err
    assert [line.partition(":")[0] for line in checked.out.splitlines()] == ["OTB-100", "OTB-2013"]
    arguments = ("run", "--benchmark", "otb", "--benchmark", "otb50", "--root", otb, "--tracker", "test-still", "--out", "out")
    done = bench(*arguments, "--sequence", "Jogging_1", "--sequence", "Deer")
    assert (done.code, done.out.count("2 of 100 sequences"), done.out.count("1 of 50 sequences")) == (0, 1, 1), done
    assert "OTB-50" not in bench(*arguments, "--sequence", "Jogging_1").out
    refused = bench(*arguments, "--sequence", "Deer", "--sequence", "Dear")
    assert refused.err == f"error: expected sequences of OTB-100, OTB-50 that are under {otb}, got Dear\n"


def test_worker_processes_give_the_same_files_and_survive_a_crash(otb: Path, tmp_path: Path) -> None:
    course = read_course(find_suite("otb"), otb)
    random = Entrant("random", (ChannelConfig("random", "test-random", {"note": Note()}),))
    dies = Entrant("dies", (ChannelConfig("dies", "test-dies", {"note": Note(), "parent": os.getpid()}),))
    for out, engine in (("one", SerialEngine("cpu")), ("two", ProcessEngine(2, ["cpu"]))):
        with Campaign(tmp_path / out, "cpu") as campaign:
            assert all(not isinstance(event, Failed) for event in engine.run(campaign.jobs(course, [random])))
    assert content(tmp_path / "one/OTB100/random") == content(tmp_path / "two/OTB100/random")
    assert len(content(tmp_path / "two/OTB100/random")) == 2 * len(SEQUENCES)
    with Campaign(tmp_path / "crash", "cpu") as campaign:
        both = campaign.jobs(course, [dies])[:1] + campaign.jobs(course, [random])[:1]
        ended = {event.job.entrant.name: event for event in ProcessEngine(1, ["cpu"]).run(both) if isinstance(event, Done | Failed)}
    assert isinstance(ended["random"], Done)
    assert isinstance(ended["dies"], Failed)
    assert ended["dies"].reason == "the worker process ended with exit code -9 in the middle of the sequence"
    assert not list((tmp_path / "crash").rglob("*.part"))


def test_a_worker_that_dies_between_two_jobs_is_replaced(otb: Path, tmp_path: Path) -> None:
    still = Entrant("still", (ChannelConfig("still", "test-still", {"note": Note()}),))
    worker = _Worker("cpu")
    with Campaign(tmp_path, "cpu") as campaign:
        for job in campaign.jobs(read_course(find_suite("otb"), otb, ["Deer", "Girl"]), [still]):
            worker.start(job)
            while isinstance(event := worker.receive(), Advanced):
                pass
            assert isinstance(event, Done)
            assert worker._process is not None
            worker._process.kill()
            worker._process.join()
        worker.end()
    assert RunFolder(tmp_path / "OTB100" / "still").sequences() == ("Deer", "Girl")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_job_after_one_that_failed_on_a_gpu_gets_a_new_process(device: str, otb: Path, tmp_path: Path) -> None:
    """An error of CUDA stays with the process."""
    course = read_course(find_suite("otb"), otb, ["Deer", "Girl"])
    both = [Entrant(name, (ChannelConfig(name, f"test-{name}", {"note": Note()}),)) for name in ("raises", "still")]
    worker = _Worker(device)
    with Campaign(tmp_path, "cpu") as campaign:
        [raises, still] = [campaign.jobs(course, [entrant])[0] for entrant in both]
        for job, ended in ((raises, Failed), (still, Done)):
            worker.start(job)
            event = next(event for event in iter(worker.receive, None) if not isinstance(event, Advanced))
            assert isinstance(event, ended)
            assert (worker._process is None) == (device == "cuda" and ended is Failed)
    worker.end()


def test_replay_records_the_channels_once_and_fuses_their_boxes(otb: Path, tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "duo.toml").write_text(
        '[[channels]]\nname = "a"\ntracker = "template"\n[[channels]]\nname = "b"\ntracker = "flow"\nparams = { keeps_aspect = false }\n'
    )
    arguments = ("run", "--benchmark", "otb", "--root", otb, "--sequence", "Deer", "--tracker", "duo.toml", "--replay", "--out", "out")
    done = bench(*arguments)
    assert done.code == 0, done.err
    assert sorted(path.name for path in Path("out/OTB100").iterdir()) == ["duo-replay", "duo.b", "template"]
    assert json.loads(Path("out/OTB100/duo-replay/run.json").read_text())["settings"]["sources"] == {"a": "template", "b": "duo.b"}
    assert "AUC 0.9" in next(line for line in done.out.splitlines() if "duo-replay" in line)
    fused = content(Path("out/OTB100/duo-replay"))
    shutil.rmtree("out/OTB100/duo-replay")
    again = bench(*arguments, "--json")
    assert [json.loads(line)["entrant"] for line in again.out.splitlines() if '"done"' in line] == ["duo-replay"]
    assert content(Path("out/OTB100/duo-replay")) == fused


def test_a_replay_without_its_recording_is_a_failure_of_that_sequence(otb: Path, tmp_path: Path) -> None:
    course = read_course(find_suite("otb"), otb, ["Deer"])
    fused, _ = replayed(find_entrant("light", "cpu"))
    with Campaign(tmp_path, "cpu") as campaign:
        [event] = SerialEngine("cpu").run(campaign.jobs(course, [fused]))
    assert isinstance(event, Failed)
    assert event.reason.startswith("expected recorded boxes of online on Deer")


def test_ablation_runs_every_variant_of_table_9_on_recorded_boxes(otb: Path, tmp_path: Path, bench: Bench) -> None:
    channels = "".join(f'[[channels]]\nname = "{name}"\ntracker = "{name}"\n' for name in ("template", "flow", "test-still", "mosse"))
    (tmp_path / "few.toml").write_text(channels)
    done = bench("ablate", "--benchmark", "otb", "--root", otb, "--sequence", "Deer", "--tracker", "few.toml", "--out", "out", "--json")
    assert done.code == 0, done.err
    rows = {event["variant"]: event for event in map(json.loads, done.out.splitlines()) if "variant" in event}
    assert set(rows) == {"full", "no_spectral", "no_seg2box", "median", "best", "top3", "iterations_1", "iterations_2", "iterations_3"}
    assert rows["full"]["entrant"] == rows["iterations_1"]["entrant"] == "few-replay"
    settings = json.loads(Path("out/OTB100/few-replay-top3/run.json").read_text())["settings"]
    assert "test-still" not in [channel["name"] for channel in settings["channels"]]
    boxes = {
        name: read_boxes(Path(f"out/OTB100/few-replay{name}/Deer.txt")) for name in ("", "-no_spectral", "-no_seg2box", "-median", "-best")
    }
    assert all(not np.array_equal(boxes[""], boxes[name]) for name in boxes if name)
    refused = bench("ablate", "--benchmark", "otb", "--root", otb, "--tracker", "mosse")
    assert "got the single tracker 'mosse'" in refused.err


def test_a_fusion_of_the_best_channels_begins_anew_when_others_are_the_best(otb: Path, tmp_path: Path) -> None:
    course = read_course(find_suite("otb"), otb)

    def campaign(seed: int = 0, *, force: bool = False) -> Campaign:
        return Campaign(tmp_path / "out", "cpu", seed, force)

    best, other = (Entrant("top", (ChannelConfig(name, name),)) for name in ("test-still", "test-random"))
    with campaign() as first:
        assert all(isinstance(event, Done) for event in SerialEngine("cpu").run(first.jobs(course, [best])) if not hasattr(event, "frames"))
    with campaign() as again:
        assert again.jobs(course, [best], renew=True) == again.notes == []
    with campaign() as refused, pytest.raises(ConfigError, match="another channels"):
        refused.jobs(course, [other])
    with campaign(seed=1) as refused, pytest.raises(ConfigError, match="another channels, seed"):
        refused.jobs(course, [other], renew=True)
    with campaign() as anew:
        assert len(anew.jobs(course, [other], renew=True)) == len(SEQUENCES)
        assert anew.notes == [f"{tmp_path}/out/OTB100/top begins anew, its channels are others than before"]
    (tmp_path / "out/OTB100/top/run.json").write_text("{")
    with campaign() as refused, pytest.raises(ConfigError, match="--force starts anew"):
        refused.jobs(course, [best], renew=True)
    with campaign(force=True) as forced:
        assert len(forced.jobs(course, [best], renew=True)) == len(SEQUENCES)


def test_unknown_channel_settings_stop_before_anything_is_run(otb: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        find_entrant(str(tmp_path / "nowhere.toml"), "cpu")
    settings_file = tmp_path / "mine.toml"
    for tracker, reason in (
        ('"template"\nparams = { reech = 2 }', "did you mean|expected a setting of 'template'"),
        ('"templete"', "expected a tracker out of"),
        ('"prdimp18"\nparams = { weights = "nope.pth" }', r"nope\.pth"),
    ):
        settings_file.write_text(f'[[channels]]\nname = "a"\ntracker = {tracker}\n')
        with pytest.raises(SFTrackError, match=reason):
            find_entrant(str(settings_file), "cpu")
