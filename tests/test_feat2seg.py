"""NN_feat2seg: shapes, batching, folding, what it looks at, and that the bundled weights segment."""

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.boxes import iou
from sftrack.engine import KEPT_SIZES, TorchEngine, fold
from sftrack.feat2seg import ALIKE, Segmentations, Segmenter, distinct_boxes
from sftrack.feat2seg_net import ColourOdds, Feat2Seg, SharedConv
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.window import Window, rasterise
from sftrack.workers import TorchWorkers
from tests.targets import Scene

WHOLE = np.array([0.0, 0.0, 64.0, 64.0])
BOXES = np.array([[10.0, 12.0, 30.0, 24.0], [20.0, 20.0, 20.0, 30.0], [-20.0, 5.0, 40.0, 40.0], [70.0, 70.0, 10.0, 10.0]])


@pytest.fixture(scope="module")
def network() -> Feat2Seg:
    """A small one with random weights and used batch norms, so that folding has something to do."""
    torch.manual_seed(0)
    made = Feat2Seg((8, 8, 16, 16))
    with torch.no_grad():
        made(torch.rand(4, 3, 64, 64), torch.rand(4, 1, 64, 64), torch.ones(4, 1, 64, 64))
    return made.eval()


@pytest.fixture(scope="module")
def bundled() -> Segmenter:
    return Segmenter.bundled()


@pytest.fixture
def workers() -> Iterator[TorchWorkers]:
    made = TorchWorkers(2, "segment")
    yield made
    made.close()


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_one_logit_per_pixel(network: Feat2Seg) -> None:
    with torch.inference_mode():
        logits = network(torch.rand(3, 3, 48, 80), torch.rand(3, 1, 48, 80), torch.ones(3, 1, 48, 80))
    assert logits.shape == (3, 1, 48, 80)
    assert torch.isfinite(logits).all()


