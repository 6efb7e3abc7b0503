"""DiMP, PrDiMP and SuperDiMP against the fixtures, stage by stage and as a whole; what their settings and checkpoints promise."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sftrack.errors import ConfigError, MissingWeightsError, WeightsError
from sftrack.trackers import create, dimp
from sftrack.trackers.dimp import DiMP, DiMP18, DiMP50, PrDiMP18, PrDiMP50, SuperDiMP
from sftrack.trackers.discriminative.correlation import correlate
from sftrack.trackers.discriminative.dimp_net import DiMPNet
from sftrack.trackers.discriminative.iou_net import TwoLevels, ascend, modulate
from sftrack.trackers.discriminative.iou_net import _from_relative as from_relative
from sftrack.trackers.discriminative.iou_net import _to_relative as to_relative
from sftrack.trackers.discriminative.localisation import Flag, Localisation, localise
from sftrack.trackers.discriminative.memory import SampleWeights
from sftrack.trackers.discriminative.patches import to_patch, vector
from sftrack.trackers.discriminative.refinement import Refinement
from sftrack.trackers.discriminative.resnet import resnet18, resnet50
from sftrack.trackers.discriminative.state import State
from sftrack.trackers.discriminative.steepest_descent import HingeLoss, KLDivergence, Samples, SteepestDescent, cells_of
from sftrack.weights.registry import recognise
from tests.discriminative import TRACES, Fixtures, Record, assert_close, check_boxes, trace
from tests.stand_ins import small_dimp
from tests.targets import straight_clip

PRDIMP = PrDiMP18.variant.settings
NAMES: dict[str, type[DiMP]] = {"dimp18": DiMP18, "dimp50": DiMP50, "prdimp18": PrDiMP18, "prdimp50": PrDiMP50, "super_dimp": SuperDiMP}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def fixtures(shared: Path) -> Fixtures:
    return Fixtures(shared, "prdimp18")


@pytest.fixture(scope="module")
def state(fixtures: Fixtures) -> dict[str, Tensor]:
    """The weights that the fixtures were made with."""
    tensors = fixtures.state()
    tensors["classifier.filter_optimizer.log_step_length"].fill_(-0.1)
    tensors["classifier.filter_optimizer.filter_reg"].fill_(0.06)
    for name in ("weight", "bias"):
        tensors[f"bb_regressor.iou_predictor.{name}"] *= 2.0**-7
    return tensors


@pytest.fixture(scope="module")
def network(state: dict[str, Tensor]) -> DiMPNet:
    """As the tracker runs it: batch norms folded."""
    return PrDiMP18(weights=state)._network


@pytest.fixture(scope="module")
def samples(fixtures: Fixtures) -> Samples:
    features = fixtures.tensor("train_feat", (5, 256, 18, 18)) / 64
    return Samples(features, torch.from_numpy(fixtures["train_boxes"]), torch.from_numpy(fixtures["train_weights"]))


@pytest.fixture(scope="module")
def first_filter(fixtures: Fixtures) -> Tensor:
    return 0.25 * fixtures.tensor("filter0", (1, 256, 4, 4))


def test_the_state_dict_has_the_official_names_in_their_order(fixtures: Fixtures) -> None:
    own = {name: list(tensor.shape) for name, tensor in DiMPNet(resnet18(), 256, 1, KLDivergence()).state_dict().items()}
    assert sorted(own.items()) == sorted(fixtures.shapes.items())
    hinge = {f"{name} {tuple(tensor.shape)}" for name, tensor in DiMPNet(resnet18(), 256, 1, HingeLoss()).state_dict().items()}
    assert hinge - {f"{name} {tuple(shape)}" for name, shape in own.items()} == set(fixtures["dimp_state_names_not_in_prdimp18"])
    assert len(hinge) == len(own) + 3


def test_backbone_and_classification_features(fixtures: Fixtures, network: DiMPNet) -> None:
    image = 255 * fixtures.tensor("image", (1, 3, 288, 288), "uniform")
    backbone = network.feature_extractor
    assert_close(backbone.normalise(image)[0, :, ::16, ::16], fixtures["image_normalised_sub"])
    maps = backbone(image)
    for name, channels, cells in (("conv1", 8, 12), ("layer1", 8, 6), ("layer2", 8, 3), ("layer3", 8, 2)):
        values = getattr(maps, name)
        assert_close(values[0, ::channels, ::cells, ::cells], fixtures[f"backbone_{name}_sub"])
        assert_close(statistics(values), fixtures[f"backbone_{name}_stats"])
    assert_close(network.classifier.features(maps.layer3)[0, ::8, ::2, ::2], fixtures["clf_feat_from_image_sub"])
    features = network.classifier.features(fixtures.tensor("clf_layer3", (2, 256, 18, 18)))
    assert_close(features[:, ::8, ::2, ::2], fixtures["clf_feat_sub"])
    assert_close(statistics(features), fixtures["clf_feat_stats"])


def statistics(values: Tensor) -> np.ndarray:
    array = values.double().numpy()
    return np.array([array.mean(), array.std(), array.min(), array.max()])


def test_the_first_filter(fixtures: Fixtures, network: DiMPNet, samples: Samples) -> None:
    initializer = network.classifier.filter_initializer
    assert_close(initializer(samples.features, samples.boxes_xywh), fixtures["filter_init"])
    assert_close(initializer(samples.features[:1], samples.boxes_xywh[:1]), fixtures["filter_init_first_sample_only"])


def test_scores_of_a_filter(fixtures: Fixtures, network: DiMPNet, samples: Samples, first_filter: Tensor) -> None:
    assert_close(correlate(samples.features, first_filter), fixtures["train_scores_before"])
    features = fixtures.tensor("test_feat", (2, 256, 18, 18)) / 64
    scores = correlate(features, torch.from_numpy(fixtures["filter_iterates"][-1:]))
    assert_close(scores, fixtures["score_map"])
    assert_close(network.classifier.filter_optimizer.confidence(scores), fixtures["score_map_softmax"])


def test_prdimp_optimiser(fixtures: Fixtures, network: DiMPNet, samples: Samples, first_filter: Tensor) -> None:
    optimizer = network.classifier.filter_optimizer
    assert isinstance(optimizer, KLDivergence)
    assert_close(optimizer.density(cells_of(samples.boxes_xywh, first_filter), 19), fixtures["label_density"])
    check_iterates(optimizer, samples, first_filter, fixtures["filter_iterates"], fixtures["filter_losses"])
    uniform = samples._replace(weights=torch.full((5,), 0.2))
    check_iterates(optimizer, uniform, first_filter, fixtures["filter_iterates_uniform_weights"])
    low = KLDivergence()
    low.log_step_length.fill_(-0.1)
    low.filter_reg.fill_(0.01)
    check_iterates(low, samples, first_filter, fixtures["filter_iterates_reg_0.01_clamped"])


def test_dimp_optimiser(fixtures: Fixtures, samples: Samples, first_filter: Tensor) -> None:
    optimizer = HingeLoss()
    optimizer.log_step_length.fill_(-0.1)
    optimizer.filter_reg.fill_(0.06)
    for name in ("label_map_predictor", "target_mask_predictor.0", "spatial_weight_predictor"):
        weight = fixtures.tensor(f"classifier.filter_optimizer.{name}.weight", (1, 100, 1, 1), "weight")
        optimizer.get_parameter(f"{name}.weight").copy_(weight)
    maps = optimizer.maps(cells_of(samples.boxes_xywh, first_filter), 19)
    for values, name in zip(maps, ("label_map", "target_mask", "spatial_weight"), strict=True):
        assert_close(values, fixtures[f"dimp_{name}"])
    check_iterates(optimizer, samples, first_filter, fixtures["dimp_filter_iterates"], fixtures["dimp_filter_losses"])


def check_iterates(
    optimizer: SteepestDescent, samples: Samples, start: Tensor, expected: np.ndarray, losses: np.ndarray | None = None
) -> None:
    filters = [start, *optimizer.iterates(start, samples, len(expected) - 1)]
    for actual, wanted in zip(filters, expected, strict=True):
        assert_close(actual[0], wanted)
    assert torch.equal(optimizer(start, samples, len(expected) - 1), filters[-1])
    if losses is not None:
        np.testing.assert_allclose([float(optimizer.loss(kernel, samples)) for kernel in filters], losses, rtol=1e-5)


def test_localisation(fixtures: Fixtures) -> None:
    scores = KLDivergence().confidence(torch.from_numpy(fixtures["loc_raw_scores"])).numpy()
    cases = fixtures["loc_posoffset_yx_targetsz_hw_scale"].astype(np.float32)
    assert set(fixtures["loc_flags"]) == set(Flag)
    for index, case in enumerate(cases):
        cell = 16 * case[4]
        found = localise(scores[index], cell, case[2:4], case[:2] / cell, PRDIMP.thresholds)
        assert found.flag == fixtures["loc_flags"][index]
        np.testing.assert_allclose(found.translation, fixtures["loc_translation_yx"][index], atol=1e-3)


def test_random_boxes_and_the_choice_among_refined_ones(fixtures: Fixtures) -> None:
    case = vector(fixtures["jitter_state_posyx_szhw_baseszhw_sampleposyx_scale"])
    base, middle, scale = case[4:6], case[6:8], case[8]
    start = State(case[:2], case[2:4], np.sqrt(np.prod(case[2:4]) / np.prod(base)))
    refinement = PRDIMP.refinement
    box = to_patch(start.position, start.size, middle, scale, 288)
    proposals = refinement.proposals(torch.from_numpy(box), fixtures.tensor("jitter", (9, 4), "uniform"))
    np.testing.assert_allclose(proposals, fixtures["jitter_proposals"], atol=1e-4)

    def chosen(boxes: np.ndarray, scores: np.ndarray, start: State, base: np.ndarray) -> np.ndarray:
        best = refinement.select(torch.from_numpy(boxes), torch.from_numpy(scores))
        state = start if best is None else start.refined(best, middle, scale, 288, base)
        assert state is not None
        return np.array([*state.position, *state.size, state.scale])

    result = chosen(fixtures["jitter_refined"], fixtures["jitter_iou"], start, base)
    np.testing.assert_allclose(result, fixtures["jitter_result_posyx_szhw_scale"], atol=1e-3)

    case = vector(fixtures["select_state_posyx_szhw_baseszhw"])
    start, base = State(case[:2], case[2:4], np.float32(1.5)), case[4:6]
    for which, expected in zip((slice(10), slice(4), slice(2, 4)), fixtures["select_result_posyx_szhw_scale"], strict=True):
        result = chosen(fixtures["select_boxes"][which], fixtures["select_iou"][which], start, base)
        np.testing.assert_allclose(result, expected, atol=1e-3)


def test_random_boxes_are_refined_like_the_original(fixtures: Fixtures, network: DiMPNet) -> None:
    regressor = network.bb_regressor

    def layers(branch: str) -> TwoLevels:
        names_shapes = ((f"iou_{branch}_layer2", (1, 128, 36, 36)), (f"iou_{branch}_layer3", (1, 256, 18, 18)))
        return TwoLevels(*(16 * fixtures.tensor(name, shape) for name, shape in names_shapes))

    features = regressor.features(layers("test"))
    for values, name in ((features.stride8, "iou_feat3"), (features.stride16, "iou_feat4")):
        assert_close(statistics(values), fixtures[f"{name}_stats"])
    modulated = modulate(features, regressor.modulation(layers("ref"), torch.from_numpy(fixtures["iou_ref_box"][0])))
    proposals = torch.from_numpy(fixtures["jitter_proposals"])
    boxes, scores = ascend(regressor, modulated, proposals, space="relative", iterations=10, step_length=2.5e-3)
    np.testing.assert_allclose(boxes, fixtures["jitter_refined"], atol=0.05)
    assert_close(scores, fixtures["jitter_iou"])


def test_the_relative_space_equals_the_original(fixtures: Fixtures, network: DiMPNet) -> None:
    """Coordinates of the boxes there; the gradient there is that of the boxes, by the chain rule."""
    boxes = torch.from_numpy(fixtures["iou_proposals"])
    with torch.enable_grad():
        relative = torch.from_numpy(fixtures["iou_rel_boxes"]).requires_grad_()
        back = from_relative(relative, boxes[:1, 2:])
        (gradient,) = torch.autograd.grad(back, relative, torch.from_numpy(fixtures["iou_grad_xywh"]))
    assert_close(to_relative(boxes, boxes[:1, 2:]), fixtures["iou_rel_boxes"])
    np.testing.assert_allclose(back.detach(), boxes, atol=1e-3)
    assert_close(gradient, fixtures["iou_grad_rel"], 1e-3)


def test_weights_of_the_samples(fixtures: Fixtures) -> None:
    weights = SampleWeights(20, int(fixtures["memory_n_init"]), 0.25)
    for rate, expected, slot in zip(fixtures["memory_learning_rate"], fixtures["memory_weights"], fixtures["memory_index"], strict=True):
        assert weights.add(float(rate)) == slot
        np.testing.assert_allclose(weights.values, expected, atol=1e-6)


def test_the_centre_stays_near_the_frame(fixtures: Fixtures) -> None:
    for (y, x, height, width), expected in zip(fixtures["clamp_cases_yxhw"], fixtures["clamp_pos_yx"], strict=True):
        start = State(vector((0, 0)), vector((height, width)), np.float32(1))
        np.testing.assert_allclose(start.moved(vector((y, x)), (480, 854)).position, expected, atol=1e-3)


# Whole tracks


def trace_tracker(fixtures: Fixtures, state: dict[str, Tensor], kind: str, **settings: Any) -> PrDiMP18:  # noqa: ANN401
    return PrDiMP18(weights=state, random_boxes=0, train_skipping=int(fixtures["trace_train_skipping"]), **TRACES[kind], **settings)


@pytest.mark.parametrize("kind", TRACES)
def test_tracks_equal_the_original_in_every_stage(
    fixtures: Fixtures, state: dict[str, Tensor], shared: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, expected = trace(fixtures, shared, kind)
    record = Record()
    record.attach(monkeypatch, dimp)
    tracker = trace_tracker(fixtures, state, kind)
    tracker.init(frames[0], expected["boxes"][0])

    assert_close(tracker._filter, expected["filter_after_init"], 1e-3)
    assert_close(tracker._memory.samples.boxes_xywh, expected["init_boxes"])
    for index, frame in enumerate([None, *frames[1:]]):
        if frame is not None:
            np.testing.assert_allclose(tracker.update(frame).box_xywh, expected["boxes"][index], atol=0.05)
        assert tracker._state.scale == pytest.approx(expected["target_scale"][index], rel=1e-3)
        assert_close(tracker._filter[0, ::32], expected["filter_sub"][index], 1e-3)
        assert tracker._filter.norm().item() == pytest.approx(expected["filter_norm"][index], rel=1e-3)
        assert_close(tracker._memory.weights.values, expected["sample_weights"][index])
    assert_close(np.stack(record.scores), expected["scores"], 1e-3)
    record.check(expected, kind)
    crops = record.patches[1:]
    np.testing.assert_array_equal([crop.bounds for crop in crops], expected["sample_coords"])
    np.testing.assert_allclose([crop.position for crop in crops], expected["sample_pos"])
    np.testing.assert_allclose([crop.scale for crop in crops], expected["sample_scale"], rtol=1e-6)


@pytest.mark.parametrize("kind", TRACES)
def test_tracks_with_the_later_way_of_cropping_equal_the_original(
    fixtures: Fixtures, state: dict[str, Tensor], shared: Path, kind: str
) -> None:
    frames, expected = trace(fixtures, shared, kind)
    check_boxes(trace_tracker(fixtures, state, kind, fractional_bounds=True), frames, expected["2022variant_boxes"])


# What it does with a target; a small network takes the place of the real one


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small(name: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> DiMP:  # noqa: ANN401
    tracker = create(name, **{**small_dimp(name, monkeypatch), **settings})
    assert isinstance(tracker, DiMP)
    return tracker


def test_what_it_learns_finds_the_target_even_in_random_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small(name, monkeypatch, use_augmentation=True)
    clip = straight_clip(8, step_xy=(7.0, 5.0))
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    for image, truth in zip(clip.images_rgb[1:], clip.boxes_xywh[1:], strict=True):
        estimate = tracker.update(image)
        assert np.abs((estimate.box_xywh - truth)[:2]).max() < 12, "of a target of 44 x 36 pixels that moved by 49 and 35"
        assert estimate.score > 0.25


def test_boxes_are_the_same_for_the_same_seed_and_others_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = straight_clip(3)
    boxes = []
    for seed in (5, 5, 6):
        tracker = small("prdimp18", monkeypatch, seed=seed, use_augmentation=True, random_boxes=9)
        tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
        boxes.append(np.stack([tracker.update(image).box_xywh for image in clip.images_rgb[1:]]))
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert np.abs(boxes[0] - boxes[2]).min() > 0


def test_the_first_frame_gives_fifteen_samples_with_the_target_where_it_was_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small("prdimp18", monkeypatch, use_augmentation=True)
    clip = straight_clip(1)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    samples = tracker._memory.samples
    assert len(samples.features) == tracker._settings.initial_samples == 15
    torch.testing.assert_close(samples.weights, torch.full((15,), 1 / 15))
    moves = (samples.boxes_xywh - samples.boxes_xywh[0]).numpy()
    np.testing.assert_allclose(moves[:, 2:], 0)
    np.testing.assert_allclose(moves[1:5, :2], [[86, 86], [86, -86], [-86, 86], [-86, -86]], atol=1e-4)
    assert 0 < np.abs(moves[5:13, :2]).max() < 48
    np.testing.assert_allclose(moves[13:], 0)
    dropped = (samples.features[13:].abs().amax(dim=(2, 3)) == 0) & (samples.features[:1].abs().amax(dim=(2, 3)) > 0)
    assert 0.05 < dropped.float().mean() < 0.4


def test_a_lost_target_keeps_its_box_and_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small("prdimp18", monkeypatch, target_not_found_threshold=2.0, train_skipping=1)
    clip = straight_clip(3)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    kernel, weights, state = tracker._filter.clone(), tracker._memory.weights.values.copy(), tracker._state
    for image in clip.images_rgb[1:]:
        estimate = tracker.update(image)
        assert estimate.score == 0.0
        np.testing.assert_array_equal(estimate.box_xywh, clip.boxes_xywh[0])
    assert torch.equal(tracker._filter, kernel)
    np.testing.assert_array_equal(tracker._memory.weights.values, weights)
    assert tracker._state is state


@pytest.mark.parametrize(
    ("flag", "remembered", "rate", "learned"),
    [(Flag.NORMAL, 1, 0.01, []), (Flag.HARD_NEGATIVE, 1, 0.02, [1]), (Flag.UNCERTAIN, 0, None, [])],
)
def test_a_distractor_is_learned_at_once_and_a_doubtful_place_is_not(
    monkeypatch: pytest.MonkeyPatch, flag: Flag, remembered: int, rate: float | None, learned: list[int]
) -> None:
    tracker = small("prdimp18", monkeypatch)
    clip = straight_clip(2)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    calls: list[int] = []
    monkeypatch.setattr(tracker, "_learn", calls.append)
    monkeypatch.setattr(dimp, "localise", lambda *_: Localisation(vector((2, 3)), flag, 0.1))
    before = tracker._state.position
    tracker.update(clip.images_rgb[1])
    assert calls == learned
    assert tracker._memory.weights.used == 1 + remembered
    assert np.abs(tracker._state.position - before).max() > 1.0, "the box follows all the same"
    if rate is not None:
        assert tracker._memory.weights.values[1] == pytest.approx(rate / (1.0 / (1.0 - rate) + rate), rel=1e-3)


def test_the_filter_is_updated_at_regular_times(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small("prdimp18", monkeypatch, train_skipping=3, update_iterations=2)
    clip = straight_clip(1)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    calls: list[int] = []
    monkeypatch.setattr(tracker, "_learn", lambda _: calls.append(tracker._frame))
    monkeypatch.setattr(dimp, "localise", lambda *_: Localisation(vector((0, 0)), Flag.NORMAL, 0.1))
    for _ in range(7):
        tracker.update(clip.images_rgb[0])
    assert calls == [4, 7]


def test_without_a_sound_box_the_place_of_the_last_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small("prdimp18", monkeypatch)
    clip = straight_clip(1)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    tracker.update(clip.images_rgb[0])
    last = tracker._state
    monkeypatch.setattr(Refinement, "refine", lambda *_: (None, 0.0))
    monkeypatch.setattr(dimp, "localise", lambda *_: Localisation(vector((20, 30)), Flag.NORMAL, 0.1))
    tracker.update(clip.images_rgb[0])
    np.testing.assert_array_equal(tracker._state.position, last.position)
    np.testing.assert_array_equal(tracker._state.size, last.size)
    box = tracker._memory.samples.boxes_xywh[-1]
    assert (box - tracker._memory.samples.boxes_xywh[0]).abs().max() > 10, "the sample is remembered where the filter found the target"


def test_the_memory_stays_as_large_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = small("prdimp18", monkeypatch, sample_memory_size=4)
    clip = straight_clip(1)
    tracker.init(clip.images_rgb[0], clip.boxes_xywh[0])
    monkeypatch.setattr(dimp, "localise", lambda *_: Localisation(vector((0, 0)), Flag.NORMAL, 0.1))
    first = tracker._memory.samples.features[0].clone()
    for _ in range(9):
        tracker.update(clip.images_rgb[0])
    samples = tracker._memory.samples
    assert len(samples.features) == len(samples.weights) == 4
    assert samples.weights[0] >= 0.25 - 1e-6
    assert torch.equal(samples.features[0], first), "that of the first frame is never replaced"


@pytest.mark.parametrize(
    "box", [(100, 60, 4, 4), (0, 0, 240, 160), (230, 150, 10, 10), (0, 40, 8, 100)], ids=["tiny", "the frame", "corner", "long"]
)
@pytest.mark.parametrize("texture", [True, False])
def test_boxes_stay_sound(state: dict[str, Tensor], box: tuple[int, ...], texture: bool) -> None:
    """With random weights and their huge steps."""
    tracker = PrDiMP18(weights=state, use_augmentation=False, random_boxes=2, train_skipping=1)
    images = straight_clip(3).images_rgb
    if not texture:
        images = [np.full_like(image, 128) for image in images]
    tracker.init(images[0], np.array(box, dtype=np.float64))
    for image in images[1:]:
        estimate = tracker.update(image)
        assert np.isfinite(estimate.box_xywh).all()
        assert (estimate.box_xywh[2:] > 0).all()
        assert 0.0 <= estimate.score <= 1.0


# Networks and settings


@pytest.mark.parametrize(
    ("name", "backbone", "probabilistic"),
    [
        ("dimp18", 18, False),
        ("dimp50", 50, False),
        ("prdimp18", 18, True),
        ("prdimp50", 50, True),
        ("super_dimp", 50, False),
    ],
)
def test_variants(name: str, backbone: int, probabilistic: bool) -> None:
    variant = NAMES[name].variant
    assert variant.weights == name
    assert variant.backbone is (resnet18 if backbone == 18 else resnet50)
    assert (variant.channels, variant.blocks) == ((256, 1) if backbone == 18 else (512, 0))
    assert isinstance(variant.optimizer({}), KLDivergence if probabilistic else HingeLoss)
    assert variant.settings.target_not_found_threshold == (0.04 if probabilistic else 0.25)
    wide = name in ("prdimp50", "super_dimp")
    assert (variant.settings.crop_side, variant.settings.search_area_scale) == ((352, 6.0) if wide else (288, 5.0))
    assert variant.settings.max_shrink == (1.5 if wide else None)
    steps = variant.settings.refinement
    plain = name in ("dimp18", "dimp50")
    assert (steps.space, steps.iterations, steps.step_length) == (("default", 5, 1.0) if plain else ("relative", 10, 2.5e-3))


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_known_by_their_tensors(name: str) -> None:
    variant = NAMES[name].variant
    with torch.device("meta"):
        network = DiMPNet(variant.backbone(), variant.channels, variant.blocks, variant.optimizer({}))
    assert name in recognise(network.state_dict())


def test_a_network_with_resnet_50_runs() -> None:
    """No fixtures exist for it: shapes, and that its weights' names are those of PrDiMP-18 where both have the part."""
    network = DiMPNet(resnet50(), 512, 0, HingeLoss()).eval()
    names = set(network.state_dict())
    assert {"classifier.feature_extractor.0.weight", "bb_regressor.conv4_1t.0.weight", "feature_extractor.layer3.5.bn3.bias"} <= names
    assert network.bb_regressor.conv4_1r[0].in_channels == 1024
    maps = network.feature_extractor(torch.zeros(1, 3, 96, 96))
    features = network.classifier.features(maps.layer3)
    assert (maps.layer2.shape, features.shape) == ((1, 512, 12, 12), (1, 512, 6, 6))
    assert features.square().mean().sqrt().item() == pytest.approx((512 * 16) ** -0.5, rel=1e-3)
    assert network.classifier.filter_initializer(features, torch.tensor([[20.0, 20.0, 40.0, 40.0]])).shape == (1, 512, 4, 4)


