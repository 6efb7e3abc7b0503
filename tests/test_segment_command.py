"""`sftrack segment`: files in, files and a table out, and one line for every mistake."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sftrack.errors import SourceError
from sftrack.segment import files
from sftrack.segment.videos import find_videos, read_masks, read_video
from sftrack.sinks.masks import write_mask
from sftrack.spectral import SFSegPlusPlus
from tests.conformance.test_sinks import largest_file
from tests.conftest import Run, moving_square, runner

FRAMES = 4
SIZE_WH = (96, 72)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two videos of a moving square with masks of two methods, `tight` and `loose`, and the truth."""
    monkeypatch.chdir(tmp_path)
    pictures, boxes = moving_square(FRAMES, SIZE_WH)
    for video in ("one", "two"):
        for index, (picture, box) in enumerate(zip(pictures, boxes.astype(int), strict=True)):
            x, y, w, h = box
            truth = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.uint8)
            truth[y : y + h, x : x + w] = 255
            write(tmp_path / "frames" / video / f"{index:05d}.jpg", picture[..., ::-1])
            write(tmp_path / "gt" / video / f"{index:05d}.png", truth)
            write(tmp_path / "loose" / video / f"{index:05d}.png", cv2.dilate(truth, np.ones((3, 3), np.uint8)))
            write(tmp_path / "tight" / video / f"{index:05d}.png", cv2.erode(truth, np.ones((5, 5), np.uint8)))
    return tmp_path


RunSegment = Callable[..., Run]


@pytest.fixture
def segment(data: Path, capfd: pytest.CaptureFixture[str]) -> RunSegment:
    """Run `sftrack segment ARGS`, with the flags in one text."""

    run = runner("segment", capfd)
    return lambda flags: run(*flags.split())


