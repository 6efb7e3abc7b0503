"""`sftrack bench report | compare | export`: the files that they make, and the folders of others that they read."""

import csv
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sftrack.benchmark.boards import open_course, own_contenders, read_board, read_truth
from sftrack.benchmark.export import export
from sftrack.benchmark.foreign import find_contenders
from sftrack.benchmark.grids import Grid, board_grid, paper_grids, sequence_grid
from sftrack.benchmark.plan import Course, read_course
from sftrack.benchmark.results import RunFolder
from sftrack.benchmark.suites import SUITES
from sftrack.benchmark.tables import latex_of, text_of
from sftrack.datasets import read_boxes
from sftrack.datasets.otb import ATTRIBUTES
from tests.benchmark_data import FRAMES, SEQUENCES, write_otb
from tests.conftest import Run

Bench = Callable[..., Run]


@pytest.fixture(scope="session")
def otb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_otb(tmp_path_factory.mktemp("otb"))
    (root / "anno" / "att").mkdir(parents=True)
    for number, name in enumerate(SEQUENCES):
        (root / "anno" / "att" / f"{name}.txt").write_text(",".join(str((number + at) % 2) for at in range(len(ATTRIBUTES))) + "\n")
    return root


@pytest.fixture(scope="session")
def course(otb: Path) -> Course:
    return read_course(SUITES["otb"], otb)


def boxes_of(course: Course, name: str, off: float = 0.0) -> np.ndarray:
    """The truth as its file has it, 1-based, moved to the right from the second frame on."""
    video = next(video for video in course.videos if video.name == name)
    boxes = video.boxes_xywh + np.array([1.0, 1.0, 0.0, 0.0])
    boxes[1:, 0] += off
    return boxes


def write_own(course: Course, out: Path, entrant: str, off: float, names: tuple[str, ...] = SEQUENCES) -> RunFolder:
    folder = RunFolder.of(out, course.suite.dataset, entrant)
    for name in names:
        with folder.writing(name, 1) as writer:
            for box in boxes_of(course, name, off) - np.array([1.0, 1.0, 0.0, 0.0]):
                writer.write(box, 0.02, 0.5)
    return folder


def write_text(path: Path, rows: np.ndarray, delimiter: str = ",", form: str = "%.3f") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt=form, delimiter=delimiter)


class _Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_has_tables_plots_and_a_page_that_needs_nothing_else(otb: Path, course: Course, bench: Bench) -> None:
    write_own(course, Path("out"), "good", 1.0)
    bad = write_own(course, Path("out"), "bad", 9.0, SEQUENCES[:3])
    bad.write_failure("Jogging-2", "Trouble: <b> & co", "Traceback")
    done = bench("report", "--out", "out", "--root", otb)
    assert done.code == 0, done
    assert re.search(r"^  good +0\.\d{3} .* 50\.0 +20\.0 +4 of 100 +0$", done.out, re.M), done.out
    assert done.out.index("  good ") < done.out.index("  bad ")
    assert re.search(r"^  SFTrack\+\+ \(published\) +70\.3 +61\.2 +62\.4 +62\.0 +73\.3 +47\.8 +71\.9 +81\.9 +76\.1$", done.out, re.M)
    assert re.search(r"^  good +\d\d\.\d\* ", done.out, re.M)  # of four sequences: no figure to hold against the published
    folder = Path("out/report")
    summary = list(csv.DictReader((folder / "summary.csv").open()))
    assert [(row["tracker"], row["sequences"], row["failed_sequences"]) for row in summary] == [("good", "4", "0"), ("bad", "3", "1")]
    overall = read_board(course, find_contenders(course, Path("out/OTB100/good"))).rows[0].standing.overall
    assert overall is not None
    assert float(summary[0]["success_auc"]) == pytest.approx(overall.success_auc, abs=1e-6)
    sequences = list(csv.DictReader((folder / "sequences.csv").open()))
    assert (len(sequences), {(row["frames_per_second"], row["p95_s"]) for row in sequences}) == (7, {("50.000", "0.020000")})
    assert {row["attribute"] for row in csv.DictReader((folder / "attributes.csv").open())} == set(ATTRIBUTES)
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["otb_attributes.png", "otb_normalised_precision.png", "otb_precision.png", "otb_success.png"]
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    page = _Page()
    page.feed((folder / "report.html").read_text())
    assert page.tags.count("img") == len(pictures)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "Jogging-2: Trouble: <b> & co" in page.text
    assert "SFTrack++ (published)" in page.text


