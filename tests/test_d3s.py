"""D3S against the fixtures: every stage of its networks, its crops, its filter, its boxes, and whole tracks."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sftrack.contracts import Estimate
from sftrack.errors import WeightsError
from sftrack.trackers import create
from sftrack.trackers.d3s import D3S, THRESHOLDS, dilation_px
from sftrack.trackers.discriminative import mask_region, online_filter, segmentation, target_filter
from sftrack.trackers.discriminative.localisation import localise
from sftrack.trackers.discriminative.mask_region import corners_of, crop_window, cut, filled, fit_rotated, largest_contour
from sftrack.trackers.discriminative.memory import SampleWeights
from sftrack.trackers.discriminative.patches import sample_patch, vector
from sftrack.trackers.discriminative.resnet import Features, resnet50
from sftrack.window import Window
from tests.parity import captured, deterministic

SEED = 1
TRACE_SETTINGS = {"init_iterations": 12, "update_iterations": 2, "hard_negative_iterations": 2}
"""With more the learning amplifies rounding without bound (the specification, pitfall 19)."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Fixtures:
    """`d3s.npz`, the weights and inputs that it was made with, and the pictures."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._make = deterministic(shared)
        with np.load(shared / "parity/d3s.npz") as stored:
            self.arrays = {name: stored[name] for name in stored.files}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        stored = json.loads((self.shared / "parity/d3s_state.json").read_text())
        return {name: tuple(shape) for name, shape in stored.items()}

    @functools.cached_property
    def state(self) -> dict[str, Tensor]:
        """Of the segmentation network."""
        return self._state(self.shapes)

    @functools.cached_property
    def backbone_state(self) -> dict[str, Tensor]:
        """Of the filter's backbone: the same names without the prefix, so other weights."""
        prefix = "feature_extractor."
        return self._state({name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)})

    def _state(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(value) for name, value in self._make.state(SEED, shapes).items()}

    def input(self, name: str, shape: tuple[int, ...], kind: str = "normal") -> Tensor:
        return torch.from_numpy(self._make.tensor(SEED, name, shape, kind))

    def frame(self, sequence: str, number: int) -> np.ndarray:
        picture = cv2.imread(str(self.shared / f"data/DAVIS/JPEGImages/480p/{sequence}/{number:05d}.jpg"))
        return np.ascontiguousarray(picture[..., ::-1])

    def annotation(self, sequence: str, number: int) -> np.ndarray:
        stored = cv2.imread(str(self.shared / f"data/DAVIS/Annotations/480p/{sequence}/{number:05d}.png"), cv2.IMREAD_GRAYSCALE)
        return (stored > 0).astype(np.float32)

    def check(self, name: str, full: Tensor | np.ndarray, tolerance: float = 1e-4) -> None:
        """Compare an array with what is stored of it: itself or a part, and its statistics. The tolerance is a share of the maximum."""
        values = np.asarray(full, dtype=np.float64)
        compared = 0
        for stored in self.arrays:
            part = re.fullmatch(re.escape(name) + r"(?:_every(\d+)thchannel_every(\d+)thpixel|(_mean_std_absmax)|)", stored)
            if part is None:
                continue
            expected = self.arrays[stored]
            if part[3]:
                actual = np.array([values.mean(), values.std(ddof=1), np.abs(values).max()])
            elif part[1]:
                actual = values[:, :: int(part[1]), :: int(part[2]), :: int(part[2])]
            else:
                actual = values
            assert actual.shape == expected.shape, stored
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=stored)
            compared += 1
        assert compared, f"no fixture {name}"


@pytest.fixture(scope="module")
def fixtures(shared: Path) -> Fixtures:
    return Fixtures(shared)


@pytest.fixture(scope="module")
def network(fixtures: Fixtures) -> segmentation.SegmentationNetwork:
    network = segmentation.SegmentationNetwork()
    assert list(network.state_dict()) == list(fixtures.shapes)
    network.load_state_dict(fixtures.state)
    return network.eval()