def test_constants_come_from_the_checkpoint() -> None:
    published, given = dimp.kl_divergence({}), dimp.kl_divergence({"gauss_sigma": 0.7, "optim_min_reg": 0.1, "alpha_eps": 0.2})
    assert isinstance(published, KLDivergence)
    assert isinstance(given, KLDivergence)
    assert (published.sigma, published.min_reg, published.alpha_eps) == (0.9, 0.05, 0.05)
    assert (given.sigma, given.min_reg, given.alpha_eps) == (0.7, 0.1, 0.2)
    bare = dimp.kl_divergence({"filter_size": 4})
    assert isinstance(bare, KLDivergence)
    assert (bare.sigma, bare.min_reg, bare.alpha_eps) == (1.0, 1e-3, 0.0), "what the constructor takes where it is not told"
    told = dimp.kl_divergence({"normalize_label": True})
    assert isinstance(told, KLDivergence)
    assert (published.normalised, told.normalised, bare.normalised) == (True, True, False)


def test_a_label_density_sums_to_one_at_the_border_only_if_it_was_trained_so() -> None:
    centres = torch.tensor([[9.0, 9.0], [0.0, 9.0]])
    normalised, plain = (KLDivergence(normalised=given).density(centres, 19) for given in (True, False))
    torch.testing.assert_close(normalised.sum((1, 2)), torch.ones(2), rtol=0.0, atol=1e-6)
    whole, part = plain.sum((1, 2)).tolist()
    assert whole == pytest.approx(1.0, abs=1e-3)
    assert 0.6 < part < 0.8, "half of the density and the column of the centre"