def test_without_matplotlib_the_tables_are_made_and_the_line_says_what_to_install(
    otb: Path, course: Course, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own(course, Path("out"), "good", 1.0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = bench("report", "--out", "out", "--root", otb)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "error: the package 'matplotlib' is not installed; for plots and the page: "
        'pip install "sftrack[bench]"; the tables are in out/report'
    )
    assert Path("out/report/tables.tex").is_file()


def test_the_data_set_is_found_where_the_run_was_made(otb: Path, bench: Bench) -> None:
    bench("run", "--benchmark", "otb", "--root", otb, "--tracker", "test-still", "--out", "out", "--runs", 2)
    done = bench("report", "--out", "out")
    assert done.code == 0, done
    assert re.search(r"^  test-still \(2 runs\) .* 4 of 100 ", done.out, re.M)
    text = Path("out/report/report.html").read_text()
    assert "&#34;seed&#34;: 0" in text
    Path("out/OTB100/test-still_000/run.json").unlink()
    Path("out/OTB100/test-still_001/run.json").unlink()
    assert "give --root" in bench("report", "--out", "out").err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("report", "--out", "nowhere"), "error: expected results of `sftrack bench run` in nowhere, found none; give --out"),
        (("report", "--out", "out", "--conventions", "mine"), "error: expected --conventions out of otb, uav123, nfs"),
        (("report", "--out", "out", "--tracker", "none"), "error: expected results of none on OTB-100 in out, found those of good"),
        (("compare", "elsewhere", "--benchmark", "otb", "--out", "out"), "error: expected a folder of results at elsewhere, there is none"),
        (
            ("compare", "empty", "--benchmark", "otb", "--out", "out"),
            "error: expected results of OTB-100 (<sequence>.txt) in empty or below it",
        ),
        (
            ("export", "--benchmark", "otb", "--format", "vot", "--to", "x", "--out", "out"),
            "error: expected a format out of pytracking, got10k",
        ),
        (
            ("export", "--benchmark", "otb", "--format", "lasot", "--to", "x", "--out", "out"),
            "error: expected a benchmark that lasot has (lasot)",
        ),
        (
            ("export", "--benchmark", "otb", "--format", "got10k", "--to", "out", "--out", "out"),
            "error: expected an empty folder, or none, at out",
        ),
        (
            ("export", "--benchmark", "otb", "--format", "got10k", "--to", "x", "--out", "out", "--tracker", "who"),
            "error: expected results of who in out/OTB100, found none",
        ),
    ],
)
def test_bad_input_is_one_clear_line(otb: Path, course: Course, bench: Bench, arguments: tuple[str, ...], line: str) -> None:
    write_own(course, Path("out"), "good", 1.0, ("Deer",))
    Path("empty").mkdir()
    done = bench(*arguments, *(() if arguments[0] == "export" else ("--root", otb)))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith(line)


def test_nothing_of_ours_to_report_or_to_compare_with_is_said_with_what_to_give(course: Course, bench: Bench) -> None:
    write_own(course, Path("out"), "good", 1.0, ("Deer",))
    for command in (("report",), ("compare", "theirs")):
        done = bench(*command, "--out", "out", "--benchmark", "lasot")
        line = "error: expected results of LaSOT, test in out, found none; for those of others alone give --root or --truth\n"
        assert (done.code, done.err) == (2, line)


def test_a_folder_need_not_have_results_of_every_benchmark(course: Course, bench: Bench, otb: Path) -> None:
    write_own(course, Path("out"), "ours", 1.0)
    for folder, name in (("theirs", "Deer"), ("part", "Jogging-1")):  # OTB-50 has Deer and not Jogging-1
        write_text(Path(folder) / f"{name}.txt", boxes_of(course, name))
    arguments = ("--benchmark", "otb50", "--benchmark", "otb", "--out", "out", "--root", otb)
    done = bench("compare", "theirs", "part", *arguments)
    assert done.code == 0, done.err
    half, whole = (text.partition("Table 8")[0] for text in done.out.split("OTB-100\n")[:2])
    assert ("  theirs " in half, "  part " in half) == (True, False)
    assert ("  theirs " in whole, "  part " in whole) == (True, True)
    Path("empty").mkdir()
    assert "error: expected results of OTB-50 (<sequence>.txt) in empty or below it" in bench("compare", "empty", *arguments).err


