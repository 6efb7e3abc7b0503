"""What trackers take and give at the frame's border: light ones stay within it, published ones keep to what was published."""

import numpy as np
import pytest

from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.errors import BoxError
from sftrack.trackers import factory_of, tracker_names
from sftrack.trackers.base import BoxTracker

IMAGE = np.zeros((80, 120, 3), np.uint8)
PUBLISHED = (
    *("nanotrack-v2", "nanotrack-v3", "siamrpn++", "siamban", "atom18", "d3s", "pytracking"),
    *("dimp18", "dimp50", "prdimp18", "prdimp50", "super_dimp"),
)


class Bounded(BoxTracker):
    """Starts on what it is given, and answers with what it is told."""

    def __init__(self, answer: tuple[float, ...] = (10.0, 10.0, 20.0, 20.0)) -> None:
        self.answer = np.array(answer)

    def _start(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        self.start = box_xywh

    def _step(self, image_rgb: ImageRGB) -> tuple[BoxXYWH | None, float]:
        return self.answer, 0.5


class AsPublished(Bounded):
    _as_published = True


def test_the_deep_trackers_and_only_they_keep_to_what_was_published() -> None:
    assert {name for name in tracker_names() if getattr(factory_of(name), "_as_published", False)} == set(PUBLISHED)


@pytest.mark.parametrize(
    ("given", "published", "bounded"),
    [
        ((-10.0, 20.0, 30.0, 30.0), (-10.0, 20.0, 30.0, 30.0), (0.0, 20.0, 20.0, 30.0)),
        ((100.0, 70.5, 40.0, 20.0), (100.0, 70.5, 40.0, 20.0), (100.0, 70.5, 20.0, 9.5)),
        ((-100.0, 70.0, 400.0, 30.0), (0.0, 70.0, 120.0, 30.0), (0.0, 70.0, 120.0, 10.0)),
        ((40.0, 20.0, 400.0, 400.0), (40.0, 20.0, 80.0, 60.0), (40.0, 20.0, 80.0, 60.0)),
    ],
    ids=["beyond the left edge", "beyond a corner", "wider than the frame", "larger than the frame, to the right and below"],
)
def test_a_start_box_beyond_the_frame_is_cut_unless_the_procedure_is_published(
    given: tuple[float, ...], published: tuple[float, ...], bounded: tuple[float, ...]
) -> None:
    for tracker, expected in ((AsPublished(), published), (Bounded(), bounded)):
        tracker.init(IMAGE, np.array(given))
        np.testing.assert_allclose(tracker.start, expected)


@pytest.mark.parametrize("box", [(130.0, 10.0, 20.0, 20.0), (1.0, 1.0, np.nan, 5.0), (5.0, 5.0, 1.0, 40.0)])
def test_published_trackers_refuse_the_same_boxes_as_others(box: tuple[float, ...]) -> None:
    with pytest.raises(BoxError):
        AsPublished().init(IMAGE, np.array(box))


@pytest.mark.parametrize(
    ("answer", "published", "bounded"),
    [
        ((-30.0, 5.0, 200.0, 40.0), (-30.0, 5.0, 200.0, 40.0), (10.0, 5.0, 120.0, 40.0)),
        ((300.0, 5.0, 20.0, 40.0), (118.0, 5.0, 20.0, 40.0), (118.0, 5.0, 20.0, 40.0)),
        ((130.0, -9.0, 1.0, 1.5), (119.0, 0.0, 1.0, 1.5), (118.0, 0.0, 2.0, 2.0)),
    ],
    ids=["larger than the frame", "outside", "tiny"],
)
def test_a_box_is_handed_out_at_least_partly_visible(
    answer: tuple[float, ...], published: tuple[float, ...], bounded: tuple[float, ...]
) -> None:
    for tracker, expected in ((AsPublished(answer), published), (Bounded(answer), bounded)):
        tracker.init(IMAGE, np.array([10.0, 10.0, 20.0, 20.0]))
        np.testing.assert_allclose(tracker.update(IMAGE).box_xywh, expected)
