"""ATOM against the fixtures, stage by stage and over whole tracks, and what it does where a target is hard to follow."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sftrack.boxes import center_xy
from sftrack.datasets import read_sequence
from sftrack.errors import ConfigError, MissingWeightsError, WeightsError
from sftrack.trackers import atom, create
from sftrack.trackers.atom import ATOM, ATOMNet
from sftrack.trackers.discriminative.iou_net import IoUNet, TwoLevels, ascend, modulate
from sftrack.trackers.discriminative.learned_filter import LearnedFilter
from sftrack.trackers.discriminative.localisation import Flag, Localisation, localise
from sftrack.trackers.discriminative.memory import SampleWeights
from sftrack.trackers.discriminative.online_filter import gaussian_labels, rms_normalised, upsampling
from sftrack.trackers.discriminative.patches import to_patch, vector
from sftrack.trackers.discriminative.refinement import Refinement
from sftrack.trackers.discriminative.state import State
from tests.discriminative import TRACES, Fixtures, Record, assert_close, check_boxes, trace
from tests.targets import straight_clip

DETERMINISTIC = {"random_boxes": 0, "init_iterations": 18, "update_iterations": 3, "hard_negative_iterations": 3}
"""Settings of the fixtures' tracks. With more iterations rounding errors grow to a tenth of the filter in the original, too."""
QUICK = {**DETERMINISTIC, "use_augmentation": False}


@pytest.fixture(scope="module")
def fixtures(shared: Path) -> Fixtures:
    return Fixtures(shared, "atom18")


@pytest.fixture(scope="module")
def state(fixtures: Fixtures) -> dict[str, Tensor]:
    """Random weights of the official names; as it is, the box regressor would take huge steps."""
    state = fixtures.state()
    state["bb_regressor.iou_predictor.weight"] *= 2.0**-9
    state["bb_regressor.iou_predictor.bias"] *= 2.0**-9
    return state