def test_only_common_sequences_are_judged_when_asked(course: Course, tmp_path: Path) -> None:
    for name, off, sequences in (("a", 1.0, SEQUENCES), ("b", 2.0, SEQUENCES[:2])):
        for sequence in sequences:
            write_text(tmp_path / name / f"{sequence}.txt", boxes_of(course, sequence, off))
    contenders = find_contenders(course, tmp_path)
    apart, common = read_board(course, contenders), read_board(course, contenders, common=True)
    assert any("do not compare" in note for note in apart.notes)
    assert board_grid(apart).best == frozenset()
    assert [len(row.standing.sequences) for row in common.rows] == [2, 2]
    assert {row for row, column in board_grid(common).best if column == 1} == {0}


def test_the_conventions_of_another_toolkit_may_be_taken(otb: Path, course: Course, bench: Bench) -> None:
    write_own(course, Path("out"), "good", 1.0)
    plain, other = (
        bench("report", "--out", "out", "--root", otb, "--to", name, *flags)
        for name, flags in (("a", ()), ("b", ("--conventions", "got10k")))
    )
    assert "21 overlap thresholds" in plain.out
    assert "101 overlap thresholds; mean over frames" in other.out
    aucs = [float(next(csv.DictReader(Path(name, "summary.csv").read_text().splitlines()))["success_auc"]) for name in ("a", "b")]
    assert aucs[0] != aucs[1]


def test_folders_of_pytracking_are_read_at_every_level(course: Course, tmp_path: Path) -> None:
    names = {"Deer": "Deer", "Girl": "Girl", "Jogging-1": "Jogging_1", "Jogging-2": "Jogging_2"}
    for run in range(3):
        home = tmp_path / "tracking_results" / "dimp" / f"dimp50_{run:03d}"
        for sequence, name in names.items():
            write_text(home / f"{name}.txt", boxes_of(course, sequence, 1.0 + run).astype(int), "\t", "%d")
            write_text(home / f"{name}_time.txt", np.full(FRAMES, 0.1), form="%f")
            write_text(home / f"{name}_object_presence_scores.txt", np.ones(FRAMES))
            write_text(home / f"uav_{name}.txt", np.zeros((FRAMES, 4)), "\t", "%d")
            write_text(home / f"nfs_{name}.txt", np.zeros((FRAMES, 4)), "\t", "%d")
    above = find_contenders(course, tmp_path / "tracking_results")
    assert [(one.name, len(one.runs)) for one in above] == [("dimp/dimp50", 3)]
    row = read_board(course, above).rows[0]
    assert [one.name for one in find_contenders(course, tmp_path)] == ["dimp/dimp50"]
    single = find_contenders(course, tmp_path / "tracking_results" / "dimp" / "dimp50_001", "mine")
    assert [(one.name, len(one.runs)) for one in single] == [("mine", 1)]
    middle = read_board(course, single).rows[0].standing
    assert row.standing.overall is not None
    assert middle.overall is not None
    assert row.standing.overall.precision[2] == pytest.approx((3 * FRAMES - (FRAMES - 1)) / (3 * FRAMES))  # the run that is off by 3
    assert middle.overall.precision[1] == pytest.approx(1 / FRAMES)
    assert row.standing.speed is not None
    assert row.standing.speed.frames_per_second == pytest.approx(10.0)
    assert row.name == "dimp/dimp50 (3 runs)"


def test_folders_of_pysot_are_read_and_those_of_other_data_sets_are_not(course: Course, tmp_path: Path) -> None:
    for sequence in SEQUENCES:
        write_text(tmp_path / "results" / "OTB100" / "siamrpn" / f"{sequence}.txt", boxes_of(course, sequence, 1.0), form="%s")
        write_text(tmp_path / "results" / "UAV123" / "siamrpn" / f"{sequence}.txt", np.zeros((FRAMES, 4)))
    contenders = find_contenders(course, tmp_path / "results")
    assert [one.name for one in contenders] == ["siamrpn"]
    assert contenders[0].origin == tmp_path / "results" / "OTB100" / "siamrpn"
    assert set(read_board(course, contenders).rows[0].standing.sequences) == set(SEQUENCES)


