from pathlib import Path

import numpy as np
import pytest

from sftrack.errors import ConfigError, SourceError
from sftrack.trackers import create

IMAGE = np.zeros((40, 60, 3), np.uint8)
BOXES = np.array([[1, 2, 10, 10], [2, 3, 10, 10], [np.nan] * 4, [4, 5, 10, 10]])


@pytest.mark.parametrize("delimiter", [",", "\t", " ", ", "])
def test_replays_a_file_of_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("\n".join(delimiter.join(str(value) for value in row) for row in BOXES))
    tracker = create("replay", path=path)
    tracker.init(IMAGE, BOXES[0])
    np.testing.assert_array_equal(tracker.update(IMAGE).box_xywh, BOXES[1])


def test_missing_rows_repeat_the_last_box_with_score_0() -> None:
    tracker = create("replay", boxes_xywh=BOXES, scores=[1.0, 0.7, 0.6, 0.5])
    tracker.init(IMAGE, BOXES[0])
    estimates = [tracker.update(IMAGE) for _ in range(4)]
    assert [estimate.score for estimate in estimates] == [0.7, 0.0, 0.5, 0.0]
    np.testing.assert_array_equal(estimates[1].box_xywh, BOXES[1])
    np.testing.assert_array_equal(estimates[3].box_xywh, BOXES[3])


def test_a_restart_does_not_rewind() -> None:
    tracker = create("replay", boxes_xywh=BOXES)
    tracker.init(IMAGE, BOXES[0])
    tracker.update(IMAGE)
    tracker.update(IMAGE)
    tracker.init(IMAGE, BOXES[0])
    np.testing.assert_array_equal(tracker.update(IMAGE).box_xywh, BOXES[3])


def test_one_based_files(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("1,1,10,10\n3,4,10,10\n")
    tracker = create("replay", path=tmp_path / "boxes.txt", one_based=True)
    tracker.init(IMAGE, BOXES[0])
    np.testing.assert_array_equal(tracker.update(IMAGE).box_xywh, [2, 3, 10, 10])


def test_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either path"):
        create("replay")
    with pytest.raises(ConfigError, match="shape"):
        create("replay", boxes_xywh=[1, 2, 3, 4])
    with pytest.raises(ConfigError, match="scores"):
        create("replay", boxes_xywh=BOXES, scores=[1.0])
    with pytest.raises(SourceError, match=r"gone\.txt"):
        create("replay", path=tmp_path / "gone.txt")


def test_one_that_went_ahead_is_sent_over_the_same_frame_again() -> None:
    boxes = np.array([[k, k, 10.0, 10.0] for k in range(5)])
    tracker = create("replay", boxes_xywh=boxes)
    frames = [np.zeros((40, 40, 3), np.uint8) for _ in range(4)]
    tracker.init(frames[0], boxes[0])
    tracker.update(frames[1])
    tracker.update(frames[2])
    tracker.init(frames[1], boxes[1])
    np.testing.assert_array_equal(tracker.update(frames[2]).box_xywh, boxes[2])
    np.testing.assert_array_equal(tracker.update(frames[3]).box_xywh, boxes[3])
