"""The tracker with online learning on the bundled backbone: that the classifier learns, that the box follows, and what happens when not."""

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from sftrack import engine
from sftrack.boxes import center_xy, iou
from sftrack.contracts import ImageRGB, Movable
from sftrack.datasets import read_sequence
from sftrack.errors import BoxError, ConfigError, NotInitialisedError, WeightsError
from sftrack.feat2seg_net import Feat2Seg
from sftrack.metrics import success_auc
from sftrack.mobilenet_v3 import MobileNetV3
from sftrack.trackers import create
from sftrack.trackers.discriminative.box_regression import MAX_CHANGE, BoxRegressor, Level
from sftrack.trackers.online import SEARCH_AREA, Online
from sftrack.weights.bundled import bundled_path, load_network
from tests.targets import Clip, Scene, clip_along, straight_clip, texture

# The box regressor

CELLS, LEVELS = 32, (Level(8, 8), Level(16, 5))
BOX = torch.tensor([128.0, 120.0, 64.0, 48.0])


def bump(stride_px: int, box: Tensor) -> Tensor:
    """A map `(1, 3, n, n)` that is smooth, 1 inside the box, 0 outside, beside two of the place."""
    cells = torch.arange(256 // stride_px) * stride_px + 0.5
    x, y = torch.meshgrid(cells, cells, indexing="xy")
    inside = [torch.sigmoid((side / 2 - (at - middle).abs()) / 6) for at, middle, side in zip((x, y), box[:2], box[2:], strict=True)]
    return torch.stack([inside[0] * inside[1], inside[0], inside[1]])[None]


def maps(box: Tensor) -> tuple[Tensor, Tensor]:
    return bump(8, box), bump(16, box)


@pytest.fixture(scope="module")
def regressor() -> BoxRegressor:
    return BoxRegressor(LEVELS, [(maps(BOX), BOX)], 0.0, torch.Generator().manual_seed(0))


@settings(deadline=None)
@given(st.tuples(*[st.floats(-0.12, 0.12) for _ in range(4)]))
def test_a_correction_leads_towards_the_target(regressor: BoxRegressor, error: tuple[float, float, float, float]) -> None:
    off = torch.tensor(error)
    start = torch.cat([BOX[:2] - off[:2] * BOX[2:], BOX[2:] * torch.exp(-off[2:])])
    wanted = torch.cat([(BOX[:2] - start[:2]) / start[2:], off[2:]])
    left = wanted - regressor.change(maps(BOX), start)
    assert left.norm() < 0.5 * wanted.norm() + 0.02


def test_a_correction_far_from_what_was_learned_is_cut_to_the_largest(regressor: BoxRegressor) -> None:
    torch.manual_seed(0)
    change = regressor.change([100.0 * torch.randn_like(map_) for map_ in maps(BOX)], BOX)
    assert change.abs().max().item() == pytest.approx(MAX_CHANGE)


def test_caution_leaves_corrections_of_what_is_known_and_takes_back_others(regressor: BoxRegressor) -> None:
    careful = BoxRegressor(LEVELS, [(maps(BOX), BOX)], 1.0, torch.Generator().manual_seed(0))
    start = BOX + torch.tensor([5.0, -4.0, 6.0, 4.0])
    torch.manual_seed(1)
    known, unlike = maps(BOX), [map_ + torch.randn_like(map_) for map_ in maps(BOX)]
    kept = [careful.change(seen, start).norm() / regressor.change(seen, start).norm() for seen in (known, unlike)]
    assert kept[0] > 0.4
    assert kept[1] < 0.5 * kept[0]


def test_maps_without_anything_in_them_correct_nothing() -> None:
    flat = [torch.zeros_like(map_) for map_ in maps(BOX)]
    regressor = BoxRegressor(LEVELS, [(flat, BOX)], 0.0, torch.Generator().manual_seed(0))
    assert regressor.change(flat, BOX).abs().max() < 0.02


# The tracker


def random_weights(seed: int) -> dict[str, Tensor]:
    """A backbone that nobody trained. Only its batch norms know what usual values are, or next to nothing would come out at its end."""
    torch.manual_seed(seed)
    network = MobileNetV3(9).train()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    pictures = np.stack([texture((256, 256), place, 0, 255, grain_px=grain) for place, grain in enumerate((6, 12, 30, 60))])
    with torch.no_grad():
        network(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255.0)
    return network.state_dict()


def growing_clip(frames: int, growth: float) -> Clip:
    """A textured rectangle that moves and grows evenly, `growth` times as large in the end."""
    ground, skin = texture((320, 240), 1, 20, 110, grain_px=10), texture((60, 45), 2, 120, 255)
    skin[..., 2] //= 4
    images, boxes = [], []
    for factor in np.linspace(1.0, growth, frames):
        image = ground.copy()
        w, h = round(60 * factor), round(45 * factor)
        x, y = round(70 + 40 * factor), round(50 + 20 * factor)
        image[y : y + h, x : x + w] = cv2.resize(skin, (w, h), interpolation=cv2.INTER_LINEAR)
        images.append(image)
        boxes.append((x, y, w, h))
    return Clip(images, np.array(boxes, dtype=np.float64))


def follow(tracker: Online, images: list[ImageRGB], box_xywh: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes `(T, 4)` and scores `(T,)`, the given box first."""
    tracker.init(images[0], box_xywh)
    estimates = [tracker.update(image) for image in images[1:]]
    return np.stack([box_xywh, *(estimate.box_xywh for estimate in estimates)]), np.array(
        [1.0, *(estimate.score for estimate in estimates)]
    )


@pytest.fixture(scope="module")
def tracker() -> Online:
    """Every test starts it again."""
    return Online()


def test_the_box_follows_a_target_that_moves_and_grows(tracker: Online) -> None:
    clip = growing_clip(30, 1.6)
    boxes, scores = follow(tracker, clip.images_rgb, clip.boxes_xywh[0])
    assert iou(boxes, clip.boxes_xywh).min() > 0.7
    assert scores.min() > 0.4


@pytest.mark.parametrize("seed", range(2))
def test_the_classifier_learns_on_a_backbone_of_random_weights(seed: int) -> None:
    """Far better than chance, which is a place anywhere in the searched area: a quarter of its side off in the mean of each direction."""
    clip = straight_clip(20)
    boxes, _ = follow(Online(weights=random_weights(seed)), clip.images_rgb, clip.boxes_xywh[0])
    off = np.abs(center_xy(boxes) - center_xy(clip.boxes_xywh))[1:]
    by_chance = SEARCH_AREA * math.sqrt(float(np.prod(Scene().object_wh))) / 4.0
    assert off.mean() < 0.15 * by_chance


@pytest.mark.parametrize("seed", range(2))
def test_random_weights_localise_on_a_real_sequence(shared: Path, seed: int) -> None:
    """A pedestrian on a street; a box that stands still has an AUC of 0.07 there."""
    sequence = read_sequence("OTB100", shared / "data" / "OTB100", "Crossing")
    truth = sequence.boxes_xywh[:60]
    boxes, _ = follow(Online(weights=random_weights(seed)), list(itertools.islice(sequence.frames(), 60)), truth[0])
    assert success_auc(boxes, truth) > 0.2 > 2.0 * success_auc(np.repeat(truth[:1], 60, axis=0), truth)


def test_the_bundled_backbone_tracks_a_real_sequence(shared: Path, tracker: Online) -> None:
    sequence = read_sequence("DAVIS", shared / "data" / "DAVIS", "car-shadow")
    boxes, _ = follow(tracker, list(sequence.frames()), sequence.boxes_xywh[0])
    assert success_auc(boxes, sequence.boxes_xywh) > 0.75


def test_a_target_that_leaves_scores_nothing_and_is_found_when_it_comes_back(tracker: Online) -> None:
    path = [(60.0 + 3.0 * t, 60.0) for t in range(10)]
    clip = clip_along([*path, *[None] * 6, *[path[-1]] * 4])
    boxes, scores = follow(tracker, clip.images_rgb, clip.boxes_xywh[0])
    assert (scores[10:16] == 0.0).all()
    np.testing.assert_array_equal(boxes[10:16], np.repeat(boxes[9:10], 6, axis=0))
    assert iou(boxes[-1], clip.boxes_xywh[-1]) > 0.6
    assert scores[-1] > 0.25


def test_it_goes_on_from_another_box_with_what_it_learned(tracker: Online) -> None:
    clip = straight_clip(16)
    follow(tracker, clip.images_rgb[:6], clip.boxes_xywh[0])
    movable: object = tracker
    assert isinstance(movable, Movable)
    tracker.move_to(clip.boxes_xywh[12] + np.array([4.0, -3.0, 0.0, 0.0]))
    estimates = [tracker.update(image) for image in clip.images_rgb[13:]]
    assert iou(estimates[-1].box_xywh, clip.boxes_xywh[-1]) > 0.7
    assert estimates[-1].score > 0.4


def test_what_a_frame_taught_from_the_wrong_place_is_forgotten() -> None:
    """The pipeline sends channels ahead, and those that it then moves look at that frame again: with the same result as without."""
    clip = straight_clip(16)
    box = clip.boxes_xywh[10] + np.array([3.0, -2.0, 0.0, 0.0])
    runs = []
    for ahead in (False, True):
        tracker = Online(train_skipping=1)
        follow(tracker, clip.images_rgb[:11], clip.boxes_xywh[0])
        if ahead:
            tracker.update(clip.images_rgb[11])
        tracker.move_to(box, forget_last=ahead)
        runs.append([tracker.update(image).box_xywh for image in clip.images_rgb[11:]])
    np.testing.assert_array_equal(runs[0], runs[1])


def test_moving_needs_a_start_and_a_box() -> None:
    tracker = Online()
    with pytest.raises(NotInitialisedError, match="init"):
        tracker.move_to(np.array([1.0, 1.0, 20.0, 20.0]))
    clip = straight_clip(1)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    with pytest.raises(BoxError):
        tracker.move_to(np.array([1.0, np.nan, 20.0, 20.0]))


def test_features_that_overflow_are_no_target(monkeypatch: pytest.MonkeyPatch, tracker: Online) -> None:
    """On any frame after the first, which the tracker then goes on from; and on the first, with which it can learn nothing."""
    clip = straight_clip(8)
    run = tracker._engine.run
    for start in (0, 3):
        tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
        with monkeypatch.context() as patch:
            patch.setattr(tracker._engine, "run", lambda *inputs: [np.full_like(output, np.nan) for output in run(*inputs)])
            if not start:
                tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
            lost = tracker.update(clip.images_rgb[1])
        assert lost.score == 0.0
        np.testing.assert_array_equal(lost.box_xywh, clip.boxes_xywh[0])
        found = [tracker.update(image) for image in clip.images_rgb[2:]][-1]
        assert np.isfinite(found.box_xywh).all()
        assert (iou(found.box_xywh, clip.boxes_xywh[-1]) > 0.6) == bool(start)


def test_the_seed_decides() -> None:
    clip = straight_clip(6)
    runs = [follow(Online(seed=seed), clip.images_rgb, clip.boxes_xywh[0])[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[2] - runs[0]).max() > 0.0
    assert iou(runs[2], clip.boxes_xywh).min() > 0.7


def test_nothing_random_is_taken_from_outside(tracker: Online) -> None:
    clip = straight_clip(3)
    boxes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        boxes.append(follow(tracker, clip.images_rgb, clip.boxes_xywh[0])[0])
        assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(boxes[0], boxes[1])


def test_both_engines_agree(monkeypatch: pytest.MonkeyPatch, tracker: Online) -> None:
    clip = straight_clip(10)
    expected, _ = follow(tracker, clip.images_rgb, clip.boxes_xywh[0])
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)
    weights = load_network(Feat2Seg(), bundled_path("feat2seg")).backbone.state_dict()
    boxes, _ = follow(Online(weights=weights), clip.images_rgb, clip.boxes_xywh[0])
    np.testing.assert_allclose(boxes, expected, atol=1.0)


def test_bad_settings_and_weights_are_named() -> None:
    with pytest.raises(ConfigError, match="train_skipping"):
        create("online", train_skipping=0)
    with pytest.raises(ConfigError, match="caution"):
        create("online", caution=math.nan)
    with pytest.raises(WeightsError, match="MobileNetV3"):
        create("online", weights={"features.0.0.weight": torch.zeros(16, 3, 3, 3)})
