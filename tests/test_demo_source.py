"""The demo clip is the same everywhere and its truth is true, because other tests measure trackers with it."""

import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest

from sftrack.boxes import checked_box, iou
from sftrack.errors import SourceError
from sftrack.sources.demo import FRAME_COUNT, FRAME_SIZE_WH, DemoSource, _compose


@pytest.fixture(scope="module")
def demo() -> DemoSource:
    return DemoSource()


def test_two_readings_are_the_same() -> None:
    with DemoSource(start_frame=40, max_frames=2) as first, DemoSource(start_frame=41, max_frames=1) as second:
        frames = list(first)
        (again,) = second
    assert [frame.index for frame in frames] == [40, 41]
    assert (frames[1].image_rgb == again.image_rgb).all()
    assert (frames[0].image_rgb != frames[1].image_rgb).any()


def test_the_truth_is_where_the_red_cup_is_seen(demo: DemoSource) -> None:
    """Seen here: saturated red pixels, on frames where nothing hides the cup."""
    for index, frame in enumerate(demo):
        if index not in (0, 20, 40, 110, 149):
            continue
        red, green, blue = (frame.image_rgb[..., channel].astype(int) for channel in range(3))
        is_red = (red > 1.9 * green) & (red > 1.9 * blue) & (red > 60)
        x, y, width, height = demo.truth_xywh(index)
        # the other cup has red edges around its coffee
        rows, columns = np.mgrid[: FRAME_SIZE_WH[1], : FRAME_SIZE_WH[0]]
        is_near = (abs(columns - x - width / 2) < width / 2 + 25) & (abs(rows - y - height / 2) < height / 2 + 25)
        rows, columns = np.nonzero(is_red & is_near)
        # the upper edge of the cup is white, so only the three other sides can be compared
        assert abs(columns.min() - x) < 3
        assert abs(columns.max() + 1 - x - width) < 8  # the spoon reaches further than the saucer
        assert abs(rows.max() + 1 - y - height) < 3


def test_the_cup_stays_in_the_picture_and_moves_smoothly(demo: DemoSource) -> None:
    boxes = np.array([demo.truth_xywh(index) for index in range(FRAME_COUNT)])
    for box in boxes:
        assert checked_box(box, FRAME_SIZE_WH) == pytest.approx(box)
    assert iou(boxes[1:], boxes[:-1]).min() > 0.8
    assert np.ptp(boxes[:, 2]) > 40  # it changes in size
    assert np.ptp(boxes[:, 0] + boxes[:, 1]) > 300


def test_the_plank_hides_a_part_of_the_cup_for_a_while(demo: DemoSource) -> None:
    def seen(index: int) -> float:
        image = demo._scene.render(index).astype(int)
        x, y, width, height = demo.truth_xywh(index).astype(int)
        part = image[y : y + height, x : x + width]
        return float(((part[..., 0] > 1.9 * part[..., 1]) & (part[..., 0] > 1.9 * part[..., 2])).mean())

    shares = np.array([seen(index) for index in range(0, FRAME_COUNT, 3)])
    assert 0.15 < shares.min() < 0.75 * np.median(shares)


def test_the_start_box_is_the_truth_of_the_first_frame_delivered() -> None:
    demo = DemoSource(start_frame=30)
    assert demo.start_box_xywh == pytest.approx(demo.truth_xywh(30))
    assert demo.start_box_xywh.dtype == np.float64


def test_a_missing_picture_of_scikit_image_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: elsewhere)
    with pytest.raises(SourceError, match=r"the demo's picture at \S+/data/\w+\.png, it cannot be read: .*; install scikit-image again"):
        DemoSource()


def test_affine_maps_compose_from_right_to_left() -> None:
    scale, shift = np.array([[2.0, 0, 0], [0, 2.0, 0]]), np.array([[1.0, 0, 5], [0, 1.0, 7]])
    assert _compose(scale, shift) == pytest.approx(np.array([[2.0, 0, 10], [0, 2.0, 14]]))