def test_boxes_that_count_from_0_are_shifted_and_it_is_said(course: Course, tmp_path: Path) -> None:
    for sequence in SEQUENCES:
        write_text(tmp_path / f"{sequence}.txt", boxes_of(course, sequence) - np.array([1.0, 1.0, 0.0, 0.0]))
    board = read_board(course, find_contenders(course, tmp_path))
    assert board.rows[0].standing.overall is not None
    assert board.rows[0].standing.overall.precision[0] == 1.0
    assert any("counts pixels from 0" in note for note in board.notes)


def test_folders_of_the_got10k_toolkit_are_read_with_its_times(course: Course, tmp_path: Path) -> None:
    names = {"Deer": "Deer", "Girl": "Girl", "Jogging-1": "Jogging.1", "Jogging-2": "Jogging.2"}
    home = tmp_path / "results" / "OTB2015" / "SiamFC"
    for sequence, name in names.items():
        write_text(home / f"{name}.txt", boxes_of(course, sequence, 1.0))
        write_text(home / "times" / f"{name}_time.txt", np.full(FRAMES, 0.05), form="%.8f")
    contenders = find_contenders(course, tmp_path / "results")
    assert [one.name for one in contenders] == ["SiamFC"]
    standing = read_board(course, contenders).rows[0].standing
    assert standing.missing == ()
    assert standing.speed is not None
    assert standing.speed.frames_per_second == pytest.approx(20.0)


@pytest.mark.parametrize(("suite_key", "origin"), [("nfs", "NfS/30/SiamFC"), ("nfs240", "NfS/240/SiamFC")])
def test_each_rate_of_nfs_has_its_own_results(tmp_path: Path, suite_key: str, origin: str) -> None:
    for number in ("30", "240"):
        write_text(tmp_path / "NfS" / number / "SiamFC" / "Gymnastics.txt", np.full((5, 4), 10.0))
    write_text(tmp_path / "truth" / "Gymnastics.txt", np.full((5, 4), 10.0))
    course = read_truth(SUITES[suite_key], tmp_path / "truth")
    contenders = find_contenders(course, tmp_path / "NfS")
    assert [(one.name, one.origin) for one in contenders] == [("SiamFC", tmp_path / origin)]


def test_repetitions_on_got10k_are_runs(otb: Path, tmp_path: Path) -> None:
    root = tmp_path / "GOT-10k"
    course_otb = read_course(SUITES["otb"], otb)
    truth = boxes_of(course_otb, "Deer")
    shutil.copytree(otb / "Deer" / "img", root / "val" / "GOT-10k_Val_000001")
    write_text(root / "val" / "GOT-10k_Val_000001" / "groundtruth.txt", truth)
    course = read_course(SUITES["got10k"], root)
    home = tmp_path / "results" / "GOT-10k" / "SiamFC" / "GOT-10k_Val_000001"
    for run, off in ((1, 0.0), (2, 100.0), (3, 100.0)):
        write_text(home / f"GOT-10k_Val_000001_{run:03d}.txt", boxes_of(course_otb, "Deer", off))
    write_text(home / "GOT-10k_Val_000001_time.txt", np.full((FRAMES, 3), [0.1, 0.2, 0.2]), form="%.8f")
    (one,) = find_contenders(course, tmp_path / "results")
    row = read_board(course, [one]).rows[0]
    assert row.name == "SiamFC (3 runs)"
    assert row.standing.overall is not None
    assert row.standing.overall.average_overlap == pytest.approx(1 / 3)
    assert row.standing.speed is not None
    assert row.standing.speed.frames_per_second == pytest.approx(6.0)


@pytest.mark.parametrize(("suite_key", "count", "published"), [("otb", 100, 0.461), ("otb2013", 51, 0.474)])
def test_struck_comes_out_as_published(shared: Path, suite_key: str, count: int, published: float) -> None:
    folder = shared / "data" / "published_boxes" / "OTB2015"
    course = read_truth(SUITES[suite_key], folder / "ground_truth")
    board = read_board(course, find_contenders(course, folder / "STRUCK"))
    (row,) = board.rows
    assert (row.name, len(row.standing.sequences), row.standing.missing) == ("STRUCK", count, ())
    assert row.standing.overall is not None
    assert row.standing.overall.success_auc == pytest.approx(published, abs=0.002)