@pytest.fixture
def without_privileges(data: Path) -> Iterator[None]:
    """Not as the administrator, whom no permission keeps out."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.chown(data, nobody, nobody)
    os.seteuid(nobody)
    yield
    os.seteuid(0)


def masks_in(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))]


# -- results ------------------------------------------------------------------------------------------------------------------------


def test_one_video_is_refined_into_0_and_255_under_the_frames_names(segment: RunSegment) -> None:
    done = segment("--masks loose/one --frames frames/one --out out")
    assert (done.code, done.err) == (0, "")
    assert "4 masks" in done.out
    assert [path.name for path in sorted(Path("out").iterdir())] == [f"{index:05d}.png" for index in range(FRAMES)]
    assert all(set(np.unique(mask)) == {0, 255} and mask.shape == SIZE_WH[::-1] for mask in masks_in(Path("out")))


def test_a_folder_of_videos_is_scored_before_and_after(segment: RunSegment) -> None:
    done = segment("--masks loose --frames frames --gt gt --out out")
    assert (done.code, done.err) == (0, "")
    heading, measures, *rows = done.out.splitlines()
    assert heading.split() == ["loose", "refined"]
    assert measures.split() == ["J", "F", "TCONT"] * 2
    assert [row.split()[0] for row in rows] == ["one", "two", "mean"]
    values = np.array([row.split()[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(values[0], values[2])
    assert values[2, 3] > values[2, 0] + 2.0, "J rises"
    assert len(masks_in(Path("out", "two"))) == FRAMES


def test_masks_that_are_called_like_the_result_are_scored_beside_it(segment: RunSegment) -> None:
    """As the results of a former run are."""
    Path("loose").rename("refined")
    heading, _, row, *_ = segment("--masks refined --frames frames --gt gt --out out").out.splitlines()
    assert [name[-8:] for name in heading.split()] == ["/refined", "refined"]
    assert len(row.split()) == 7


def test_weights_are_learned_from_the_truth_and_used(segment: RunSegment) -> None:
    both = "--masks tight --masks loose --frames frames"
    Path("weights.safetensors").write_text("of a former run")
    assert "already exists" in segment(f"{both} --gt gt --learn weights.safetensors").error
    learned = segment(f"{both} --gt gt --learn weights.safetensors --overwrite")
    assert learned.code == 0, learned.err
    assert re.search(r"tight -?[\d.]+, loose -?[\d.]+, flow to the previous frame", learned.out)
    done = segment(f"{both} --gt gt --weights weights.safetensors --out out")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split() == ["tight", "loose", "refined"]
    swapped = segment("--masks loose --masks tight --frames frames --weights weights.safetensors --out swapped")
    assert (swapped.code, Path("swapped").exists()) == (2, False)
    assert "in the order of the weights, tight, loose, got loose, tight" in swapped.error
    assert len(masks_in(Path("out", "one"))) == FRAMES


@pytest.mark.parametrize("learned_on", ["{}", "{}/one"])
def test_weights_are_refused_for_swapped_methods_of_a_single_video(segment: RunSegment, learned_on: str) -> None:
    """Whether they were learned on all videos or on one: the methods are called the same."""
    tight, loose = (learned_on.format(method) for method in ("tight", "loose"))
    frames, gt = (learned_on.format(folder) for folder in ("frames", "gt"))
    assert segment(f"--masks {tight} --masks {loose} --frames {frames} --gt {gt} --learn w").code == 0
    rest = "--frames frames/two --gt gt/two --weights w --out out"
    swapped = segment(f"--masks loose/two --masks tight/two {rest}")
    assert (swapped.code, Path("out").exists()) == (2, False)
    assert "in the order of the weights, tight, loose, got loose, tight" in swapped.error
    assert (segment(f"--masks tight/two --masks loose/two {rest}").err) == ""


def test_methods_that_the_weights_do_not_know_are_named_and_a_known_one_in_anothers_place_refused(segment: RunSegment) -> None:
    SFSegPlusPlus(4, iterations=0, names=("tight", "wide", "flow", "flow")).save(Path("w"))
    both = "--frames frames/one --weights w --out out"
    assert (
        "the weights were learned for 'wide', and are taken for 'loose'"
        in segment(f"--masks tight --masks loose {both}".replace("/one", "")).error
    )
    assert "in the order of the weights, tight, wide, got loose, tight" in segment(f"--masks loose/one --masks tight/one {both}").error


def test_headings_tell_methods_apart_however_long_their_names_are(segment: RunSegment) -> None:
    first, second = "one_of_two_methods_on_DAVIS_2016_480p", "two_of_two_methods_on_DAVIS_2016_480p"
    for method, folder in (("tight", f"a/480p/{first}"), ("loose", f"b/480p/{second}"), ("loose", f"a/{second}")):
        shutil.copytree(f"{method}/one", folder)
    done = segment(f"--masks a/480p/{first} --masks b/480p/{second} --masks a/{second} --frames frames/one --gt gt/one --out out")
    heading, measures, row, _ = done.out.splitlines()
    assert heading.split() == [f"480p/{first}", f"480p/{second}", f"a/{second}", "refined"]
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in (heading, measures, row)]
    assert ends[1] == ends[2][1:], "numbers stand below their measures"
    assert ends[0] == ends[1][2::3], "which end where their version's name does"


def test_soft_masks_have_more_than_two_levels(segment: RunSegment) -> None:
    assert segment("--masks loose/one --frames frames/one --out out --soft").code == 0
    assert len(np.unique(masks_in(Path("out"))[1])) > 10


def test_a_video_without_any_object_in_its_results_is_named_and_one_that_its_object_leaves_is_not(segment: RunSegment) -> None:
    dim = cv2.GaussianBlur(masks_in(Path("loose", "one"))[0], (0, 0), 3.0) // 3
    for index in range(FRAMES):
        write(Path("loose", "one", f"{index:05d}.png"), dim)
    last = f"{FRAMES - 1:05d}"
    write(Path("loose", "two", f"{last}.png"), 0 * dim)
    write(Path("frames", "two", f"{last}.jpg"), np.full((*dim.shape, 3), 255, np.uint8))  # another shot
    done = segment("--masks loose --frames frames --out out")
    assert done.code == 0
    assert "no mask of one has any object in it" in done.error
    assert not any(mask.any() for mask in masks_in(Path("out", "one")))
    assert [mask.any() for mask in masks_in(Path("out", "two"))] == [True] * (FRAMES - 1) + [False]


def test_results_are_replaced_only_when_asked_and_nothing_of_them_stays(segment: RunSegment) -> None:
    command = "--masks loose/one --frames frames/one --out out"
    assert segment(command).code == 0
    write(Path("out", "99999.png"), np.zeros((3, 3), np.uint8))
    assert "already holds masks" in segment(command).error
    assert segment(f"{command} --overwrite").code == 0
    assert len(masks_in(Path("out"))) == FRAMES


def test_inputs_are_never_overwritten(segment: RunSegment) -> None:
    done = segment("--masks loose/one --frames frames/one --out loose/one --overwrite")
    assert done.code == 2
    assert "another folder than the inputs" in done.error
    assert len(masks_in(Path("loose", "one"))) == FRAMES


def test_ctrl_c_leaves_complete_files(segment: RunSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, mask: np.ndarray, *, soft: bool) -> None:
        if path.stem == "00002":
            raise KeyboardInterrupt
        write_mask(path, mask, soft=soft)

    monkeypatch.setattr(files, "write_mask", interrupted)
    done = segment("--masks loose --frames frames --out out")
    assert done.code == 130
    assert done.error == "interrupted"
    assert [path.name for path in sorted(Path("out").rglob("*.*"))] == ["00000.png", "00001.png"]
    assert all(mask.shape == SIZE_WH[::-1] for mask in masks_in(Path("out", "one")))


def test_a_full_disk_is_one_line_and_leaves_the_complete_files(segment: RunSegment) -> None:
    """The first mask is empty and fits, the next one does not."""
    write(Path("frames", "one", "00000.jpg"), np.full((*SIZE_WH[::-1], 3), 255, np.uint8))  # another shot
    write(Path("loose", "one", "00000.png"), np.zeros(SIZE_WH[::-1], np.uint8))
    command = "--masks loose/one --frames frames/one --out out --soft"
    assert segment(command).code == 0
    fits, *more = (path.stat().st_size for path in sorted(Path("out").iterdir()))
    assert fits < min(more)
    first = masks_in(Path("out"))[0]
    with largest_file(fits):
        done = segment(f"{command} --overwrite")
    assert done.code == 2
    assert "expected to write 'out/00001.png'" in done.error
    assert [path.name for path in Path("out").iterdir()] == ["00000.png"]
    np.testing.assert_array_equal(masks_in(Path("out")), [first])


# -- mistakes -----------------------------------------------------------------------------------------------------------------------

ONE = "--masks loose/one --frames frames/one"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--frames frames --out out", ["--masks"]),
        ("--masks loose --out out", ["--frames"]),
        (ONE, ["--out", "--learn"]),
        (f"{ONE} --out out --learn w", ["either --out", "--learn"]),
        (f"{ONE} --learn w", ["--gt", "two --masks"]),
        (f"{ONE} --weights w --out out", ["at least two --masks"]),
        (f"{ONE} --masks loose/../loose/one --out out", ["each folder of --masks once"]),
        (f"{ONE} --masks tight/one --gt gt/one --learn no/w", ["--learn", "no/w", "folder that exists"]),
        (f"{ONE} --masks tight/one --gt gt/one --learn empty", ["--learn", "'empty'"]),
        ("--masks tiny --frames tiny --out out", ["at least 16x16", "tiny/00000.png", "12x10"]),
        ("--masks loose/one --frames twice --out out", ["one picture per name", "00001.jpg and 00001.png"]),
        (f"{ONE} --masks tight/one --weights nowhere --out out", ["nowhere"]),
        ("--masks nowhere --frames frames --out out", ["nowhere"]),
        ("--masks loose --frames nowhere --out out", ["nowhere"]),
        (f"{ONE} --gt nowhere --out out", ["nowhere"]),
        ("--masks loose --frames empty --out out", ["empty"]),
        ("--masks empty --frames frames --out out", ["folder of masks per video", "empty"]),
        ("--masks empty --frames frames/one --out out", ["empty"]),
        ("--masks more --frames frames --out out", ["frames/three"]),
        ("--masks loose --masks lone --frames frames --out out", ["lone/two"]),
        ("--masks fewer --frames frames/one --out out", ["3 masks", "4 frames", "'00003'"]),
        ("--masks renamed --frames frames/one --out out", ["3 masks", "4 frames", "'00000'"]),
        (f"{ONE} --out tiny/00000.png/out", ["expected to write 'tiny/00000.png/out'"]),
        (f"{ONE} --masks tight/one --gt gt/one --learn locked/w", ["--learn", "locked/w", "can be written to"]),
        ("--masks small --frames frames/one --out out", ["small", "96x72", "48x36"]),
        ("--masks broken --frames frames/one --out out", ["broken/00002.png", "no picture"]),
        ("--masks loose/one --frames broken --out out", ["broken/00002.png", "no picture"]),
        (f"{ONE} --gt small --out out", ["small", "48x36"]),
        ("--masks short --frames short --gt short --out out", ["at least 3 frames", "got 2"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    segment: RunSegment, data: Path, flags: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("empty").mkdir()
    Path("locked").mkdir(mode=0o500)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))  # root may write anywhere
    shutil.copytree("loose/one", "more/three")
    shutil.copytree("loose/one", "lone/one")
    shutil.copytree("loose/one", "fewer")
    Path("fewer", "00003.png").unlink()
    shutil.copytree("fewer", "renamed")
    for path in sorted(Path("renamed").iterdir()):
        path.rename(path.with_stem(f"mask{path.stem}"))
    shutil.copytree("loose/one", "small")
    write(Path("small", "00001.png"), np.zeros((36, 48), np.uint8))
    shutil.copytree("loose/one", "broken")
    Path("broken", "00002.png").write_bytes(b"no picture")
    shutil.copytree("frames/one", "twice")
    write(Path("twice", "00001.png"), np.zeros((8, 8), np.uint8))
    write(Path("tiny", "00000.png"), np.zeros((10, 12), np.uint8))
    shutil.copytree("fewer", "short")
    Path("short", "00002.png").unlink()
    done = segment(flags)
    assert done.code == 2
    assert done.out == ""
    assert [word for word in words if word not in done.error] == [], done.error
    assert not Path("w").exists()
    assert not Path("out").exists() or not masks_in(Path("out"))


LONG = "x" * 300


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (f"--masks {LONG} --frames frames --out out", [f"'{LONG}'", "File name too long"]),
        (f"--masks loose --frames {LONG} --out out", [f"'{LONG}'", "File name too long"]),
        (f"{ONE} --out {LONG}", [f"'{LONG}'", "File name too long"]),
        (f"{ONE} --masks tight/one --weights {LONG} --out out", [f"'{LONG}'", "File name too long"]),
        (f"{ONE} --masks tight/one --gt gt/one --learn {LONG}", [f"'{LONG}'", "as --learn"]),
        ("--masks locked/in --frames frames --out out", ["'locked/in'", "Permission denied"]),
        ("--masks locked --frames frames --out out", ["'locked'", "Permission denied"]),
        ("--masks loose --frames half --out out", ["half/one", "Permission denied"]),
        (f"{ONE} --out locked/in", ["'locked/in'", "Permission denied"]),
        (f"{ONE} --out locked", ["'locked", "Permission denied"]),
        (f"{ONE} --masks tight/one --weights locked/in --out out", ["'locked/in'", "Permission denied"]),
        (f"{ONE} --masks tight/one --weights mine --out out", ["'mine'", "Permission denied"]),
        (f"{ONE} --masks tight/one --gt gt/one --learn locked/in", ["'locked/in'", "as --learn"]),
    ],
)
@pytest.mark.usefixtures("without_privileges")
@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_what_may_not_be_opened_is_the_users_to_mend(segment: RunSegment, flags: str, words: list[str]) -> None:
    for folder in (Path("locked"), Path("half", "one")):
        folder.mkdir(parents=True, mode=0o000)
    Path("mine").touch(mode=0o000)
    done = segment(flags)
    assert done.code == 2
    assert [word for word in words if word not in done.error] == [], done.error


def test_weights_of_more_methods_are_refused(segment: RunSegment) -> None:
    SFSegPlusPlus(5).save(Path("three.safetensors"))
    done = segment(f"{ONE} --masks tight/one --weights three.safetensors --out out")
    assert done.code == 2
    assert "got those of 3" in done.error
    assert not Path("out").exists()


# -- reading ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0, 255], [0.0, 1.0]),
        ([0, 1], [0.0, 1.0]),
        ([0, 1, 2, 20], [0.0, 1.0, 1.0, 1.0]),
        ([0, 51, 204], [0.0, 0.2, 0.8]),
        (list(range(32)), [0.0] + [1.0] * 31),
        (list(range(33)), [level / 255 for level in range(33)]),
    ],
)
def test_grey_masks_are_soft_unless_they_hold_at_most_32_levels_and_none_above_one_half(
    tmp_path: Path, levels: list[int], expected: list[float]
) -> None:
    write(tmp_path / "0.png", np.zeros((2, len(levels)), np.uint8))
    write(tmp_path / "1.png", np.tile(np.uint8(levels), (2, 1)))
    empty, mask = read_masks([tmp_path / "0.png", tmp_path / "1.png"])
    assert not empty.any()
    np.testing.assert_allclose(mask[0], expected, atol=1e-6)


def test_colours_are_labels_and_16_bits_are_soft(tmp_path: Path) -> None:
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[0, 1], colours[0, 2] = (0, 0, 128), (0, 128, 0)
    write(tmp_path / "label.png", colours)
    np.testing.assert_array_equal(next(read_masks([tmp_path / "label.png"]))[0], [0, 1, 1])
    write(tmp_path / "soft.png", np.uint16([[0, 13107, 65535]]))
    np.testing.assert_allclose(next(read_masks([tmp_path / "soft.png"]))[0], [0, 0.2, 1])


def test_hidden_folders_are_no_videos(data: Path) -> None:
    """File managers and network drives leave them beside and in the folders of videos."""
    for folder in ("frames/.thumbnails", "loose/.thumbnails", "frames/one/.thumbnails"):
        Path(folder).mkdir()
    assert [video.name for video in find_videos([Path("loose")], Path("frames"))] == ["one", "two"]
    assert [video.name for video in find_videos([Path("loose/one")], Path("frames/one"))] == ["one"]


def test_masks_with_other_names_are_matched_in_order_only_where_no_name_agrees(data: Path) -> None:
    for index in range(FRAMES):
        Path("loose/one", f"{index:05d}.png").rename(Path("loose/one", f"mask{index + 7}.png"))
    (video,) = find_videos([Path("loose/one")], Path("frames/one"))
    assert [path.stem for path in video.masks[0]] == ["mask7", "mask8", "mask9", "mask10"]
    Path("loose/one", "mask7.png").rename(Path("loose/one", "00000.png"))
    with pytest.raises(SourceError, match="no mask for '00001'"):
        find_videos([Path("loose/one")], Path("frames/one"))


def test_published_masks_are_read_as_one_object(shared: Path) -> None:
    """Indexed PNGs with up to 20 labels."""
    masks = shared / "data" / "published_masks" / "rvos" / "dog"
    frames = shared / "data" / "DAVIS" / "JPEGImages" / "480p" / "dog"
    (video,) = find_videos([masks], frames)
    first = next(read_video(video))
    assert first.masks.shape == (480, 854, 1)
    assert set(np.unique(first.masks)) == {0.0, 1.0}
    assert 0.1 < first.masks.mean() < 0.3