def test_folding_batch_norms_keeps_the_result(network: Feat2Seg) -> None:
    inputs = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64), torch.ones(2, 1, 64, 64)
    folded = Feat2Seg((8, 8, 16, 16))
    folded.load_state_dict(network.state_dict())
    fold(folded.eval())
    assert not [part for part in folded.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        torch.testing.assert_close(folded(*inputs), network(*inputs), atol=1e-4, rtol=1e-4)


def test_a_shared_encoder_gives_what_separate_images_give(network: Feat2Seg) -> None:
    """`segment` encodes the crop once for all boxes; training gives every box an image of its own."""
    image, boxes, visible = torch.rand(1, 3, 64, 64), torch.rand(3, 1, 64, 64), torch.ones(1, 1, 64, 64)
    with torch.inference_mode():
        shared = network.decode(network.encode(image), boxes, visible)
        separate = network(image.expand(3, -1, -1, -1), boxes, visible.expand(3, -1, -1, -1))
    torch.testing.assert_close(shared, separate, atol=1e-4, rtol=1e-4)


def test_several_boxes_in_one_batch_equal_single_calls(bundled: Segmenter, crop: np.ndarray) -> None:
    together = bundled.segment(crop, BOXES, WHOLE)
    assert together.masks.shape == (4, 64, 64)
    assert together.masks.dtype == together.descriptors.dtype == np.float32
    for index, box in enumerate(BOXES):
        alone = bundled.segment(crop, box[None], WHOLE)
        np.testing.assert_allclose(alone.masks[0], together.masks[index], atol=1e-4)
        np.testing.assert_allclose(alone.descriptors[0], together.descriptors[index], atol=1e-4)


def test_threads_that_share_the_boxes_change_nothing(bundled: Segmenter, crop: np.ndarray, workers: TorchWorkers) -> None:
    for count in (1, 3, 4):
        shared, alone = bundled.segment(crop, BOXES[:count], WHOLE, workers), bundled.segment(crop, BOXES[:count], WHOLE)
        assert shared.masks.shape == (count, 64, 64)
        np.testing.assert_allclose(shared.masks, alone.masks, atol=1e-4)
        np.testing.assert_allclose(shared.descriptors, alone.descriptors, atol=1e-4)


@pytest.mark.parametrize("known", [(), (1,), (3, 0), (0, 1, 2, 3)])
def test_known_masks_are_taken_as_they_are_and_described_like_others(
    bundled: Segmenter, crop: np.ndarray, workers: TorchWorkers, known: tuple[int, ...]
) -> None:
    plain = bundled.segment(crop, BOXES, WHOLE)
    masks = {index: plain.masks[(index + 1) % 4] for index in known}
    seen = bundled.decode(bundled.encode(crop), BOXES, WHOLE, workers, masks)
    for index in range(4):
        source = (index + 1) % 4 if index in known else index
        np.testing.assert_allclose(seen.masks[index], plain.masks[source], atol=0 if index in known else 1e-4)
        np.testing.assert_allclose(seen.descriptors[index], plain.descriptors[source], atol=1e-4)


def test_workers_can_be_given_more_to_do_while_the_boxes_are_segmented(bundled: Segmenter, crop: np.ndarray) -> None:
    """What it gives them waits behind all boxes, and is there before the last one is done."""
    workers, order = TorchWorkers(1, "test"), []
    release = threading.Event()
    in_time = workers.start(lambda: release.wait(60.0))  # no box can be done before `meanwhile`

    def meanwhile() -> None:
        workers.start(lambda: order.append("more"))
        release.set()

    seen = bundled.decode(bundled.encode(crop), BOXES, WHOLE, workers, meanwhile=meanwhile)
    assert in_time.result()
    workers.close()
    assert order == ["more"]
    np.testing.assert_allclose(seen.masks, bundled.segment(crop, BOXES, WHOLE).masks, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_leaves_the_colour_odds_as_they_are(network: Feat2Seg, training: bool) -> None:
    picture, inside = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    inside[..., 8:24, 8:24] = 1.0
    odds = network.colour.train(training)
    bins = odds.bins(picture)
    plain = odds(bins, inside, 1.0 - inside)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(odds(bins, inside, 1.0 - inside), plain, rtol=0, atol=0)


def test_boxes_that_are_alike_share_a_segmentation(bundled: Segmenter, crop: np.ndarray) -> None:
    boxes = np.array([BOXES[0], BOXES[1], BOXES[0] + 0.5, BOXES[1]])
    seen = bundled.segment(crop, boxes, WHOLE)
    apart = bundled.segment(crop, boxes[:2], WHOLE)
    np.testing.assert_array_equal(seen.masks[[2, 3]], seen.masks[:2])
    np.testing.assert_array_equal(seen.descriptors[[2, 3]], seen.descriptors[:2])
    np.testing.assert_allclose(seen.masks[:2], apart.masks, atol=1e-4)


def test_only_the_engines_of_the_last_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One segmenter serves a process for ever, and where it sees whole frames each size of frame has engines of its own."""
    kept: weakref.WeakSet[TorchEngine] = weakref.WeakSet()

    class Engine(TorchEngine):
        def __init__(self, network: Feat2Seg, _examples: object, device: str) -> None:
            super().__init__(network, device)
            kept.add(self)

    monkeypatch.setattr("sftrack.feat2seg.fastest_engine", Engine)
    segmenter = Segmenter(Feat2Seg((8, 8, 16, 16)))
    for side in range(16, 16 * (KEPT_SIZES + 4), 16):
        segmenter.segment(np.zeros((side, 32, 3), np.uint8), BOXES[:1], WHOLE)
    gc.collect()
    assert len(kept) == 2 * KEPT_SIZES


@pytest.mark.parametrize("size_hw", [(64, 64), (48, 80)], ids=["square", "wide"])
def test_the_engine_computes_what_the_network_does(bundled: Segmenter, size_hw: tuple[int, int]) -> None:
    crop = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    boxes = torch.from_numpy(rasterise(BOXES[:2], size_hw[::-1]))[:, None]
    picture = torch.from_numpy(crop).permute(2, 0, 1)[None] / 255.0
    network = load_network(Feat2Seg(), bundled_path("feat2seg")).eval()
    with torch.inference_mode():
        expected = network(picture.expand(2, -1, -1, -1), boxes, torch.ones(2, 1, *size_hw)).sigmoid()[:, 0]
    whole = np.array([0.0, 0.0, *size_hw[::-1]])
    np.testing.assert_allclose(bundled.segment(crop, BOXES[:2], whole).masks, expected, atol=1e-4)


def test_without_onnxruntime_pytorch_gives_the_same(bundled: Segmenter, crop: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftrack.engine.has_onnxruntime", lambda: False)
    plain = Segmenter(load_network(Feat2Seg(), bundled_path("feat2seg"))).segment(crop, BOXES, WHOLE)
    expected = bundled.segment(crop, BOXES, WHOLE)
    np.testing.assert_allclose(plain.masks, expected.masks, atol=1e-4)
    np.testing.assert_allclose(plain.descriptors, expected.descriptors, atol=1e-4)


side = st.floats(1.0, 60.0)
box_near_others = st.tuples(st.floats(-20.0, 60.0), st.floats(-20.0, 60.0), side, side)


@given(st.lists(box_near_others, min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_each_box_is_stood_for_by_one_like_it(listed: list[tuple[float, ...]]) -> None:
    # Some that are nearly the same, or no box would stand for another.
    boxes = np.array([*listed, *(np.array(listed) + 0.05)])
    distinct, owner = distinct_boxes(boxes)
    assert owner.shape == (len(boxes),)
    assert set(owner.tolist()) == set(range(len(distinct)))
    alike = iou(boxes, distinct[owner])
    assert ((alike >= ALIKE) | (boxes == distinct[owner]).all(axis=1)).all()
    between = iou(distinct[:, None], distinct[None]) - np.eye(len(distinct))
    assert between.max() < ALIKE


def test_the_first_of_boxes_that_are_alike_stands_for_them_in_their_order() -> None:
    a, b = np.array([0.0, 0.0, 20.0, 20.0]), np.array([40.0, 0.0, 20.0, 20.0])
    distinct, owner = distinct_boxes(np.array([b, a, b + 0.5, a + 0.5, a]))
    np.testing.assert_array_equal(distinct, [b, a])
    assert owner.tolist() == [0, 1, 0, 1, 1]


def test_one_box_stands_for_itself() -> None:
    distinct, owner = distinct_boxes(BOXES[:1])
    np.testing.assert_array_equal(distinct, BOXES[:1])
    assert owner.tolist() == [0]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("pictures", [1, 3], ids=["one picture", "one per box"])
def test_a_shared_convolution_is_a_plain_one_of_the_joined_channels(kernel: int, pictures: int) -> None:
    torch.manual_seed(0)
    layer = SharedConv(5, 2, 6, kernel=kernel)
    shared, own = torch.randn(pictures, 5, 9, 7), torch.randn(3, 2, 9, 7)
    with torch.no_grad():
        layer(layer.of_picture(shared), own)
        layer.eval()
        joined = torch.cat([shared.expand(3, -1, -1, -1), own], dim=1)
        plain = layer[1](layer[0](joined))
        torch.testing.assert_close(layer(layer.of_picture(shared), own), plain, atol=1e-5, rtol=1e-5)
        folded = fold(torch.nn.ModuleList([layer]))[0]  # type: ignore[index]
        assert folded[0].bias is not None
        torch.testing.assert_close(folded[0](joined), plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(folded(folded.of_picture(shared), own), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "box",
    [(10, 10, 20, 20), (500, 500, 20, 20), (-900, -900, 2000, 2000), (30, 30, 0, 0), (30.5, 30.5, 0.01, 40), (64, 64, 1, 1)],
    ids=["inside", "far outside", "all around", "no area", "a line", "just outside"],
)
@pytest.mark.parametrize("frame", [WHOLE, np.array([200.0, 0.0, 50.0, 50.0])], ids=["in the frame", "beyond the frame"])
def test_any_box_gives_finite_masks_and_unit_signatures(
    bundled: Segmenter, crop: np.ndarray, box: tuple[float, ...], frame: np.ndarray
) -> None:
    seen = bundled.segment(crop, np.array([box], dtype=np.float64), frame)
    assert np.isfinite(seen.masks).all()
    assert 0.0 <= seen.masks.min() <= seen.masks.max() <= 1.0
    assert np.isfinite(seen.descriptors).all()
    assert np.linalg.norm(seen.descriptors[0]) == pytest.approx(1.0, abs=1e-3)


def test_the_crop_is_not_changed(bundled: Segmenter, crop: np.ndarray) -> None:
    before = crop.copy()
    bundled.segment(crop, BOXES, WHOLE)
    np.testing.assert_array_equal(crop, before)


def test_colours_of_the_box_stand_out_from_those_around_it() -> None:
    images = torch.zeros(1, 3, 32, 32)
    images[:, 2] = 0.8
    images[:, :, 8:24, 8:24] = torch.tensor([0.8, 0.1, 0.1]).reshape(1, 3, 1, 1)
    inside = torch.zeros(1, 1, 32, 32)
    inside[:, :, 6:26, 6:26] = 1.0
    layer = ColourOdds()
    odds = layer(layer.bins(images), inside, 1.0 - inside)
    assert odds.shape == (1, 1, 32, 32)
    assert odds[0, 0, 8:24, 8:24].min() > 0.9
    assert odds[0, 0, :6].max() < -0.3
    assert odds.abs().max() <= 1.0


def test_each_box_has_colour_odds_of_its_own() -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    inside = torch.zeros(2, 1, 32, 32)
    inside[0, :, 2:12, 2:12] = inside[1, :, 15:30, 10:30] = 1.0
    layer = ColourOdds()
    odds = layer(layer.bins(images), inside, 1.0 - inside)
    for index in range(2):
        part = inside[index : index + 1]
        torch.testing.assert_close(layer(layer.bins(images), part, 1.0 - part)[0], odds[index])


def test_the_colour_histogram_ignores_what_lies_beyond_the_frame(network: Feat2Seg) -> None:
    """The grey border must not count as background: a grey object near it would vanish."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    visible = torch.ones(1, 1, 64, 64)
    visible[..., 40:] = 0.0
    boxes = torch.zeros(1, 1, 64, 64)
    boxes[..., 10:30, 10:50] = 1.0
    seen: list[torch.Tensor] = []
    hook = network.colour.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.inference_mode():
            for level in (0.1, 0.9):
                painted = torch.where(visible > 0, image, torch.full_like(image, level))
                network.decode(network.encode(painted), boxes, visible)
    finally:
        hook.remove()
    torch.testing.assert_close(seen[0][..., :20], seen[1][..., :20])


def _jaccard(found: np.ndarray, true: np.ndarray) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("center_xy", [(120.0, 80.0), (24.0, 30.0)], ids=["in the middle", "at the border"])
def test_the_bundled_weights_segment_an_object_much_better_than_its_box_does(bundled: Segmenter, center_xy: tuple[float, float]) -> None:
    scene = Scene()
    image, mask = scene.render(center_xy)
    box = np.array(scene.box(center_xy), dtype=np.float64)
    window = Window.around(box, 128)
    seen = bundled.segment(window.extract(image), window.to_window(box[None]), window.frame_box(scene.size_wh))
    found = window.paste(seen.masks[0], scene.size_wh) > 0.5
    in_box = rasterise(box[None], scene.size_wh)[0] > 0.5
    assert _jaccard(in_box, mask) < 0.82
    assert _jaccard(found, mask) > 0.9


def test_the_bundled_weights_mend_a_box_that_lies_off(bundled: Segmenter) -> None:
    scene = Scene()
    image, mask = scene.render((120.0, 80.0))
    x, y, w, h = scene.box((120.0, 80.0))
    off = np.array([x + 0.2 * w, y - 0.15 * h, 1.1 * w, 0.9 * h])
    window = Window.around(off, 128)
    seen = bundled.segment(window.extract(image), window.to_window(off[None]), window.frame_box(scene.size_wh))
    assert (
        _jaccard(window.paste(seen.masks[0], scene.size_wh) > 0.5, mask)
        > _jaccard(rasterise(off[None], scene.size_wh)[0] > 0.5, mask) + 0.15
    )


def test_signatures_tell_the_object_from_the_ground(bundled: Segmenter) -> None:
    def look(center_xy: tuple[float, float], at_xy: tuple[float, float]) -> Segmentations:
        scene = Scene()
        box = np.array(scene.box(at_xy), dtype=np.float64)
        window = Window.around(box, 128)
        return bundled.segment(window.extract(scene.render(center_xy)[0]), window.to_window(box[None]), window.frame_box(scene.size_wh))

    first, again, ground = look((60, 60), (60, 60)), look((150, 90), (150, 90)), look((60, 60), (180, 110))
    assert float(first.descriptors[0] @ again.descriptors[0]) > float(first.descriptors[0] @ ground.descriptors[0]) + 0.2
