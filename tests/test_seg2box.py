"""NN_seg2box: always a finite box, and one that follows what the segmentation shows."""

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftrack.boxes import iou
from sftrack.engine import KEPT_SIZES, TorchEngine, fold
from sftrack.seg2box import MAP_NAMES, SIZE_PX, BoxEvidence, BoxReader, Seg2Box, vote_map, vote_share
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.window import rasterise

SIDE = 128


@pytest.fixture(scope="module")
def reader() -> BoxReader:
    return BoxReader.bundled()


def drawn(box: np.ndarray, size_wh: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return rasterise(np.asarray(box, dtype=np.float64)[None], size_wh)[0]


def clear_evidence(box: np.ndarray) -> BoxEvidence:
    """Segmentation and votes show the same box; the first frame shows one of its size in the middle."""
    centred = np.array([*(SIDE - box[2:]) / 2.0, *box[2:]])
    return BoxEvidence(drawn(box), drawn(box), drawn(centred), drawn(centred))


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("size_wh", [(128, 128), (480, 272), (16, 16)])
def test_empty_and_full_maps_give_a_finite_box(level: float, size_wh: tuple[int, int]) -> None:
    torch.manual_seed(0)
    reader = BoxReader(Seg2Box())
    flat = np.full((size_wh[1], size_wh[0]), level, np.float32)
    box, score = reader.read(BoxEvidence(*[flat] * len(MAP_NAMES)))
    assert box.shape == (4,)
    assert box.dtype == np.float64
    assert np.isfinite(box).all()
    assert (box[2:] >= 1.0).all()
    assert (np.abs(box) <= 2.0 * max(size_wh)).all()
    assert 0.0 <= score <= 1.0


def test_only_the_engines_of_the_last_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: weakref.WeakSet[TorchEngine] = weakref.WeakSet()

    class Engine(TorchEngine):
        def __init__(self, network: torch.nn.Module, _examples: object, device: str) -> None:
            super().__init__(network, device)
            kept.add(self)

    monkeypatch.setattr("sftrack.seg2box.fastest_engine", Engine)
    reader = BoxReader(Seg2Box())
    for side in range(16, 16 * (KEPT_SIZES + 4), 16):
        reader.prepare((side, 32))
    gc.collect()
    assert len(kept) == KEPT_SIZES


@pytest.mark.parametrize("shift_xy", [(0, 0), (14, -9), (-20, 12), (22, 22)])
def test_the_box_follows_a_shifted_segmentation(reader: BoxReader, shift_xy: tuple[int, int]) -> None:
    true = np.array([42.0 + shift_xy[0], 46.0 + shift_xy[1], 46.0, 38.0])
    box, score = reader.read(clear_evidence(true))
    assert float(iou(box, true)) > 0.75
    assert score > 0.6


def test_an_empty_segmentation_scores_below_a_clear_one(reader: BoxReader) -> None:
    true = np.array([42.0, 46.0, 46.0, 38.0])
    clear, nothing = clear_evidence(true), np.zeros((SIDE, SIDE), np.float32)
    _, sure = reader.read(clear)
    scattered = np.mean([drawn(np.array([x, y, 30.0, 30.0])) for x, y in ((0, 0), (98, 0), (0, 98), (98, 98))], axis=0)
    _, unsure = reader.read(BoxEvidence(nothing, scattered.astype(np.float32), clear.first_refined, clear.first_box))
    assert unsure < sure - 0.2


def test_maps_come_in_the_order_of_their_names() -> None:
    levels = np.linspace(0.1, 0.5, len(MAP_NAMES), dtype=np.float32)
    maps = BoxEvidence(*(np.full((48, 80), level, np.float32) for level in levels)).maps()
    assert maps.shape == (len(MAP_NAMES), SIZE_PX, SIZE_PX)
    np.testing.assert_allclose(maps.mean((1, 2)), levels, rtol=1e-5)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1000.0))
def test_the_better_box_has_the_larger_share(expected: float, votes_expected: float, sharpness: float) -> None:
    share = vote_share(expected, votes_expected, sharpness)
    assert 0.0 <= share <= 1.0
    assert share + vote_share(votes_expected, expected, sharpness) == pytest.approx(1.0)
    assert (share >= 0.5) == (votes_expected >= expected) or share == pytest.approx(0.5)


def test_votes_are_the_weighted_boxes() -> None:
    votes = vote_map(np.array([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 4.0, 4.0]]), np.array([0.75, 0.25]), (8, 6))
    assert votes.shape == (6, 8)
    np.testing.assert_allclose(votes[0], [0.75, 0.75, 1.0, 1.0, 0.25, 0.25, 0.0, 0.0])
    assert not votes[4:].any()


def test_one_map_of_a_batch_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    network = Seg2Box(8).eval()
    maps = torch.rand(3, len(MAP_NAMES), SIZE_PX, SIZE_PX)
    with torch.inference_mode():
        edges, logits = network(maps)
        alone = [network(maps[index : index + 1]) for index in range(3)]
    assert edges.shape == (3, 4)
    assert logits.shape == (3,)
    torch.testing.assert_close(torch.cat([one[0] for one in alone]), edges, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([one[1] for one in alone]), logits, atol=1e-5, rtol=1e-4)


def test_folding_batch_norms_keeps_the_result() -> None:
    torch.manual_seed(0)
    network, folded = Seg2Box(8), Seg2Box(8)
    maps = torch.rand(3, len(MAP_NAMES), SIZE_PX, SIZE_PX)
    with torch.inference_mode():
        network(maps)
        folded.load_state_dict(network.eval().state_dict())
        fold(folded.eval())
        assert not [part for part in folded.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        for found, expected in zip(folded(maps), network(maps), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size_wh", [(112, 112), (480, 272), (16, 48)])
def test_the_reader_says_what_the_network_says_of_the_pooled_maps(size_wh: tuple[int, int]) -> None:
    network = load_network(Seg2Box(), bundled_path("seg2box")).eval()
    boxes = np.array(size_wh * 2) * [[0.2, 0.3, 0.5, 0.4], [0.25, 0.3, 0.5, 0.5], [0.3, 0.3, 0.4, 0.4], [0.25, 0.25, 0.5, 0.5]]
    evidence = BoxEvidence(*rasterise(boxes, size_wh))
    with torch.inference_mode():
        edges, logit = network(torch.from_numpy(evidence.maps())[None])
    box, score = BoxReader(network).read(evidence)
    expected = edges[0].numpy() * [*size_wh, *size_wh]
    np.testing.assert_allclose(np.concatenate([box[:2], box[:2] + box[2:]]), expected, rtol=1e-4, atol=1e-3)
    assert score == pytest.approx(float(logit.sigmoid()), abs=1e-5)
