"""The channel combination: sound features for any boxes and masks, and weights that know channels only by what they show."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch.nn import functional

from sftrack.combine import FEATURE_NAMES, CombineNet, Combiner, Evidence, agree, fuse, leader, majority
from sftrack.config import PipelineConfig
from sftrack.window import rasterise

SIDE = 32
value = st.floats(-1e4, 1e4)
length = st.floats(0.0, 1e4)
any_box = st.tuples(value, value, length, length)


@pytest.fixture(scope="module")
def combiner() -> Combiner:
    """With random weights: what is tested with it holds for any."""
    torch.manual_seed(0)
    return Combiner(CombineNet(), sharpness=12.0)


def evidence(boxes: np.ndarray, *, seed: int = 0, masks: np.ndarray | None = None, previous: np.ndarray | None = None) -> Evidence:
    """Random but valid evidence about some boxes."""
    rng = np.random.default_rng(seed)
    count = len(boxes)
    descriptors = rng.normal(size=(count + 2, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Evidence(
        boxes_xywh=boxes,
        scores=rng.random(count),
        masks=rng.random((count, SIDE, SIDE), dtype=np.float32) if masks is None else masks,
        descriptors=descriptors[2:],
        looks=rng.uniform(-1.0, 1.0, (count, 3)),
        record=rng.random(count),
        previous_box_xywh=np.array([8.0, 8.0, 16.0, 16.0]) if previous is None else previous,
        previous_mask=rng.random((SIDE, SIDE), dtype=np.float32),
        previous_score=float(rng.random()),
        first_descriptor=descriptors[0],
        recent_descriptor=descriptors[1],
    )


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 20, (count, 2)), rng.uniform(4, 16, (count, 2))], axis=1)


@pytest.mark.parametrize("count", range(1, 9))
def test_any_number_of_channels_is_weighed(combiner: Combiner, count: int) -> None:
    features = evidence(random_boxes(count)).features()
    assert features.shape == (count, len(FEATURE_NAMES))
    assert features.dtype == np.float32
    overlaps, weights = combiner.weigh(features)
    assert overlaps.shape == weights.shape == (count,)
    assert ((overlaps >= 0) & (overlaps <= 1)).all()
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_combiner_says_what_its_network_says(combiner: Combiner, count: int) -> None:
    torch.manual_seed(0)
    features = evidence(random_boxes(count)).features()
    with torch.inference_mode():
        expected = CombineNet().eval()(torch.from_numpy(features)[None])[0].sigmoid()
    overlaps, weights = combiner.weigh(features)
    np.testing.assert_allclose(overlaps, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(weights, functional.softmax(12.0 * expected, dim=0).numpy(), atol=1e-5)


@given(st.lists(any_box, min_size=1, max_size=6), any_box, st.sampled_from([0.0, 1.0, 0.3]))
@settings(deadline=None, max_examples=60)
def test_features_and_weights_are_finite_for_any_boxes_and_masks(
    combiner: Combiner, boxes: list[tuple[float, ...]], previous: tuple[float, ...], level: float
) -> None:
    masks = np.full((len(boxes), SIDE, SIDE), level, np.float32)
    features = evidence(np.array(boxes), masks=masks, previous=np.array(previous)).features()
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 100.0
    _, weights = combiner.weigh(features)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)


@given(st.permutations(range(5)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_channels_does_not_matter(combiner: Combiner, order: list[int]) -> None:
    given_features = evidence(random_boxes(5)).features()
    _, weights = combiner.weigh(given_features)
    _, permuted = combiner.weigh(given_features[order])
    np.testing.assert_allclose(permuted, weights[order], atol=1e-5)


def test_features_follow_their_channels() -> None:
    one = evidence(random_boxes(4))
    order = [2, 0, 3, 1]
    other = Evidence(
        one.boxes_xywh[order],
        one.scores[order],
        one.masks[order],
        one.descriptors[order],
        one.looks[order],
        one.record[order],
        one.previous_box_xywh,
        one.previous_mask,
        one.previous_score,
        one.first_descriptor,
        one.recent_descriptor,
    )
    np.testing.assert_allclose(other.features(), one.features()[order], atol=1e-5)


def test_known_values_of_features() -> None:
    boxes = np.array([[8.0, 8.0, 16.0, 16.0], [8.0, 8.0, 16.0, 16.0], [0.0, 0.0, 4.0, 4.0]])
    named = dict(zip(FEATURE_NAMES, evidence(boxes, masks=rasterise(boxes, (SIDE, SIDE))).features().T, strict=True))
    np.testing.assert_allclose(named["mean overlap with the other boxes"], [0.5, 0.5, 0.0], atol=1e-5)
    np.testing.assert_allclose(named["largest overlap with another box"], [1.0, 1.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(named["overlap with the previous fused box"], [1.0, 1.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(named["how full the box is of mask"], 1.0, atol=1e-2)
    np.testing.assert_allclose(named["share of the mask outside the box"], 0.0, atol=1e-2)
    np.testing.assert_allclose(named["overlap of the mask with the previous mask"][:2].std(), 0.0, atol=1e-6)


def test_with_the_bundled_weights_a_channel_that_everything_speaks_against_hardly_counts() -> None:
    """Agreement with the others, the past, its own mask and the object's signature, against a box somewhere else."""
    good = [8.0, 8.0, 16.0, 16.0]
    boxes = np.array([good, [8.5, 8.0, 16.0, 16.0], [24.0, 24.0, 6.0, 6.0]])
    masks = rasterise(boxes, (SIDE, SIDE))
    masks[2] = rasterise(np.array([good]), (SIDE, SIDE))[0] * 0.1
    signature = np.eye(8, dtype=np.float32)
    clear = Evidence(
        boxes,
        np.array([0.9, 0.9, 0.1]),
        masks,
        signature[[0, 0, 1]],
        np.array([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9], [0.0, 0.0, 0.1]]),
        np.array([0.9, 0.9, 0.1]),
        np.array(good),
        masks[0],
        0.9,
        signature[0],
        signature[0],
    )
    overlaps, weights = Combiner.bundled(sharpness=12.0).weigh(clear.features())
    assert overlaps[2] < overlaps[:2].min()
    assert weights[2] < 0.1