def test_rows_of_images_before_the_first_that_counts_are_left_out(tmp_path: Path) -> None:
    truth = np.column_stack([np.arange(354.0), np.full(354, 5.0), np.full((354, 2), 20.0)])
    write_text(tmp_path / "truth" / "Tiger1.txt", truth)
    write_text(tmp_path / "theirs" / "Tiger1.txt", truth)
    course = open_course(SUITES["otb"], tmp_path, None, tmp_path / "truth")
    assert len(course.videos[0]) == 349
    overall = read_board(course, find_contenders(course, tmp_path / "theirs")).rows[0].standing.overall
    assert overall is not None
    assert overall.precision[0] == 1.0


def test_the_ablation_stands_beside_table_9(course: Course, tmp_path: Path) -> None:
    for name, off in (("full-replay", 1.0), ("full-replay-no_spectral", 2.0), ("full-replay-top3", 3.0)):
        write_own(course, tmp_path, name, off)
    settings = {"settings": {"pipeline": {"iterations": 2}}, "environments": [], "root": "data"}
    (tmp_path / "OTB100" / "full-replay" / "run.json").write_text(json.dumps(settings))
    table8, table9 = paper_grids([read_board(course, own_contenders(tmp_path, course.suite))])
    assert [row[0] for row in table8.rows][-2:] == ["SFTrack++ (published)", "full-replay"]
    assert table8.published == set(range(8))
    rows = {row[0]: row[1:] for row in table9.rows}
    assert rows["SFTrack++ as it is"][:2] == ("64.5", "-")  # a mean needs all three data sets
    assert rows["2 spectral iterations"][2] == rows["SFTrack++ as it is"][2] != "-"
    assert rows["without the spectral step"][0] == "64.0"
    assert rows["without the spectral step"][2].endswith("*")
    assert rows["median of the channels as input"] == ("63.7", "-", "-", "-", "-")


def test_all_that_lead_by_the_digits_shown_are_marked_best(course: Course, tmp_path: Path) -> None:
    for name, off in (("one", 1.0), ("two", 1.0), ("three", 5.0)):
        write_own(course, tmp_path, name, off)
    board = read_board(course, own_contenders(tmp_path, course.suite))
    leading = {row for row, column in board_grid(board).best if column == 1}
    assert {board.rows[row].name for row in leading} == {"one", "two"}
    grid = sequence_grid(board)
    assert {grid.header[column] for _, column in grid.best} == {"one", "two"}


def test_failures_outside_a_part_of_a_benchmark_are_not_of_the_part(course: Course, tmp_path: Path) -> None:
    folder = write_own(course, tmp_path, "one", 1.0)
    for name in ("Girl", "Biker"):  # Biker is of OTB-100, but not of OTB-2013
        folder.write_failure(name, "trouble", "")
    failures = {key: set(own_contenders(tmp_path, SUITES[key])[0].failures) for key in ("otb", "otb2013")}
    assert failures == {"otb": {"Girl", "Biker"}, "otb2013": {"Girl"}}


def test_it_is_said_why_a_test_set_has_no_figures(tmp_path: Path, bench: Bench) -> None:
    videos = write_otb(tmp_path / "otb")
    folder = tmp_path / "TEST"
    shutil.copytree(videos / "Deer" / "img", folder / "frames" / "video")
    (folder / "anno").mkdir()
    (folder / "anno" / "video.txt").write_text("10,10,20,20\n")
    bench("run", "--benchmark", "trackingnet", "--root", tmp_path, "--tracker", "template", "--out", "out")
    done = bench("report", "--out", "out")
    assert done.code == 0
    assert "(the truth of 1 of 1 sequences is not public; a server judges them (`sftrack bench export`))" in done.out


def test_latex_escapes_names_and_marks_the_best() -> None:
    grid = Grid("T", ("tracker", "A"), (("a_b & 5%", "0.5"), ("c", "-")), best=frozenset({(0, 1)}), published=frozenset({1}))
    text = latex_of([grid])
    assert r"a\_b \& 5\% & \textbf{0.5} \\" in text
    assert r"\textit{c} & \textit{--} \\" in text
    assert text_of(grid).splitlines()[2] == "  a_b & 5%  0.5"


