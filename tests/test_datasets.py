from pathlib import Path

import cv2
import numpy as np
import pytest

from sftrack.boxes import box_of_mask, iou
from sftrack.config import ChannelConfig
from sftrack.datasets import read_boxes, read_sequence, record, sequence_names
from sftrack.errors import BoxError, ConfigError, SourceError


def write_images(folder: Path, numbers: range, value: int = 100) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:04d}.jpg"), np.full((24, 32, 3), value, np.uint8))


@pytest.fixture
def otb(tmp_path: Path) -> Path:
    """An OTB folder: one plain sequence, one with two targets, and two with ranges of their own."""
    rows = {"Plain": "3,4,5,6\n", "Football1": "3\t4\t5\t6\n", "David": "3 4 5 6\n"}
    write_images(tmp_path / "Plain" / "img", range(1, 4))
    write_images(tmp_path / "Football1" / "img", range(1, 82))
    write_images(tmp_path / "David" / "img", range(290, 771))
    write_images(tmp_path / "Jogging" / "img", range(1, 3))
    for name, count in (("Plain", 3), ("Football1", 74), ("David", 471)):
        (tmp_path / name / "groundtruth_rect.txt").write_text(rows[name] * count)
    for target in (1, 2):
        (tmp_path / "Jogging" / f"groundtruth_rect.{target}.txt").write_text(f"{target},1,5,5\n" * 2)
    return tmp_path