@pytest.fixture(scope="module")
def still(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with a box regressor that likes all boxes alike, so that only the filter moves the target."""
    return {**state, "bb_regressor.iou_predictor.weight": torch.zeros_like(state["bb_regressor.iou_predictor.weight"])}


@pytest.fixture(scope="module")
def quick(still: dict[str, Tensor]) -> ATOM:
    """A tracker that is started in no time; every test starts it again."""
    return ATOM(weights=still, **QUICK)


# The network


def test_the_state_dict_has_the_official_names_in_their_order(fixtures: Fixtures) -> None:
    assert [(name, list(tensor.shape)) for name, tensor in ATOMNet().state_dict().items()] == list(fixtures.shapes.items())


def test_every_stage_of_the_backbone_equals_the_original(fixtures: Fixtures, quick: ATOM) -> None:
    image = 255 * fixtures.tensor("image", (1, 3, 288, 288), "uniform")
    backbone = quick._network.feature_extractor
    assert_close(backbone.normalise(image)[0, :, ::16, ::16], fixtures["image_normalised_sub"])
    with torch.no_grad():
        maps = backbone(image)
    steps = {"conv1": (8, 12), "layer1": (8, 6), "layer2": (8, 3), "layer3": (8, 2)}
    for name, (channel, cell) in steps.items():
        check_stage(fixtures, f"backbone_{name}", getattr(maps, name), channel, cell)
    check_stage(fixtures, "clf_feat_normalised", rms_normalised(maps.layer3), 8, 2)


def check_stage(fixtures: Fixtures, name: str, values: Tensor, channel: int, cell: int) -> None:
    assert_close(values[0, ::channel, ::cell, ::cell], fixtures[f"{name}_sub"])
    statistics = values.mean(), values.std(unbiased=False), values.min(), values.max()
    assert_close(torch.stack(statistics), fixtures[f"{name}_stats"])


def test_the_merged_box_regressor_equals_the_original(fixtures: Fixtures, state: dict[str, Tensor]) -> None:
    regressor = ATOM(weights=state)._network.bb_regressor

    def layers(branch: str) -> TwoLevels:
        names_shapes = ((f"iou_{branch}_layer2", (1, 128, 36, 36)), (f"iou_{branch}_layer3", (1, 256, 18, 18)))
        return TwoLevels(*(16 * fixtures.tensor(name, shape) for name, shape in names_shapes))

    modulation = regressor.modulation(layers("ref"), torch.from_numpy(fixtures["iou_ref_box"][0]))
    features = regressor.features(layers("test"))
    check_stage(fixtures, "iou_feat3", features.stride8, 8, 3)
    check_stage(fixtures, "iou_feat4", features.stride16, 8, 2)
    scores = regressor(modulate(features, modulation), torch.from_numpy(fixtures["iou_proposals"]))
    assert_close(scores, fixtures["iou_pred"])
    check_jitter(fixtures, regressor, modulate(features, modulation))


def check_jitter(fixtures: Fixtures, regressor: IoUNet, modulated: TwoLevels) -> None:
    """Proposals, their refinement, and the state that follows."""
    values = vector(fixtures["jitter_state_posyx_szhw_baseszhw_sampleposyx_scale"])
    position, size, base, middle, scale = values[:2], values[2:4], values[4:6], values[6:8], values[8]
    refinement = Refinement("default", 5, 1.0)
    rough = torch.from_numpy(to_patch(position, size, middle, scale, 288))
    proposals = refinement.proposals(rough, fixtures.tensor("jitter", (9, 4), "uniform"))
    np.testing.assert_allclose(proposals, fixtures["jitter_proposals"], atol=1e-3)
    boxes, scores = ascend(regressor, modulated, proposals, space="default", iterations=5, step_length=1.0)
    np.testing.assert_allclose(boxes, fixtures["jitter_refined"], atol=0.05)
    assert_close(scores, fixtures["jitter_iou"])
    box = refinement.select(boxes, scores)
    assert box is not None
    found = State(position, size, scale).refined(box, middle, scale, 288, base)
    assert found is not None
    np.testing.assert_allclose([*found.position, *found.size, found.scale], fixtures["jitter_result_posyx_szhw_scale"], atol=0.05)


# Everything around it


def test_labels_follow_the_refined_position_as_in_the_original(fixtures: Fixtures, quick: ATOM) -> None:
    *numbers, scale = vector(fixtures["label_state_posyx_sampleposyx_scale"])
    offset = torch.tensor(numbers[:2]) - torch.tensor(numbers[2:])
    assert_close(quick._labels(offset[None], scale)[0], fixtures["label_from_state"])


def test_places_and_flags_equal_the_original(fixtures: Fixtures) -> None:
    matrix, thresholds = upsampling(18, 288).float().numpy(), atom.ATOMSettings().thresholds
    cases = zip(fixtures["loc_raw_scores"], vector(fixtures["loc_targetsz_hw_scale"]), strict=True)
    for index, (raw, (height, width, scale)) in enumerate(cases):
        found = localise(matrix @ raw @ matrix.T, scale, vector((height, width)), vector((0, 0)), thresholds)
        assert found.flag == fixtures["loc_flags"][index]
        np.testing.assert_allclose(found.translation, fixtures["loc_translation_yx"][index], atol=1e-3)
        assert found.peak == pytest.approx(fixtures["loc_max"][index], rel=1e-4)


def test_the_memory_equals_the_original(fixtures: Fixtures) -> None:
    memory = SampleWeights(20, int(fixtures["memory_n_init"]), 0.25)
    for rate, index, expected in zip(fixtures["memory_learning_rate"], fixtures["memory_index"], fixtures["memory_weights"], strict=True):
        assert memory.add(float(rate)) == index
        assert_close(memory.values, expected)


def test_positions_are_kept_near_the_frame_as_in_the_original(fixtures: Fixtures) -> None:
    for (y, x, height, width), expected in zip(fixtures["clamp_cases_yxhw"], fixtures["clamp_pos_yx"], strict=True):
        target = State(vector((0, 0)), vector((height, width)), np.float32(1.0))
        np.testing.assert_allclose(target.moved(vector((y, x)), (480, 854)).position, expected, atol=1e-3)


def test_the_choice_among_refined_boxes_equals_the_original(fixtures: Fixtures) -> None:
    values = vector(fixtures["select_state_posyx_szhw_baseszhw"])
    middle = vector(fixtures["jitter_state_posyx_szhw_baseszhw_sampleposyx_scale"])[6:8]
    scale = vector(fixtures["jitter_state_posyx_szhw_baseszhw_sampleposyx_scale"])[8]
    before = State(values[:2], values[2:4], np.float32(1.5))
    boxes, scores = torch.from_numpy(fixtures["select_boxes"]), torch.from_numpy(fixtures["select_iou"])
    for part, expected in zip((slice(0, 10), slice(0, 4), slice(2, 4)), fixtures["select_result_posyx_szhw_scale"], strict=True):
        box = Refinement("default", 5, 1.0).select(boxes[part], scores[part])
        after = before if box is None else before.refined(box, middle, scale, 288, values[4:6])
        assert after is not None
        np.testing.assert_allclose([*after.position, *after.size, after.scale], expected, rtol=1e-5)


# Whole tracks


def trace_tracker(fixtures: Fixtures, state: dict[str, Tensor], kind: str, **settings: Any) -> ATOM:  # noqa: ANN401
    return ATOM(
        weights=state,
        initial_filter=fixtures.tensor("trace_filter", (1, 64, 4, 4)) / 1024,
        initial_projection=fixtures.tensor("trace_projection", (64, 256, 1, 1)) / 16,
        train_skipping=int(fixtures["trace_train_skipping"]),
        **DETERMINISTIC,
        **TRACES[kind],
        **settings,
    )


@pytest.mark.parametrize("kind", TRACES)
def test_tracks_equal_the_original_in_every_stage(
    fixtures: Fixtures, state: dict[str, Tensor], shared: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, expected = trace(fixtures, shared, kind)
    record, raw = Record(), []
    record.attach(monkeypatch, atom)
    scores = LearnedFilter.scores
    monkeypatch.setattr(LearnedFilter, "scores", lambda *args: raw.append(scores(*args)) or raw[-1])
    tracker = trace_tracker(fixtures, state, kind)
    tracker.init(frames[0], expected["boxes"][0])

    assert_close(tracker._filter.projection[..., 0, 0], expected["projection_after_init"], 1e-3)
    assert_close(tracker._filter.weight[0], expected["filter"][0], 1e-3)
    assert_close(tracker._filter._labels[: len(record.views[0])], expected["init_labels"])
    assert tracker._state.scale == pytest.approx(expected["target_scale"][0], rel=1e-6)
    for index, frame in enumerate(frames[1:]):
        np.testing.assert_allclose(tracker._state.position, expected["pos_yx_before"][index], atol=0.05)
        estimate = tracker.update(frame)
        np.testing.assert_allclose(estimate.box_xywh, expected["boxes"][index + 1], atol=0.05)
        assert estimate.score == pytest.approx(expected["max_score"][index], abs=1e-3)
        assert tracker._state.scale == pytest.approx(expected["target_scale"][index + 1], rel=1e-3)
        assert_close(tracker._filter.weight[0], expected["filter"][index + 1], 1e-3)
        assert_close(tracker._filter.weights.values[:40], expected["sample_weights"][index + 1])
    assert_close(np.stack(raw), expected["scores_raw"], 1e-3)
    record.check(expected, kind)


@pytest.mark.parametrize("kind", TRACES)
def test_tracks_with_the_later_way_of_cropping_equal_the_original(
    fixtures: Fixtures, state: dict[str, Tensor], shared: Path, kind: str
) -> None:
    frames, expected = trace(fixtures, shared, kind)
    check_boxes(trace_tracker(fixtures, state, kind, fractional_bounds=True), frames, expected["2022variant_boxes"])


# What it does with a target


def test_what_it_learns_finds_the_target_even_in_random_features(quick: ATOM) -> None:
    clip = straight_clip(7, step_xy=(7.0, 5.0))
    quick.init(clip.images_rgb[0], clip.boxes_xywh[0])
    for image, truth in zip(clip.images_rgb[1:], clip.boxes_xywh[1:], strict=True):
        estimate = quick.update(image)
        assert np.abs((estimate.box_xywh - truth)[:2]).max() < 8, "of a target of 44 x 36 pixels that moved by 42 and 30"
        assert estimate.score > 0.25


def test_what_it_learns_finds_the_target_of_a_real_sequence_in_random_features(shared: Path, quick: ATOM) -> None:
    """A cyclist: on these frames a box that stands still is off by 0.4 sizes of the target in the mean; docs/trackers.md has more."""
    sequence = read_sequence("OTB100", shared / "data" / "OTB100", "MountainBike")
    truth = sequence.boxes_xywh[:25]
    frames = list(itertools.islice(sequence.frames(), len(truth)))
    quick.init(frames[0], truth[0])
    boxes = np.stack([truth[0], *(quick.update(frame).box_xywh for frame in frames[1:])])
    tracked, still = (
        np.linalg.norm(center_xy(given) - center_xy(truth), axis=1) / np.sqrt(truth[:, 2:].prod(1)) for given in (boxes, truth[:1])
    )
    assert tracked.mean() < 0.15
    assert still.mean() > 0.35


def test_boxes_are_the_same_for_the_same_seed_and_others_for_another(state: dict[str, Tensor]) -> None:
    clip = straight_clip(3)
    boxes = []
    for seed in (5, 5, 6):
        tracker = ATOM(weights=state, seed=seed, **{**QUICK, "random_boxes": 2})
        tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
        estimates = [tracker.update(image) for image in clip.images_rgb[1:]]
        assert all(estimate.score > 0 for estimate in estimates)
        boxes.append(np.stack([estimate.box_xywh for estimate in estimates]))
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert np.abs(boxes[0] - boxes[2]).min() > 0


def test_all_of_the_augmentation_is_learned_from(still: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The flipped, blurred and rotated views are shifted at random, and the labels move with the target."""
    clip, seen = straight_clip(1), []
    monkeypatch.setattr(atom, "LearnedFilter", lambda *args, **_: seen.append(args))
    tracker = ATOM(weights=still)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    features, labels, weight, projection = seen[0]
    assert (features.shape, labels.shape) == ((30, 256, 18, 18), (30, 18, 18))
    assert (weight.shape, projection.shape) == ((1, 64, 4, 4), (64, 256, 1, 1))
    assert weight.std() == pytest.approx(1 / 1024, rel=0.1)
    assert projection.std() == pytest.approx(1 / 16, rel=0.1)
    peaks = np.array([np.unravel_index(int(label.argmax()), (18, 18)) for label in labels])
    np.testing.assert_array_equal(peaks[[0, *range(23, 30)]], np.full((8, 2), 9))
    np.testing.assert_allclose(peaks[1:5] - 9, [[5, 5], [-5, 5], [5, -5], [-5, -5]], atol=1)
    assert len(np.unique(peaks[5:23], axis=0)) > 5
    dropped = (features[23:].abs().amax(dim=(2, 3)) == 0) & (features[:1].abs().amax(dim=(2, 3)) > 0)
    assert 0.1 < dropped.float().mean() < 0.3


def test_starting_again_forgets_everything(quick: ATOM) -> None:
    clip = straight_clip(3)
    boxes = []
    for first in (0, 1, 0):
        quick.init(clip.images_rgb[first], clip.boxes_xywh[first])
        boxes.append(quick.update(clip.images_rgb[2]).box_xywh)
    np.testing.assert_array_equal(boxes[0], boxes[2])


def test_a_lost_target_keeps_its_box_and_is_not_learned_but_training_goes_on(
    still: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = straight_clip(1)
    tracker = ATOM(weights=still, **QUICK, target_not_found_threshold=100.0, train_skipping=2)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    learned: list[int] = []
    monkeypatch.setattr(tracker._filter, "learn", learned.append)
    weights = tracker._filter.weights.values.copy()
    for _ in range(4):
        estimate = tracker.update(clip.images_rgb[0])
        assert estimate.score == 0.0
        np.testing.assert_array_equal(estimate.box_xywh, clip.boxes_xywh[0])
    np.testing.assert_array_equal(tracker._filter.weights.values, weights)
    assert learned == [3, 3], "on the third and the fifth frame"


@pytest.mark.parametrize(
    ("flag", "remembered", "rate", "learned"),
    [(Flag.NORMAL, 1, 0.01, []), (Flag.HARD_NEGATIVE, 1, 0.02, [3]), (Flag.UNCERTAIN, 0, None, [])],
)
def test_a_distractor_is_learned_and_a_doubtful_place_is_not(
    quick: ATOM, monkeypatch: pytest.MonkeyPatch, flag: Flag, remembered: int, rate: float | None, learned: list[int]
) -> None:
    clip = straight_clip(2)
    quick.init(clip.images_rgb[0], clip.boxes_xywh[0])
    calls: list[int] = []
    monkeypatch.setattr(quick._filter, "learn", calls.append)
    monkeypatch.setattr(atom, "localise", lambda *_: Localisation(vector((2, 3)), flag, 0.6))
    before = quick._state.position
    quick.update(clip.images_rgb[1])
    assert calls == learned
    assert quick._filter.weights.used == 1 + remembered
    assert np.abs(quick._state.position - before).max() > 1.0, "the box follows all the same"
    if rate is not None:
        assert quick._filter.weights.values[1] == pytest.approx(rate / (1.0 / (1.0 - rate) + rate), rel=1e-3)


def test_without_a_sound_box_the_last_one_stays_but_the_place_is_learned(quick: ATOM, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = straight_clip(2, step_xy=(7.0, 5.0))
    quick.init(clip.images_rgb[0], clip.boxes_xywh[0])
    monkeypatch.setattr(Refinement, "refine", lambda *_: (None, 0.0))
    estimate = quick.update(clip.images_rgb[1])
    np.testing.assert_allclose(estimate.box_xywh, clip.boxes_xywh[0], atol=1e-4)
    assert estimate.score > 0
    middle, expected = np.array([9.0, 9.0]), np.array([5.0, 7.0]) / (16 * quick._state.scale)
    peak = np.array(np.unravel_index(int(quick._filter._labels[1].argmax()), (18, 18)))
    assert np.abs(peak - middle - expected).max() < 1.0, "the label is where the scores were highest"


def test_the_memory_stays_as_large_as_it_was(still: dict[str, Tensor]) -> None:
    clip = straight_clip(1)
    tracker = ATOM(weights=still, **QUICK, sample_memory_size=4)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    for _ in range(6):
        tracker.update(clip.images_rgb[0])
    assert tracker._filter._samples.shape[0] == 4
    assert tracker._filter.weights.used == 4
    assert tracker._filter.weights.values.sum() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "box", [(100, 60, 4, 4), (0, 0, 240, 160), (230, 150, 10, 10), (0, 40, 8, 100)], ids=["tiny", "the frame", "corner", "long"]
)
@pytest.mark.parametrize("texture", [True, False])
def test_boxes_stay_sound(quick: ATOM, box: tuple[int, ...], texture: bool) -> None:
    images = straight_clip(3).images_rgb
    if not texture:
        images = [np.full_like(image, 128) for image in images]
    for image in images:
        image.setflags(write=False)
    quick.init(images[0], np.array(box, dtype=np.float64))
    for image in images[1:]:
        estimate = quick.update(image)
        assert np.isfinite(estimate.box_xywh).all()
        assert (estimate.box_xywh[2:] > 0).all()
        assert 0.0 <= estimate.score <= 1.0


def test_a_target_that_leaves_the_frame_is_not_followed_to_nowhere(quick: ATOM) -> None:
    clip = straight_clip(5, step_xy=(20.0, 0.0), start_xy=(159.0, 80.0))
    quick.init(clip.images_rgb[0], clip.boxes_xywh[0])
    for image in clip.images_rgb[1:]:
        x, y, width, height = quick.update(image).box_xywh
        assert -width < x < 240
        assert -height < y < 160


def test_nan_weights_and_weights_of_another_network_are_refused(state: dict[str, Tensor]) -> None:
    name = "feature_extractor.layer2.0.conv1.weight"
    with pytest.raises(WeightsError, match=f"NaN or infinity in '{name}'"):
        create("atom18", weights={**state, name: torch.full_like(state[name], torch.nan)})
    with pytest.raises(WeightsError, match=f"lacks '{name}'"):
        create("atom18", weights={key: tensor for key, tensor in state.items() if key != name})


def test_old_checkpoints_lack_the_counters_of_batch_norm(state: dict[str, Tensor]) -> None:
    create("atom18", weights={"net": {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}})


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTRACK_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="sftrack weights fetch atom18"):
        create("atom18")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("learning_rate", 1.5, "expected learning_rate"),
        ("init_iterations", 50, "a multiple of init_steps"),
        ("init_steps", 0, "expected init_steps"),
        ("sample_memory_size", 30, "sample_memory_size above the first frame's 30"),
        ("max_shrink", 1.5, "expected no max_shrink"),
        ("label_sigma_factor", 0.0, "expected label_sigma_factor > 0"),
        ("label_sigma_factor", float("nan"), "expected label_sigma_factor as a finite number, got nan"),
        ("random_box", 3, "did you mean 'random_boxes'"),
    ],
)
def test_bad_settings_are_named(setting: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("atom18", weights={}, **{setting: value})


@pytest.mark.parametrize("seed", ["x", 1.5, -1, 2**64])
def test_what_is_no_seed_is_said(still: dict[str, Tensor], seed: object) -> None:
    with pytest.raises(ConfigError, match=f"expected seed as a whole number from 0, with 64 bits, got {seed}"):
        create("atom18", weights=still, seed=seed)


def test_the_first_frame_gives_thirty_samples() -> None:
    assert atom.ATOMSettings().initial_samples == 30


def test_labels_are_a_quarter_of_the_target_wide(quick: ATOM) -> None:
    label = quick._labels(torch.zeros(1, 2), np.float32(2.0))
    torch.testing.assert_close(label, gaussian_labels(torch.full((1, 2), 0.5), 18, 0.9))