def test_export_for_pytracking_has_its_names_and_tabs(course: Course, bench: Bench) -> None:
    write_own(course, Path("out"), "light_001", 1.25)
    done = bench("export", "--benchmark", "otb", "--out", "out", "--format", "pytracking", "--to", "there")
    assert done.code == 0, done
    assert "4 of 100 sequences" in done.err
    folder = Path("there/sftrack/light_001")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{end}"
        for name in ("Deer", "Girl", "Jogging_1", "Jogging_2")
        for end in (".txt", "_time.txt", "_object_presence_scores.txt")
    }
    assert (folder / "Jogging_1.txt").read_text().splitlines()[:2] == ["13.000\t11.000\t32.000\t32.000", "16.250\t12.000\t32.000\t32.000"]
    assert (folder / "Jogging_1_time.txt").read_text().splitlines() == ["0.020000"] * FRAMES


def test_export_for_the_got10k_toolkit_comes_back_the_same(course: Course, bench: Bench) -> None:
    write_own(course, Path("out"), "light", 1.25)
    assert bench("export", "--benchmark", "otb", "--out", "out", "--format", "got10k", "--to", "there").code == 0
    assert Path("there/results/OTB2015/light/Jogging.2.txt").read_text().splitlines()[1] == "16.250,12.000,32.000,32.000"
    assert Path("there/results/OTB2015/light/times/Jogging.2_time.txt").read_text().splitlines()[0] == "0.02000000"
    ours = read_board(course, find_contenders(course, Path("out/OTB100"))).rows[0]
    back = read_board(course, find_contenders(course, Path("there"))).rows[0]
    assert ours.standing.overall is not None
    assert back.standing.overall is not None
    assert back.standing.overall.as_dict() == ours.standing.overall.as_dict()


def test_what_the_got10k_toolkit_counts_otherwise_is_said(tmp_path: Path) -> None:
    with RunFolder.of(tmp_path, "OTB100", "light").writing("Tiger1", 1) as writer:
        writer.write(np.array([1.0, 2.0, 3.0, 4.0]), 0.1, 1.0)
    notes = export("got10k", SUITES["otb"], tmp_path, tmp_path / "to").notes
    assert "Tiger1 has no boxes for the first 5 images" in notes[1]
    assert len(export("pytracking", SUITES["otb"], tmp_path, tmp_path / "there").notes) == 1


def test_a_submission_to_got10k_is_a_zip_of_folders_with_repetitions(tmp_path: Path) -> None:
    name = "GOT-10k_Test_000001"
    for run in range(2):
        with RunFolder.of(tmp_path, "GOT-10k_test", f"full_{run:03d}").writing(name, 1) as writer:
            for _ in range(3):
                writer.write(np.array([0.0, 1.0, 20.0, 30.0]), 0.1, 1.0)
    exported = export("got10k", SUITES["got10k-test"], tmp_path, tmp_path / "to")
    home = tmp_path / "to" / "results" / "GOT-10k" / "full"
    assert exported.paths == (tmp_path / "to", home.with_suffix(".zip"))
    with zipfile.ZipFile(exported.paths[1]) as archive:
        files = {text for text in archive.namelist() if text.endswith(".txt")}
    assert files == {f"{name}/{name}_001.txt", f"{name}/{name}_002.txt", f"{name}/{name}_time.txt"}
    assert (home / name / f"{name}_001.txt").read_text() == "1.000,2.000,20.000,30.000\n" * 3


def test_exports_for_trackingnet_and_lasot_are_as_their_servers_take_them(tmp_path: Path) -> None:
    for dataset, name, pixel in (("TrackingNet", "zz-1_0", 0), ("LaSOT", "airplane-1", 1)):
        with RunFolder.of(tmp_path, dataset, "full").writing(name, pixel) as writer:
            writer.write(np.array([0.126, -0.001, 20.0, 30.0]), 0.1, 1.0)
    exported = export("trackingnet", SUITES["trackingnet"], tmp_path, tmp_path / "tn")
    (_, archive) = exported.paths
    assert exported.notes[0].endswith("1 of 511 sequences of TrackingNet, test; the server would refuse it")
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ["zz-1_0.txt"]
        assert content.read("zz-1_0.txt") == b"0.13,0.00,20.00,30.00\n"
    assert (
        export("lasot", SUITES["lasot"], tmp_path, tmp_path / "lasot")
        .notes[0]
        .endswith("1 of 280 sequences of LaSOT, test; the others are missing")
    )
    path = tmp_path / "lasot" / "tracking_results" / "full_tracking_result" / "airplane-1.txt"
    np.testing.assert_allclose(read_boxes(path), [[1.126, 0.999, 20.0, 30.0]])