def test_a_network_that_computes_something_else_is_refused() -> None:
    dimp.check_constructor({"filter_size": 4, "init_initializer": "zero"}, "'net.pth'")
    with pytest.raises(WeightsError, match=r"filter_size=4, 'net\.pth' has 5"):
        dimp.check_constructor({"filter_size": 5}, "'net.pth'")


@pytest.mark.parametrize(("keyword", "published", "other"), [("bin_displacement", 0.1, 0.2), ("score_act", "relu", "bentpar")])
def test_an_optimiser_that_computes_something_else_is_refused(keyword: str, published: object, other: object) -> None:
    dimp.check_constructor({keyword: published, "target_mask_act": "sigmoid"}, "dimp18")
    with pytest.raises(WeightsError, match=f"{keyword}={published}, .* {other}; use the published"):
        dimp.check_constructor({keyword: other}, "dimp18")
    with pytest.raises(WeightsError, match="target_mask_act=sigmoid"):
        dimp.check_constructor({keyword: published, "target_mask_act": "none"}, "dimp18")


def test_nan_weights_and_weights_of_another_network_are_refused(state: dict[str, Tensor]) -> None:
    name = "feature_extractor.layer2.0.conv1.weight"
    with pytest.raises(WeightsError, match=f"NaN or infinity in '{name}'"):
        create("prdimp18", weights={**state, name: torch.full_like(state[name], torch.nan)})
    with pytest.raises(WeightsError, match="these are weights of prdimp18"):
        create("dimp18", weights=state)


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTRACK_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="sftrack weights fetch super_dimp"):
        create("super_dimp")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("learning_rate", 1.5, r"expected learning_rate in \[0, 1\), got 1.5"),
        ("crop_side", 300, "a multiple of 32 pixels"),
        ("search_area_scale", 1.0, "expected search_area_scale > 1"),
        ("train_skipping", 0, "expected train_skipping as a whole number from 1"),
        ("random_boxes", 2.5, "expected random_boxes as a whole number"),
        ("refinement_space", "log", "expected refinement_space 'default' or 'relative'"),
        ("sample_memory_size", 15, "sample_memory_size above the first frame's 15"),
        ("random_box", 3, "did you mean 'random_boxes'"),
        ("target_not_found_threshold", math.nan, "expected target_not_found_threshold as a finite number, got nan"),
        ("refinement_step_length", math.nan, "expected refinement_step_length as a finite number, got nan"),
        ("refinement_step_length", -1.0, "expected refinement_step_length from 0, got -1"),
        ("hard_negative_threshold", "a", "expected hard_negative_threshold as a finite number, got a"),
        ("learning_rate", None, "expected learning_rate as a finite number, got None"),
        ("position_jitter", -1, "expected position_jitter from 0, got -1"),
        ("max_shrink", 0.5, "expected max_shrink as a number from 1, or none, got 0.5"),
        ("max_shrink", math.nan, "expected max_shrink as a number from 1, or none, got nan"),
        ("crop_side", "a", "expected crop_side as a whole number from 32, got 'a'"),
    ],
)
def test_bad_settings_are_named(setting: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("prdimp18", weights={}, **{setting: value})
