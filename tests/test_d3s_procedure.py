"""What D3S does with what its networks say, with small networks in place of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sftrack.boxes import iou
from sftrack.errors import BoxError, ConfigError, MissingWeightsError
from sftrack.trackers import create
from sftrack.trackers.d3s import D3S
from sftrack.window import Window
from tests.stand_ins import small_d3s
from tests.targets import Scene, straight_clip

SIZE_WH = (240, 160)
CLIP = straight_clip(16)
SCENE = Scene()
Make = Callable[..., D3S]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Builds trackers with small networks."""
    weights = small_d3s(monkeypatch)

    def build(**params: Any) -> D3S:  # noqa: ANN401
        tracker = create("d3s", **{**weights, "init_iterations": 18, **params})
        assert isinstance(tracker, D3S)
        return tracker

    return build


def test_the_mask_lies_on_the_target_in_frame_coordinates(make: Make) -> None:
    tracker = make()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    for image, box in zip(CLIP.images_rgb[1:6], CLIP.boxes_xywh[1:6], strict=True):
        mask = tracker.update(image).mask
        assert mask is not None
        assert mask.values.shape == (384, 384)
        assert 0.0 <= mask.values.min() <= mask.values.max() <= 1.0
        seen = Window((0, 0), SIZE_WH, SIZE_WH).look_at(mask) > 0.5
        _, true = SCENE.render((box[0] + box[2] / 2, box[1] + box[3] / 2))
        assert (seen & true).sum() / (seen | true).sum() > 0.8


