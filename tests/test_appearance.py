"""The memory of how the target looks: likeness of boxes, and the search for a lost target, which never fails."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.appearance import Appearance, colour_index, colours
from sftrack.boxes import iou
from sftrack.window import rasterise
from tests.targets import SIZE_WH, Scene, texture

SCENE = Scene()


def appearance_of(image: np.ndarray, box: np.ndarray) -> Appearance:
    return Appearance(image, box, rasterise(box[None], SIZE_WH)[0])


def place(center_xy: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return SCENE.render(center_xy)[0], np.array(SCENE.box(center_xy), dtype=np.float64)


def test_a_target_that_jumped_is_found_within_some_frames() -> None:
    image, box = place((50.0, 50.0))
    search = appearance_of(image, box)
    far_image, far_box = place((180.0, 110.0))
    overlaps = []
    for _ in range(20):
        found = search.search(far_image, box)
        overlaps.append(0.0 if found is None or found.likeness < 0.6 else float(iou(found.box_xywh, far_box)))
    assert overlaps[0] == 0.0
    assert overlaps[-1] > 0.6


def test_the_area_grows_with_every_frame_and_starts_small_again_after_a_sure_one() -> None:
    image, box = place((40.0, 40.0))
    search = appearance_of(image, box)

    def frames_until_found(center_xy: tuple[float, float]) -> int:
        far_image, far_box = place(center_xy)
        for count in range(1, 60):
            found = search.search(far_image, box)
            if found is not None and float(iou(found.box_xywh, far_box)) > 0.5:
                return count
        raise AssertionError("never found")

    near = frames_until_found((66.0, 50.0))
    search.remember(image, box)
    far = frames_until_found((190.0, 110.0))
    search.remember(image, box)
    assert near < far
    assert frames_until_found((66.0, 50.0)) == near


def test_a_larger_and_a_smaller_target_are_found() -> None:
    image, box = place((60.0, 60.0))
    for factor in (0.8, 1.25):
        scene = Scene(object_wh=(round(44 * factor), round(36 * factor)))
        search = appearance_of(image, box)
        for _ in range(12):
            found = search.search(scene.render((110.0, 80.0))[0], box)
        assert found is not None
        assert float(iou(found.box_xywh, np.array(scene.box((110.0, 80.0)), dtype=np.float64))) > 0.5


def looks(search: Appearance, image: np.ndarray, *boxes: np.ndarray) -> np.ndarray:
    return search.looks(image, np.array(boxes), rasterise(np.array(boxes), SIZE_WH))


def test_the_target_looks_more_like_itself_than_the_ground_does() -> None:
    image, box = place((60.0, 60.0))
    target, ground = looks(appearance_of(image, box), image, box, np.array([150.0, 90.0, 44.0, 36.0]))
    assert target.min() > 0.95
    assert ground.max() < 0.6


def test_likeness_is_the_normalised_correlation() -> None:
    image, box = place((60.0, 60.0))
    search = appearance_of(image, box)
    changed = texture((SIZE_WH[0], SIZE_WH[1]), 4, 0, 255)
    boxes = np.array([box, box + np.array([7.0, -5.0, 3.0, 6.0]), [150.0, 90.0, 44.0, 36.0]])
    search.remember(changed, box)
    found = search.correlations(image, boxes)
    template = appearance_of(image, box)
    for row, moved in zip(found, boxes, strict=True):
        patch, first = template._cut(image, moved), template._cut(image, box)
        assert row[0] == pytest.approx(cv2.matchTemplate(patch, first, cv2.TM_CCOEFF_NORMED)[0, 0], abs=1e-4)
    assert found[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert found[0, 1] < 1.0  # the recent template has moved on


def test_what_was_seen_lately_counts_as_well() -> None:
    image, box = place((60.0, 60.0))
    changed = image.copy()
    x, y, w, h = box.astype(int)
    changed[y : y + h, x : x + w] = texture((w, h), 9, 100, 255)
    search = appearance_of(image, box)
    first_before, recent_before, _ = looks(search, changed, box)[0]
    for _ in range(30):
        search.remember(changed, box)
    first, recent, _ = looks(search, changed, box)[0]
    assert first == pytest.approx(first_before)
    assert recent > max(recent_before + 0.3, 0.9)


def test_colours_are_those_under_the_mask() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = (250, 120, 3)
    mask = np.zeros((20, 20), np.float32)
    mask[:, 10:] = 0.5
    index = colour_index(image)
    histogram = colours(index, mask)
    assert histogram.sum() == pytest.approx(1.0)
    assert histogram[(7 * 8 + 3) * 8 + 0] == pytest.approx(1.0)
    assert np.isfinite(colours(index, np.zeros_like(mask))).all()


coordinate = st.floats(-60.0, 300.0)
length = st.floats(2.0, 400.0)


@given(coordinate, coordinate, length, length)
@settings(deadline=None, max_examples=60)
def test_any_box_can_be_searched_from(x: float, y: float, w: float, h: float) -> None:
    image, box = place((60.0, 60.0))
    last = np.array([x, y, w, h])
    search = appearance_of(image, box)
    search.remember(image, last)
    assert (np.abs(looks(search, image, last)) <= 1.0).all()
    for _ in range(3):
        found = search.search(image, last)
        assert found is None or (np.isfinite(found.box_xywh).all() and (found.box_xywh[2:] > 0).all() and found.likeness <= 1.001)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 2, 2), (238, 158, 2, 2), (0, 0, 240, 160), (0, 70, 240, 3), (110, 0, 2, 160), (200, 150, 40, 10)],
    ids=["tiny", "tiny in the corner", "the whole frame", "flat", "upright", "at the border"],
)
def test_any_start_box_can_be_searched_for(box: tuple[float, ...]) -> None:
    image, _ = place((60.0, 60.0))
    start = np.array(box, dtype=np.float64)
    search = appearance_of(image, start)
    for _ in range(30):
        found = search.search(image, start)
    assert found is None or np.isfinite(found.box_xywh).all()


def test_a_flat_picture_is_no_failure() -> None:
    grey = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90, np.uint8)
    search = appearance_of(grey, np.array([20.0, 20.0, 30.0, 30.0]))
    found = search.search(grey, np.array([20.0, 20.0, 30.0, 30.0]))
    assert found is None or abs(found.likeness) <= 1.001


def test_a_tiny_target_of_a_large_frame_is_searched_without_enlarging_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates have a fixed size: at their scale, a frame of a million tiny targets would fill the memory."""
    largest = 0
    resize = cv2.resize

    def watched(image: np.ndarray, size_wh: tuple[int, int], **options: int) -> np.ndarray:
        nonlocal largest
        largest = max(largest, size_wh[0] * size_wh[1])
        return resize(image, size_wh, **options)

    large = texture((1920, 1080), 4, 0, 256, grain_px=20)
    start = np.array([700.0, 500.0, 6.0, 6.0])
    search = Appearance(large, start, rasterise(start[None], (1920, 1080))[0])
    search._frames = 60
    monkeypatch.setattr(cv2, "resize", watched)
    search.search(large, np.array([700.0, 500.0, 2.0, 2.0]))
    assert 0 < largest < 2_000_000


def test_a_target_lost_for_many_minutes_is_still_searched_for() -> None:
    """The area grows exponentially, and must not outgrow what a number can hold."""
    image, box = place((60.0, 60.0))
    search = appearance_of(image, box)
    search._frames = 100_000
    found = search.search(place((180.0, 100.0))[0], box)
    assert found is not None
    assert float(iou(found.box_xywh, place((180.0, 100.0))[1])) > 0.5