def test_the_fused_segmentation_is_the_weighted_mean() -> None:
    masks = np.random.default_rng(0).random((3, 5, 6), dtype=np.float32)
    fused = fuse(masks, np.array([0.5, 0.25, 0.25]))
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, 0.5 * masks[0] + 0.25 * masks[1] + 0.25 * masks[2], atol=1e-6)
    assert 0.0 <= fused.min() <= fused.max() <= 1.0


def test_where_channels_part_the_place_with_most_trust_leads_and_takes_the_weights() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0], [0.0, 1.0, 10.0, 10.0]])
    trust = np.array([0.5, 0.5, 0.8, 0.5])
    assert leader(boxes, trust) != 2
    weights = agree(boxes, trust, np.full(4, 0.25))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[2] < 0.02
    assert weights[[0, 1, 3]].min() > 0.2


def test_channels_that_outvote_the_best_one_have_weight_at_the_highest_sharpness() -> None:
    """All that the combination believed in may be left out; what remains must still sum to 1."""
    sharpness, overlaps, most = PipelineConfig(sharpness=500.0).sharpness, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0])
    boxes = np.array([[50.0, 50.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0]])
    weights = agree(boxes, overlaps * most, softmax(sharpness * overlaps) * most)
    assert weights[0] == 0.0
    assert weights.sum() == pytest.approx(1.0)


@given(st.lists(st.tuples(any_box, st.floats(0, 1)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_agreed_weights_sum_to_1_for_any_boxes(boxes_and_trust: list[tuple[tuple[float, ...], float]]) -> None:
    boxes, trust = np.array([box for box, _ in boxes_and_trust]), np.array([trust for _, trust in boxes_and_trust])
    weights = agree(boxes, trust, np.full(len(boxes), 1.0 / len(boxes)))
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0, 0, 0, 1, 2], [True, True, True, False, False]),
        ([0, 1, 0], [True, False, True]),
        ([0, 0, 1, 1], [False] * 4),
        ([0, 1, 2], [False] * 3),
        ([0], [True]),
    ],
)
def test_a_majority_is_more_than_half_of_the_channels_in_one_place(places: list[int], expected: list[bool]) -> None:
    boxes = np.array([[100.0 * place + index, 5.0, 40.0, 30.0] for index, place in enumerate(places)])
    assert majority(boxes).tolist() == expected