def turned(center_xy: tuple[float, float], degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright 70x30 rectangle in any direction on a dim ground, and its corners."""
    image, _ = SCENE.render(None)
    corners = cv2.boxPoints((center_xy, (70.0, 30.0), degrees))
    return np.asarray(cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (250, 220, 60))), corners.astype(np.float64)


def test_a_rectangle_of_any_direction_is_followed_and_its_direction_too(make: Make) -> None:
    tracker = make()
    image, corners = turned((100.0, 80.0), 30.0)
    tracker.init_rectangle(image, corners)
    np.testing.assert_array_equal(tracker.rectangle_xy, corners)
    for step in range(1, 8):
        image, corners = turned((100.0 + 3 * step, 80.0 + step), 30.0 + 3 * step)
        estimate = tracker.update(image)
    common, _ = cv2.intersectConvexConvex(tracker.rectangle_xy.astype(np.float32), corners.astype(np.float32))
    assert common / (2 * 70 * 30 - common) > 0.7
    hull = np.concatenate([corners.min(axis=0), np.ptp(corners, axis=0)])
    assert iou(estimate.box_xywh, hull) > 0.8


@pytest.mark.parametrize(
    "corners",
    [np.zeros((4, 2)), np.ones((3, 2)), np.full((4, 2), np.nan), np.array([(300, 10), (340, 10), (340, 40), (300, 40)])],
    ids=["a point", "three corners", "nan", "beside the frame"],
)
def test_what_is_no_rectangle_in_the_frame_is_refused(make: Make, corners: np.ndarray) -> None:
    with pytest.raises(BoxError, match="expected"):
        make().init_rectangle(CLIP.images_rgb[0], corners)


def test_without_a_mask_the_filter_alone_follows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features are random filters: what it follows with was learned on the first frame."""
    tracker = make()
    monkeypatch.setattr(tracker._segmenter, "segment", lambda crop_rgb: np.zeros((384, 384), np.float32))
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    for image, box in zip(CLIP.images_rgb[1:], CLIP.boxes_xywh[1:], strict=True):
        estimate = tracker.update(image)
        assert estimate.mask is None
        assert np.abs(estimate.box_xywh[:2] - box[:2]).max() < 8.0


def test_a_mask_of_quite_another_size_is_not_believed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = make()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    assert tracker.update(CLIP.images_rgb[1]).mask is not None
    monkeypatch.setattr(tracker._segmenter, "segment", lambda crop_rgb: np.ones((384, 384), np.float32))
    estimate = tracker.update(CLIP.images_rgb[2])
    assert estimate.mask is None
    assert iou(estimate.box_xywh, CLIP.boxes_xywh[2]) > 0.5


def test_the_box_grows_with_the_target_but_the_search_not_faster_than_a_twentieth_per_frame(make: Make) -> None:
    tracker = make()
    scales = []
    for step in range(6):
        scene = Scene(object_wh=(44 + 6 * step, 36 + 6 * step))
        image, _ = scene.render((120.0, 80.0))
        if step == 0:
            tracker.init(image, np.array(scene.box((120.0, 80.0)), dtype=np.float64))
        else:
            estimate = tracker.update(image)
            assert iou(estimate.box_xywh, np.array(scene.box((120.0, 80.0)))) > 0.85
        scales.append(tracker._scale)
    ratios = np.array(scales[1:]) / scales[:-1]
    assert ratios.max() < 1.05 + 1e-9
    assert scales[-1] > 1.15 * scales[0]


def test_the_score_falls_when_the_target_is_gone(make: Make) -> None:
    tracker = make()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    scores = [tracker.update(image).score for image in CLIP.images_rgb[1:]]
    assert min(scores) > 0.6
    empty, _ = SCENE.render(None)
    assert max(tracker.update(empty).score for _ in range(3)) < 0.4


def test_features_that_are_no_numbers_mean_lost_and_do_no_harm(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = make()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    before = tracker.update(CLIP.images_rgb[1]).box_xywh
    with monkeypatch.context() as broken:
        broken.setattr(tracker._target_filter, "features", lambda pixels: torch.full((1, 96, 16, 16), torch.nan))
        lost = tracker.update(CLIP.images_rgb[2])
    np.testing.assert_array_equal(lost.box_xywh, before)
    assert (lost.score, lost.mask) == (0.0, None)
    assert iou(tracker.update(CLIP.images_rgb[3]).box_xywh, CLIP.boxes_xywh[3]) > 0.8


@pytest.mark.parametrize("box", [(100, 70, 4, 4), (0, 0, 240, 160), (-300, -300, 900, 900), (238, 158, 2, 2)])
def test_targets_that_are_tiny_or_fill_the_frame_give_sound_boxes(make: Make, box: tuple[int, ...]) -> None:
    tracker = make()
    tracker.init(CLIP.images_rgb[0], np.array(box, dtype=np.float64))
    for image in CLIP.images_rgb[1:4]:
        estimate = tracker.update(image)
        assert np.isfinite(estimate.box_xywh).all()
        assert (estimate.box_xywh[2:] > 0).all()
        assert 0.0 <= estimate.score <= 1.0


def test_the_memory_of_samples_is_of_fixed_size_and_goes_on_when_it_is_full(make: Make) -> None:
    tracker = make(sample_memory_size=28, train_skipping=2)
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    samples = tracker._target_filter._learned._samples
    for image, box in zip(CLIP.images_rgb[1:], CLIP.boxes_xywh[1:], strict=True):
        assert iou(tracker.update(image).box_xywh, box) > 0.8
    assert tracker._target_filter._learned._samples is samples
    assert len(samples) == 28


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init_iterations", 0),
        ("init_iterations", 20),
        ("update_iterations", 2.5),
        ("train_skipping", 0),
        ("sample_memory_size", 27),
        ("learning_rate", 0.0),
        ("hard_negative_learning_rate", 1.0),
        ("mask_threshold", 1.0),
    ],
)
def test_settings_out_of_range_are_refused(make: Make, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"expected {name} .*got {value}"):
        make(**{name: value})


def test_the_registrys_files_are_taken_and_missing_ones_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTRACK_WEIGHTS", str(tmp_path))
    state = make()._target_filter._backbone.state_dict()
    with pytest.raises(MissingWeightsError, match="weights of d3s,"):
        create("d3s")
    torch.save({"net": state, "epoch": 40}, tmp_path / "SegmNet.pth.tar")
    with pytest.raises(MissingWeightsError, match="weights of d3s-backbone,"):
        create("d3s")
    torch.save(state, tmp_path / "resnet50.tv_in1k.pth")
    assert isinstance(create("d3s"), D3S)
