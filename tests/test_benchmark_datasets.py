"""Data sets in the layouts that people have on disk, tiny and generated."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from sftrack.benchmark.suites import SUITES, find_suite, survey
from sftrack.datasets import read_mask, read_sequence, sequence_names
from sftrack.datasets.tables import rows
from sftrack.errors import ConfigError, SourceError
from sftrack.pictures import read_rgb

BOX = [11.0, 21.0, 30.0, 40.0]


def images(folder: Path, numbers: Sequence[int], pattern: str = "%04d.jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / (pattern % number)), np.full((8, 10, 3), number % 250, np.uint8))


def text(path: Path, rows_of_numbers: Sequence[Sequence[float]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(delimiter.join(f"{value:g}" for value in row) + "\n" for row in rows_of_numbers))


def otb_official(root: Path) -> None:
    images(root / "Jogging" / "img", range(1, 4))
    for target in (1, 2):
        text(root / "Jogging" / f"groundtruth_rect.{target}.txt", [[target, *BOX[1:]]] * 3, "\t")


def otb_per_target(root: Path) -> None:
    otb_official(root)
    for target in (1, 2):
        shutil.copytree(root / "Jogging", root / f"Jogging-{target}")
    shutil.rmtree(root / "Jogging")
    (root / "OTB100.json").write_text(json.dumps({"Jogging-2": {"attr": ["Occlusion", "Deformation", "ALL"]}}))


@pytest.mark.parametrize("make", [otb_official, otb_per_target])
def test_otb_with_two_targets_in_a_folder_or_a_folder_per_target(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    assert sequence_names("OTB100", tmp_path) == ("Jogging-1", "Jogging-2")
    for spelling in ("Jogging-2", "Jogging_2", "Jogging.2", "jogging-2"):
        video = read_sequence("OTB100", tmp_path, spelling)
        assert (video.name, video.boxes_xywh[0, 0], video.first_pixel) == ("Jogging-2", 1.0, 1)
    assert video.attributes == (("OCC", "DEF") if make is otb_per_target else ())


def test_otb_attributes_of_its_own_toolkit(tmp_path: Path) -> None:
    otb_official(tmp_path)
    text(tmp_path / "anno" / "att" / "jogging-1.txt", [[0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]])
    assert read_sequence("OTB100", tmp_path, "Jogging-1").attributes == ("OPR", "OCC", "DEF")


def test_otb_tiger1_begins_with_the_sixth_image_and_row(tmp_path: Path) -> None:
    images(tmp_path / "Tiger1" / "img", range(1, 355))
    text(tmp_path / "Tiger1" / "groundtruth_rect.txt", [[number, 1, 5, 5] for number in range(1, 355)], " ")
    video = read_sequence("OTB100", tmp_path, "Tiger1")
    assert (len(video), video.frame_paths[0].stem, video.boxes_xywh[0, 0]) == (349, "0006", 5.0)


def uav123(root: Path, version: str, every: int) -> None:
    images(root / "data_seq" / version / "bird1", range(1, 2438 // every + 2), "%06d.jpg")
    text(root / "anno" / version / "bird1_2.txt", [BOX] * len(range(775, 1478, every)))
    text(root / "anno" / version / "att" / "bird1_2.txt", [[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize(("version", "every", "first", "last"), [("UAV123", 1, 775, 1477), ("UAV123_10fps", 3, 259, 493)])
def test_uav123_parts_of_a_folder(tmp_path: Path, version: str, every: int, first: int, last: int) -> None:
    uav123(tmp_path, version, every)
    video = read_sequence(version, tmp_path, "uav_bird1_2")
    assert (video.name, int(video.frame_paths[0].stem), int(video.frame_paths[-1].stem)) == ("bird1_2", first, last)
    np.testing.assert_array_equal(video.boxes_xywh[0], [10, 20, 30, 40])
    assert video.attributes == ("SV", "FM", "SOB")


def nfs_official(root: Path) -> None:
    images(root / "dog" / "30" / "dog", range(1, 4), "%05d.jpg")
    images(root / "dog" / "240" / "dog", range(1, 25), "%05d.jpg")
    lines = [f'0 {number} 20 {number + 30} 60 {number} 0 0 0 "dog"\n' for number in range(25)]
    for rate in (30, 240):
        (root / "dog" / str(rate) / "dog.txt").write_text("".join(lines[:24]))


def nfs_pytracking(root: Path) -> None:
    images(root / "sequences" / "dog", range(1, 4), "%05d.jpg")
    text(root / "anno" / "nfs_dog.txt", [[0, 20, 30, 40], [8, 20, 30, 40], [16, 20, 30, 40]], "\t")


@pytest.mark.parametrize("make", [nfs_official, nfs_pytracking])
def test_nfs_at_30_in_both_layouts(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    assert sequence_names("NFS30", tmp_path) == ("dog",)
    np.testing.assert_array_equal(read_sequence("NFS30", tmp_path, "nfs_dog").boxes_xywh, [[x, 20, 30, 40] for x in (0, 8, 16)])


def test_nfs_at_240_is_in_the_official_layout_only(tmp_path: Path) -> None:
    nfs_official(tmp_path)
    assert len(read_sequence("NFS240", tmp_path, "dog")) == 24
    nfs_pytracking(tmp_path / "other")
    with pytest.raises(SourceError, match="240 frames/s"):
        sequence_names("NFS240", tmp_path / "other")


def test_got10k_validation_and_test(tmp_path: Path) -> None:
    for subset, count in (("val", 3), ("test", 1)):
        folder = tmp_path / "GOT-10k" / subset / f"GOT-10k_{subset}_000001"
        images(folder, range(1, 4), "%08d.jpg")
        text(folder / "groundtruth.txt", [BOX] * count)
        (folder / "cover.label").write_text("8\n0\n8\n")
        (folder.parent / "list.txt").write_text(f"{folder.name}\nGOT-10k_{subset}_000002\n")
    video = read_sequence("GOT-10k_val", tmp_path, sequence_names("GOT-10k_val", tmp_path)[0])
    np.testing.assert_array_equal(video.boxes_xywh, [[10, 20, 30, 40], [np.nan] * 4, [10, 20, 30, 40]])
    assert video.is_judged
    hidden = read_sequence("GOT-10k_test", tmp_path, "GOT-10k_test_000001")
    assert (len(hidden), hidden.is_judged) == (3, False)


def test_trackingnet_images_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    images(tmp_path / "TEST" / "frames" / "clip", range(12), "%d.jpg")
    text(tmp_path / "TEST" / "anno" / "clip.txt", [[1.5, 2, 30, 40]])
    video = read_sequence("TrackingNet", tmp_path, "clip")
    assert [int(path.stem) for path in video.frame_paths] == list(range(12))
    np.testing.assert_array_equal(video.boxes_xywh[0], [1.5, 2, 30, 40])


@pytest.mark.parametrize("parent", ["airplane/airplane-9", "airplane-9"])
def test_lasot_nested_and_flat(tmp_path: Path, parent: str) -> None:
    folder = tmp_path / parent
    images(folder / "img", range(1, 4), "%08d.jpg")
    text(folder / "groundtruth.txt", [BOX] * 3)
    (folder / "full_occlusion.txt").write_text("0,1,0\n")
    (folder / "out_of_view.txt").write_text("0,0,1\n")
    text(tmp_path / "airplane" / "airplane-1" / "groundtruth.txt", [BOX] * 3)  # its images are not here: missing, not damaged
    assert sequence_names("LaSOT", tmp_path) == ("airplane-9",)
    assert np.isfinite(read_sequence("LaSOT", tmp_path, "airplane-9").boxes_xywh).all(axis=1).tolist() == [True, False, False]


def test_polygons_become_upright_boxes(tmp_path: Path) -> None:
    images(tmp_path / "Deer" / "img", range(1, 3))
    text(tmp_path / "Deer" / "groundtruth_rect.txt", [[11, 21, 41, 31, 31, 61, 21, 51], BOX])
    np.testing.assert_array_equal(read_sequence("OTB100", tmp_path, "Deer").boxes_xywh, [[10, 20, 30, 40]] * 2)


def test_counts_that_differ(tmp_path: Path) -> None:
    images(tmp_path / "Deer" / "img", range(1, 4))
    text(tmp_path / "Deer" / "groundtruth_rect.txt", [BOX] * 2)
    video = read_sequence("OTB100", tmp_path, "Deer")
    assert len(video) == 2
    assert video.notes == ("OTB100/Deer: 1 more images than true boxes; the last ones are left out",)
    text(tmp_path / "Deer" / "groundtruth_rect.txt", [BOX] * 4)
    with pytest.raises(SourceError, match=r"expected 4 images of OTB100/Deer, one per true box, found 3"):
        read_sequence("OTB100", tmp_path, "Deer")
    (tmp_path / "Deer" / "groundtruth_rect.txt").write_text("\n")
    with pytest.raises(SourceError, match="it is empty"):
        read_sequence("OTB100", tmp_path, "Deer")


@pytest.mark.parametrize("folder", ["OTB100", "otb-100", "OTB_2015", "tb100"])
def test_a_root_may_be_the_folder_above_however_people_call_the_data_set(tmp_path: Path, folder: str) -> None:
    otb_official(tmp_path / folder)
    assert sequence_names("OTB100", tmp_path) == ("Jogging-1", "Jogging-2")


def test_files_that_a_mac_leaves_beside_images_are_no_frames(tmp_path: Path) -> None:
    otb_official(tmp_path)
    (tmp_path / "Jogging" / "img" / "._0001.jpg").write_bytes(b"\0\5\26\7")
    video = read_sequence("OTB100", tmp_path, "Jogging-1")
    assert ([path.name for path in video.frame_paths], video.notes) == (["0001.jpg", "0002.jpg", "0003.jpg"], ())


def test_an_image_that_cannot_be_read_is_one_line_with_its_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "img", range(1, 4), "%d.png")
    (tmp_path / "img" / "1.png").write_bytes(b"")
    (tmp_path / "img" / "2.png").write_bytes(b"damaged")
    (tmp_path / "img" / "3.png").unlink()
    reasons = {1: "the file is empty", 2: "the file is no picture", 3: "it cannot be read: No such file or directory"}
    for number, reason in reasons.items():
        path = tmp_path / "img" / f"{number}.png"
        for read, what in ((read_rgb, "an image"), (read_mask, "a mask image")):
            with pytest.raises(SourceError, match=f"^expected {what} at {path}, {reason}$"):
                read(path)
    assert capfd.readouterr().err == ""  # OpenCV would add a line of its own


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_transparency_of_a_true_mask_is_no_object(tmp_path: Path, channels: int) -> None:
    mask = np.zeros((6, 8, channels), np.uint8)
    mask[1:3, 2:5, 0] = 128
    mask[..., 3:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert read_mask(tmp_path / "mask.png").sum() == 6


@pytest.mark.parametrize("key", sorted(SUITES))
def test_a_wrong_root_is_named_with_what_was_looked_for(tmp_path: Path, key: str) -> None:
    with pytest.raises(SourceError, match=f"expected .* {tmp_path}"):
        survey(SUITES[key], tmp_path)


def test_survey_says_what_is_missing_and_what_is_not_part_of_it(tmp_path: Path) -> None:
    otb_official(tmp_path)
    images(tmp_path / "MyVideo" / "img", range(1, 3))
    text(tmp_path / "MyVideo" / "groundtruth_rect.txt", [BOX] * 2)
    found = survey(find_suite("OTB-2013"), tmp_path)
    assert (found.names, found.missing_count, found.unlisted) == (("Jogging-1", "Jogging-2"), 49, ("MyVideo",))
    assert found.line().startswith("OTB-2013: 2 of 51 sequences, missing: Basketball, Bolt")
    assert found.line().endswith("not part of it: MyVideo")
    nfs_official(tmp_path / "nfs")
    assert survey(find_suite("nfs"), tmp_path / "nfs").line() == "NFS, 30 frames/s: 1 of 100 sequences, 99 missing"


def test_tables_have_as_many_sequences_as_the_benchmarks() -> None:
    for suite in SUITES.values():
        if suite.listed is not None:
            assert len(suite.listed) == suite.size, suite.key
    table = rows("otb")
    assert (table["David"].first, table["David"].last, table["Tiger1"].first, table["Football1"].last) == (300, 770, 6, 74)
    assert (table["BlurCar1"].first, table["BlurCar3"].last, table["Freeman4"].last, table["Diving"].last) == (247, 359, 283, 215)


def test_every_sequence_is_found_by_the_spellings_of_other_toolkits() -> None:
    otb = SUITES["otb"]
    assert otb.name_of("Human4") == otb.name_of("Human4_2") == otb.name_of("human4-2") == "Human4-2"
    assert otb.name_of("Skating2.1") == "Skating2-1"
    assert otb.name_of("Nothing") is None
    assert SUITES["otb2013"].name_of("Biker") is None
    assert SUITES["uav123"].name_of("uav_car1_1") == "car1_1"
    assert SUITES["uav123"].name_of("car11") == "car11"
    assert SUITES["nfs"].name_of("nfs_Gymnastics") == "Gymnastics"


def test_unknown_benchmark_names_the_nearest() -> None:
    assert find_suite("GOT-10k_test").key == "got10k-test"
    assert find_suite("UAV123@10fps").key == "uav123-10fps"
    with pytest.raises(ConfigError, match="did you mean 'lasot'"):
        find_suite("lassot")


def test_real_roots_hold_their_sequences(shared: Path) -> None:
    counts = {key: len(survey(SUITES[key], shared / "data").names) for key in ("otb", "uav123", "davis")}
    assert counts == {"otb": 11, "uav123": 1, "davis": 10}