@pytest.fixture(scope="module")
def tracker(fixtures: Fixtures) -> D3S:
    """With the weights of the fixtures and the settings of the traces; a test may start it again."""
    made = create("d3s", weights=fixtures.state, backbone_weights=fixtures.backbone_state, **TRACE_SETTINGS)
    assert isinstance(made, D3S)
    return made


@pytest.fixture(scope="module", autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


# --- networks -------------------------------------------------------------------------------------------------------------------------


def test_the_stages_of_the_segmentation_backbone(fixtures: Fixtures, network: segmentation.SegmentationNetwork) -> None:
    image = 255.0 * fixtures.input("backbone.image", (1, 3, 128, 128), "uniform")
    for name, maps in network.extract(image)._asdict().items():
        fixtures.check(f"backbone_image128_{name}", maps)
    backbone = network.feature_extractor
    stages: dict[str, Any] = {"stem": backbone.stem, "layer1": backbone.layer1, "layer2": backbone.layer2, "layer3": backbone.layer3}
    shapes = {"stem": (1, 3, 64, 64), "layer1": (1, 64, 32, 32), "layer2": (1, 256, 32, 32), "layer3": (1, 512, 16, 16)}
    for name, stage in stages.items():
        fixtures.check(f"{name}_alone", stage(fixtures.input(f"stage.{name}_input", shapes[name])))


def test_the_filters_backbone_and_its_normalisation(fixtures: Fixtures) -> None:
    backbone = resnet50()
    backbone.load_state_dict(fixtures.backbone_state)
    deepest = backbone.eval()(255.0 * fixtures.input("backbone.image", (1, 3, 128, 128), "uniform")).layer3
    fixtures.check("filter_backbone_image128_layer3", deepest)
    fixtures.check("filter_backbone_image128_layer3_rms_normalised", online_filter.rms_normalised(deepest))


def box_mask() -> Tensor:
    mask = torch.zeros(384, 384)
    mask[100:290, 140:300] = 1.0
    return mask


def test_similarities_with_the_first_frame(fixtures: Fixtures, network: segmentation.SegmentationNetwork) -> None:
    predictor = network.segm_predictor
    train, test = (fixtures.input(f"gim.{name}_feature", (1, 1024, 24, 24)) for name in ("train", "test"))
    fixtures.check("gim_embedding_train", predictor.embed(train))
    fixtures.check("gim_embedding_test", predictor.embed(test))
    two_pixels = torch.zeros(384, 384)
    two_pixels[112, 144] = two_pixels[192, 48] = 1.0
    soft = fixtures.input("gim.soft_mask", (1, 1, 384, 384), "uniform")[0, 0]
    fixtures.check("gim_softmask_at_24x24", segmentation.at_cells(soft))
    for name, mask in {"box": box_mask(), "soft": soft, "twopixel": two_pixels, "empty": torch.zeros(384, 384)}.items():
        similarity = predictor.compare(predictor.template(train, mask), test)
        fixtures.check(f"gim_{name}mask_foreground_similarity", similarity.foreground)
        fixtures.check(f"gim_{name}mask_background_similarity", similarity.background)
        fixtures.check(f"gim_{name}mask_posterior", similarity.posterior)


def test_every_block_of_the_refinement(fixtures: Fixtures, network: segmentation.SegmentationNetwork) -> None:
    blocks = ["mixer", "s3", "s2", "f2", "post2", "s1", "f1", "post1", "s0", "f0", "post0"]
    predictor = network.segm_predictor
    inputs: list[Tensor] = []
    watching = predictor.mixer.register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    seen, hooks = captured(predictor, blocks)
    train, test = (fixtures.input(f"gim.{name}_feature", (1, 1024, 24, 24)) for name in ("train", "test"))
    shapes = ((1, 64, 192, 192), (1, 256, 96, 96), (1, 512, 48, 48))
    features = Features(*(fixtures.input(f"refine.test_feature{level}", shape) for level, shape in enumerate(shapes)), test)
    probability = network(predictor.template(train, box_mask()), features)
    for hook in (watching, *hooks):
        hook.remove()
    fixtures.check("refine_mixer_input", inputs[0])
    for block in blocks[:-1]:
        fixtures.check(f"refine_{block}", seen[block])
    fixtures.check("refine_logits", seen["post0"])
    fixtures.check("refine_foreground_probability", probability[None])


def test_the_distance_map(fixtures: Fixtures) -> None:
    distances = segmentation.distance_map()
    np.testing.assert_allclose(distances[::16, ::16], fixtures["distance_map_384_every16thpixel"], rtol=1e-6)
    np.testing.assert_allclose(distances[191, :8], fixtures["distance_map_384_row191_first8"], rtol=1e-6)


def test_segmenting_a_real_frame(fixtures: Fixtures, tracker: D3S) -> None:
    """By the network as the tracker runs it: with batch norms merged into the convolutions."""
    segmenter = tracker._segmenter
    stages = ["conv1", "layer1", "layer2", "layer3"]
    seen, hooks = captured(segmenter._network, ["segm_predictor.post0", *(f"feature_extractor.{stage}" for stage in stages)])
    box = fixtures["crop_template_box_xywh_zerobased"]
    window = crop_window(box)
    given = cut(filled(corners_of(box), (854, 480)), window, edge=False)
    probability = segmenter.start(cut(fixtures.frame("bmx-trees", 0), window, edge=True), given)
    # The logits are of the order of 10,000 with these weights, so they are compared by their maximum.
    fixtures.check("realframe_init_logits", seen["segm_predictor.post0"])
    for stage in stages:  # conv1 alone has its ReLU outside
        fixtures.check(f"realframe_init_{stage}", torch.relu(seen[f"feature_extractor.{stage}"]))
    assert dilation_px(box, window) == fixtures["realframe_init_dilation_kernel"]
    mask = mask_region.restricted(probability > 0.5, given, dilation_px(box, window))
    assert mask.sum() == pytest.approx(fixtures["realframe_init_mask_sum"], rel=1e-4)
    np.testing.assert_allclose(mask[::3, ::3], fixtures["realframe_init_target_mask_every3rdpixel"], atol=1e-5)
    segmenter.improve(mask)
    segmenter.segment(cut(fixtures.frame("bmx-trees", 1), window, edge=True))
    fixtures.check("realframe_next_logits", seen["segm_predictor.post0"])
    for hook in hooks:
        hook.remove()


# --- crops and fits -------------------------------------------------------------------------------------------------------------------


def test_segmentation_crops_are_equal_to_the_pixel(fixtures: Fixtures) -> None:
    box = fixtures["crop_template_box_xywh_zerobased"]
    window = crop_window(box)
    np.testing.assert_array_equal(cut(fixtures.frame("bmx-trees", 0), window, edge=True), fixtures["crop_template_uint8_rgb_384"])
    assert window.scale_xy[0] == pytest.approx(float(fixtures["crop_template_resize_factor"]), rel=1e-12)
    mask = cut(filled(corners_of(box), (854, 480)), window, edge=False)
    np.testing.assert_array_equal(mask[::3, ::3], fixtures["crop_template_boxmask_every3rdpixel"])
    assert mask.sum(dtype=np.float64) == pytest.approx(float(fixtures["crop_template_boxmask_sum"]), rel=1e-6)
    image = fixtures.frame("bmx-trees", 1)
    for index, box in enumerate(fixtures["crop_search_boxes_xywh_zerobased"]):
        window = crop_window(box)
        crop = cut(image, window, edge=True)
        np.testing.assert_array_equal(crop[::4, ::4], fixtures["crop_search_uint8_rgb_384_every4thpixel"][index])
        assert crop.sum(dtype=np.int64) == fixtures["crop_search_pixel_sums"][index]
        assert window.scale_xy[0] == pytest.approx(fixtures["crop_search_resize_factors"][index], rel=1e-12)


def test_filter_crops_are_equal_to_the_pixel(fixtures: Fixtures) -> None:
    image = fixtures.frame("bmx-trees", 1)
    for index, (y, x, scale, size) in enumerate(fixtures["dcfcrop_posy_posx_scale_outsize"]):
        size = int(size)
        patch = sample_patch(image, vector((y, x)), scale * size, size).image_rgb[0].permute(1, 2, 0)
        np.testing.assert_allclose(patch[:: size // 64, :: size // 64], fixtures["dcfcrop_rgb_float_64x64_samples"][index], atol=2e-3)


def test_the_views_of_the_first_frame(fixtures: Fixtures) -> None:
    y, x, scale = fixtures["augment_patch_pos_yx_scale"]
    patch = sample_patch(fixtures.frame("camel", 0), vector((y, x)), scale * 512, 512).image_rgb
    np.testing.assert_allclose(patch[0].permute(1, 2, 0)[::8, ::8], fixtures["augment_patch512_every8thpixel"], atol=2e-3)
    views, shifts = target_filter.AUGMENTATION.samples(patch, target_filter.SAMPLE_PX, torch.Generator())
    np.testing.assert_array_equal(shifts, fixtures["augment_27_shifts_yx"])
    np.testing.assert_allclose(views.permute(0, 2, 3, 1)[:, 4::16, 4::16], fixtures["augment_27_samples_rgb_pixels_4_20_36_etc"], atol=0.02)


def test_rectangles_around_masks(fixtures: Fixtures) -> None:
    masks = np.unpackbits(fixtures["boxfit_masks_packbits"], axis=1).reshape(-1, 384, 384)
    stored = fixtures["boxfit_contourarea_minrect_cx_cy_short_long_then_axisaligned_corners"]
    too_small = 0
    for mask, values, rotated in zip(masks, stored, fixtures["boxfit_rotated_corners_xy"], strict=True):
        contour = largest_contour(mask > 0)
        if contour is None:
            assert values[0] <= mask_region.MIN_CONTOUR_AREA
            assert np.isnan(values[5:]).all()
            assert fit_rotated(mask) is None
            too_small += 1
            continue
        assert contour.area == values[0]
        smallest = contour.min_area_rectangle()
        np.testing.assert_allclose(smallest.mean(axis=0), values[1:3], atol=1e-3)
        np.testing.assert_allclose(mask_region.sides_product(smallest), values[3] * values[4], rtol=1e-4)
        np.testing.assert_array_equal(contour.upright_rectangle().ravel(), values[5:])
        fitted = fit_rotated(mask)
        assert fitted is not None
        np.testing.assert_allclose(fitted.ravel(), rotated, atol=1e-6)
    assert too_small == 2


# --- the filter -----------------------------------------------------------------------------------------------------------------------


def labels_of(fixtures: Fixtures, dtype: torch.dtype = torch.float32) -> Tensor:
    return online_filter.gaussian_labels(torch.from_numpy(fixtures["dcf_label_centres"]).to(dtype), 16, 8 / 9)


def test_labels_window_and_activation(fixtures: Fixtures) -> None:
    np.testing.assert_allclose(labels_of(fixtures), fixtures["dcf_labels_sigma_8_9"][:, 0], atol=1e-6)
    window = target_filter.output_window()
    np.testing.assert_allclose(np.fft.ifftshift(window[128] / window[128].max()), fixtures["hann_256_not_centred"], atol=1e-6)
    given = torch.from_numpy(fixtures["response_activation_input"])
    np.testing.assert_allclose(online_filter.activation(given), fixtures["response_activation_output"], atol=1e-6)


def test_the_projection_begins_with_the_principal_directions(fixtures: Fixtures) -> None:
    gains = 1.0 + torch.arange(96).reshape(96, 1, 1) / 24.0
    projection = target_filter.principal_directions(fixtures.input("dcf.pca_samples", (4, 96, 16, 16)) * gains, 16)[:, :, 0, 0]
    np.testing.assert_allclose(projection.T @ projection, fixtures["pca_projector_PtP"], atol=1e-4)
    np.testing.assert_allclose(projection @ projection.T, np.eye(16), atol=1e-5)


def objective(scores: Tensor, labels: Tensor, weights: Tensor, *regularised: tuple[float, Tensor]) -> float:
    data = (weights[:, None, None] * (online_filter.activation(scores) - labels).square()).sum()
    return float(data + sum(weight * values.square().sum() for weight, values in regularised))


def test_filter_and_projection_after_gauss_newton_steps(fixtures: Fixtures) -> None:
    samples, labels = fixtures.input("dcf.samples", (5, 96, 16, 16)).double(), labels_of(fixtures, torch.float64)
    start = torch.zeros(1, 16, 4, 4, dtype=torch.float64), fixtures.input("dcf.projection", (16, 96, 1, 1), "weight").double()
    weights = torch.full((5,), 0.2, dtype=torch.float64)
    losses = fixtures["gn_loss_before_and_after_each_gauss_newton"]
    learned = start
    for steps in range(7):
        if steps:
            learned = online_filter.learn_filter_and_projection(
                samples, labels, weights, *learned, filter_reg=0.1, projection_reg=1e-4, steps=1, iterations=10
            )
        scores = online_filter.correlate(online_filter.project(samples, learned[1]), learned[0])
        assert objective(scores, labels, weights, (0.1, learned[0]), (1e-4, learned[1])) == pytest.approx(losses[steps], rel=1e-4)
        if steps in (1, 6):
            fixtures.check(f"gn_filter_after_{steps}", learned[0], 1e-3)
            fixtures.check(f"gn_projection_after_{steps}", learned[1][:, :, 0, 0], 1e-3)


def test_the_filter_after_later_updates(fixtures: Fixtures) -> None:
    memory = fixtures.input("dcf.memory", (8, 16, 16, 16))
    start = fixtures.input("dcf.filter0", (1, 16, 4, 4), "weight")
    fixtures.check("same_convolution_4x4", online_filter.correlate(memory[:1], start)[None])
    labels, weights = labels_of(fixtures)[[0, 1, 2, 3, 4, 0, 1, 2]], torch.tensor([0.3, 0.2, 0.15, 0.15, 0.1, 0.1, 0.0, 0.0])
    learned = 0.1 * start
    losses = [objective(online_filter.correlate(memory, learned), labels, weights, (0.1, learned))]
    for name in ("cg_filter_after_5", "cg_filter_after_5_plus_5"):
        learned = online_filter.learn_filter(memory, labels, weights, learned, filter_reg=0.1, iterations=5)
        fixtures.check(name, learned, 1e-3)
        losses.append(objective(online_filter.correlate(memory, learned), labels, weights, (0.1, learned)))
    np.testing.assert_allclose(losses, fixtures["cg_loss"], rtol=1e-4)


def test_which_samples_are_remembered(fixtures: Fixtures) -> None:
    memory = SampleWeights(250, 27, initial_share=0.0)
    slots = []
    stored = dict(zip((1, 2, 4, 10, 223, 224, 300), fixtures["memory_weights_after_updates_1_2_4_10_223_224_300"], strict=True))
    for update in range(1, 301):
        slots.append(memory.add(0.02 if update in (4, 8) else 0.0075))
        if update in stored:
            np.testing.assert_allclose(memory.values, stored[update], rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(slots, fixtures["memory_replaced_index_300_updates"])


def test_where_score_maps_say_the_target_is(fixtures: Fixtures, tracker: D3S) -> None:
    height, width, scale = fixtures["localise_target_hw_and_scale"]
    for index, (raw, (dy, dx, peak, flag)) in enumerate(
        zip(fixtures["localise_raw_maps"], fixtures["localise_dy_dx_maxscore_flag"], strict=True)
    ):
        scores = tracker._target_filter.scores(raw)
        if index == 1:
            fixtures.check("localise_map1_windowed_scores_256", scores[None, None])
        found = localise(scores, scale, vector((height, width)), vector((0, 0)), THRESHOLDS)
        np.testing.assert_allclose(found.translation, (dy, dx), atol=1e-4)
        assert (found.peak, found.flag) == (pytest.approx(peak, rel=1e-4), flag)


# --- whole tracks ---------------------------------------------------------------------------------------------------------------------


class Annotated:
    """In place of the segmentation network: the data set's masks (or nothing), cut out where the tracker looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mask: np.ndarray | None = None
        self._window: Window | None = None

        def watched(image: np.ndarray, window: Window, *, edge: bool) -> np.ndarray:
            self._window = window
            return cut(image, window, edge=edge)

        monkeypatch.setattr("sftrack.trackers.d3s.cut", watched)

    def start(self, _crop_rgb: np.ndarray, _mask: np.ndarray) -> np.ndarray:
        return self.segment(_crop_rgb)

    def improve(self, mask: np.ndarray) -> None:
        pass

    def segment(self, _crop_rgb: np.ndarray) -> np.ndarray:
        assert self._window is not None
        return np.zeros((384, 384), np.float32) if self.mask is None else cut(self.mask, self._window, edge=False)


class Trace:
    """A track of the fixtures: `dcf` without segmentation, `box` and `poly` with annotated masks, started with a box and a polygon."""

    def __init__(self, fixtures: Fixtures, kind: str, tracker: D3S, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind, self.tracker = kind, tracker
        self._fixtures = fixtures
        self._segmenter = Annotated(monkeypatch)
        monkeypatch.setattr(tracker, "_segmenter", self._segmenter)
        self._first, *self.numbers = self["frame_numbers"].tolist()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._fixtures[f"trace_{self.kind}_{name}"]

    def look(self, number: int) -> np.ndarray:
        """A frame; the segmenter will see its annotation."""
        sequence = str(self["sequence_name"])
        self._segmenter.mask = None if self.kind == "dcf" else self._fixtures.annotation(sequence, number)
        return self._fixtures.frame(sequence, number)

    def start(self) -> None:
        given = self["init_region_as_given_to_the_reference"]
        if self.kind == "poly":
            self.tracker.init_rectangle(self.look(self._first), given.reshape(4, 2))
        else:
            self.tracker.init(self.look(self._first), given - (1, 1, 0, 0))

    def check_learning(self, given: dict[str, Tensor]) -> None:
        """The first frame's features, the projection that learning starts from, and the loss after it."""
        features = given["samples"]
        np.testing.assert_allclose([features.mean(), features.std()], self["init_features_mean_std"], rtol=1e-4)
        vectors = features.transpose(0, 1).flatten(1).double()
        centred = vectors - vectors.mean(dim=1, keepdim=True)
        kept = given["projection"][:, :, 0, 0].double()
        # Of the first 64 eigenvalues the sum and the directions' own; the 65th is the largest that is left out.
        eigenvalues = (kept @ (centred @ centred.T) * kept).sum(dim=1)
        np.testing.assert_allclose(eigenvalues, self["init_covariance_eigenvalues_first65"][:64], rtol=1e-3)
        learned, weights = self.tracker._target_filter._learned, torch.full((27,), 1 / 27)
        scores = online_filter.correlate(learned._samples[:27], learned.weight)
        loss = objective(scores, learned._labels[:27], weights, (0.1, learned.weight), (1e-4, learned.projection))
        assert loss == pytest.approx(float(self["init_loss_after_joint_optimisation"]), rel=1e-3)
        self._fixtures.check(f"trace_{self.kind}_init_score_map_identity_sample", scores[0], 1e-3)

    def check_frame(self, index: int, estimate: Estimate) -> None:
        """Where the target was found, and what the tracker then takes for its size."""
        tracker = self.tracker
        if self.kind == "poly":
            np.testing.assert_allclose(tracker.rectangle_xy.ravel(), self["regions_polygon_x1y1_to_x4y4"][index], atol=0.02)
        else:
            np.testing.assert_allclose(estimate.box_xywh, self["regions_xywh_onebased"][index] - (1, 1, 0, 0), atol=0.02)
        np.testing.assert_allclose(tracker._position, self["pos_yx_after_frame"][index], atol=0.02)
        assert tracker._scale == pytest.approx(self["target_scale_after_frame"][index], rel=1e-4)
        np.testing.assert_allclose(tracker._size, self["target_hw_after_frame"][index], rtol=1e-4)
        assert tracker._peaks[-1] == pytest.approx(self["max_score_list_last"][index], rel=1e-3)
        assert (estimate.mask is None) == (self.kind == "dcf")

    def check_memory(self) -> None:
        """What is remembered in the end."""
        learned = self.tracker._target_filter._learned
        np.testing.assert_allclose(learned.weights.values[:45], self["memory_weights_end_first_45"], rtol=1e-4)
        assert int(np.flatnonzero(learned.weights.values)[-1]) == self["replaced_memory_index_last"]
        if self.kind != "dcf":
            np.testing.assert_allclose(self.tracker._areas, self["mask_pixel_history_end"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["dcf", "box", "poly"])
def test_a_whole_track_is_that_of_the_original(fixtures: Fixtures, tracker: D3S, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    trace = Trace(fixtures, kind, tracker, monkeypatch)
    given_to_learning = remember_learning(monkeypatch)
    trace.start()
    np.testing.assert_allclose([*tracker._position, tracker._scale], trace["init_pos_yx_and_scale"], rtol=1e-6)
    trace.check_learning(given_to_learning)

    maps = remember_results(tracker._target_filter._learned, "scores", monkeypatch)
    uncertainties = remember_results(tracker, "_uncertainty", monkeypatch)
    for index, number in enumerate(trace.numbers):
        trace.check_frame(index, tracker.update(trace.look(number)))
    expected = trace["raw_score_maps_16x16"]
    np.testing.assert_allclose([scores for _, scores in maps], expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_array_equal([flag for (_usual, _peak, flag), _ in uncertainties], trace["flags"])
    np.testing.assert_allclose([uncertainty for _, uncertainty in uncertainties], trace["uncertainty"], rtol=1e-3)
    trace.check_memory()


def remember_results(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], Any]]:
    """Arguments and result of every call of a method of one object, from now on."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    method = getattr(owner, name)

    def watched(*args: Any) -> Any:  # noqa: ANN401
        calls.append((args, method(*args)))
        return calls[-1][1]

    monkeypatch.setattr(owner, name, watched)
    return calls


def remember_learning(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the first frame's learning is given."""
    seen: dict[str, Tensor] = {}
    learn = online_filter.learn_filter_and_projection

    def watched(samples: Tensor, labels: Tensor, weights: Tensor, weight: Tensor, projection: Tensor, **how: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        seen.update(samples=samples, projection=projection)
        return learn(samples, labels, weights, weight, projection, **how)

    monkeypatch.setattr("sftrack.trackers.discriminative.learned_filter.learn_filter_and_projection", watched)
    return seen


# --- weights --------------------------------------------------------------------------------------------------------------------------


def test_weights_of_another_network_are_refused(fixtures: Fixtures) -> None:
    with pytest.raises(WeightsError, match=r"feature_extractor\.conv1|bn1"):
        create("d3s", weights=fixtures.backbone_state, backbone_weights=fixtures.backbone_state)
    lacking = {name: tensor for name, tensor in fixtures.state.items() if name != "segm_predictor.mixer.0.weight"}
    with pytest.raises(WeightsError, match=r"segm_predictor\.mixer\.0\.weight"):
        create("d3s", weights=lacking, backbone_weights=fixtures.backbone_state)
    broken = {**fixtures.backbone_state, "conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}
    with pytest.raises(WeightsError, match="finite"):
        create("d3s", weights=fixtures.state, backbone_weights=broken)