@pytest.mark.parametrize("text", ["1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\n5\t6\t7\t8", "1 2 3 4\n\n5  6 7 8\n", "1, 2, 3, 4\r\n5,6,7,8\r\n"])
def test_boxes_of_any_delimiter(tmp_path: Path, text: str) -> None:
    (tmp_path / "boxes.txt").write_text(text)
    np.testing.assert_array_equal(read_boxes(tmp_path / "boxes.txt"), [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_boxes_name_the_bad_line(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("1,2,3,4\n1,2,3\n")
    with pytest.raises(SourceError, match="line 2"):
        read_boxes(tmp_path / "boxes.txt")


def test_box_of_mask_is_half_open() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    assert np.isnan(box_of_mask(mask)).all()
    mask[2:5, 3:9] = True
    np.testing.assert_array_equal(box_of_mask(mask), [3, 2, 6, 3])
    mask[:] = False
    mask[0, 0] = True
    np.testing.assert_array_equal(box_of_mask(mask), [0, 0, 1, 1])


def test_otb_is_counted_from_0(otb: Path) -> None:
    assert sequence_names("OTB100", otb) == ("David", "Football1", "Jogging-1", "Jogging-2", "Plain")
    np.testing.assert_array_equal(read_sequence("OTB100", otb, "Plain").boxes_xywh, [[2, 3, 5, 6]] * 3)
    assert read_sequence("OTB100", otb, "Jogging.2").boxes_xywh[0, 0] == 1.0


def test_otb_ranges(otb: Path) -> None:
    football, david = read_sequence("OTB100", otb, "Football1"), read_sequence("OTB100", otb, "David")
    assert (len(football), football.frame_paths[-1].stem) == (74, "0074")
    assert (len(david), david.frame_paths[0].stem, david.frame_paths[-1].stem) == (471, "0300", "0770")


def test_otb_with_too_few_images(otb: Path) -> None:
    (otb / "Plain" / "img" / "0002.jpg").unlink()
    with pytest.raises(SourceError, match="3 images"):
        read_sequence("OTB100", otb, "Plain")


def test_davis_boxes_come_from_masks(tmp_path: Path) -> None:
    write_images(tmp_path / "JPEGImages" / "480p" / "thing", range(2))
    (tmp_path / "Annotations" / "480p" / "thing").mkdir(parents=True)
    for number in range(2):
        mask = np.zeros((24, 32), np.uint8)
        mask[4:8, 6:16] = 255 * (number == 0)
        cv2.imwrite(str(tmp_path / "Annotations" / "480p" / "thing" / f"{number:04d}.png"), mask)
    assert sequence_names("DAVIS", tmp_path) == ("thing",)
    sequence = read_sequence("DAVIS", tmp_path, "thing")
    np.testing.assert_array_equal(sequence.boxes_xywh, [[6, 4, 10, 4], [np.nan] * 4])
    assert sequence.mask(0).sum() == 40
    assert not sequence.mask(1).any()


def test_uav123(tmp_path: Path) -> None:
    write_images(tmp_path / "data_seq" / "UAV123" / "boat1", range(1, 3))
    (tmp_path / "anno" / "UAV123").mkdir(parents=True)
    (tmp_path / "anno" / "UAV123" / "boat1.txt").write_text("1,1,4,4\nNaN,NaN,NaN,NaN\n")
    assert sequence_names("UAV123", tmp_path) == ("boat1",)
    np.testing.assert_array_equal(read_sequence("UAV123", tmp_path, "boat1").boxes_xywh, [[0, 0, 4, 4], [np.nan] * 4])


def test_frames_are_rgb_and_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "clip" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "clip" / "images" / "0.png"), np.full((4, 6, 3), (0, 0, 255), np.uint8))
    (tmp_path / "clip" / "images" / "1.png").write_bytes(b"damaged")
    (tmp_path / "clip" / "boxes.txt").write_text("1,1,2,2\n1,1,2,2\n")
    sequence = read_sequence("train_videos", tmp_path, "clip")
    frames = sequence.frames()
    assert tuple(next(frames)[0, 0]) == (255, 0, 0)
    with pytest.raises(SourceError, match=r"1\.png"):
        next(frames)
    with pytest.raises(SourceError, match="boxes only"):
        sequence.mask(0)


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DAVIS, OTB100"):
        sequence_names("VOT", tmp_path)
    for dataset in ("DAVIS", "OTB100", "UAV123", "train_videos"):
        with pytest.raises(SourceError, match=str(tmp_path)):
            sequence_names(dataset, tmp_path)
        with pytest.raises(SourceError, match=str(tmp_path)):
            read_sequence(dataset, tmp_path, "nothing")


def test_record_starts_on_the_truth(otb: Path) -> None:
    sequence = read_sequence("OTB100", otb, "Football1")
    kept = record(ChannelConfig("flow", "flow"), sequence, start=3, stop=8)
    assert kept.boxes_xywh.shape == (5, 4)
    np.testing.assert_array_equal(kept.boxes_xywh[0], sequence.boxes_xywh[3])
    assert kept.scores[0] == 1.0
    assert (kept.seconds >= 0).all()


def test_record_needs_a_target(tmp_path: Path) -> None:
    write_images(tmp_path / "clip" / "images", range(2))
    (tmp_path / "clip" / "boxes.txt").write_text("nan,nan,nan,nan\n1,1,2,2\n")
    with pytest.raises(BoxError, match="absent"):
        record(ChannelConfig("flow", "flow"), read_sequence("train_videos", tmp_path, "clip"))


def test_real_data_sets_are_whole(shared: Path) -> None:
    data = shared / "data"
    assert len(sequence_names("DAVIS", data / "DAVIS")) == 10
    assert len(sequence_names("OTB100", data / "OTB100")) == 11
    for name in sequence_names("OTB100", data / "OTB100"):
        sequence = read_sequence("OTB100", data / "OTB100", name)
        height, width = sequence.frame(0).shape[:2]
        assert (iou(sequence.boxes_xywh, [0.0, 0.0, width, height]) > 0).all()


def test_real_masks_give_their_boxes(shared: Path) -> None:
    sequence = read_sequence("DAVIS", shared / "data" / "DAVIS", "drift-straight")
    assert len(sequence) == 50
    np.testing.assert_array_equal(sequence.boxes_xywh[0], [590, 200, 99, 61])
