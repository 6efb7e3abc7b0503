"""Crops, penalties and the step of the tracking procedure, against the fixtures and against their definitions written out."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sftrack.contracts import Movable
from sftrack.errors import BoxError, ConfigError, NotInitialisedError
from sftrack.trackers.siamese.crop import crop_square, fill_colour
from sftrack.trackers.siamese.penalty import (
    boxes_from_distances,
    choose,
    context_side,
    grid_points,
    hann_window,
    shape_penalty,
)
from sftrack.trackers.siamese.procedure import Candidates, Settings, SiameseTracker, soften
from sftrack.trackers.siamese.runner import Comparison, SiameseNetwork
from sftrack.trackers.siamrpn import VARIANTS, anchors, boxes_from_offsets

NETWORKS = ("nanotrack", "nanotrack_v1", "nanotrack_v2", "siamban", "siamrpnpp", "siamrpnpp_alex", "siamrpnpp_mobilev2")
BY_DISTANCES = ("nanotrack", "nanotrack_v1", "nanotrack_v2", "siamban")
ANCHORED = {"siamrpnpp": "r50", "siamrpnpp_alex": "alex", "siamrpnpp_mobilev2": "mobilev2"}
"""The variants of SiamRPN++."""


def fixture(shared: Path, network: str) -> dict[str, Any]:
    with np.load(shared / "parity" / f"{network}.npz") as stored:
        content = {name: stored[name] for name in stored.files if name.startswith(("crop.", "post."))}
        return {**content, **json.loads(str(stored["meta"]))}


def deterministic(shared: Path, seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    scope: dict[str, Any] = {}
    exec(compile((shared / "parity" / "deterministic.py").read_text(), "deterministic.py", "exec"), scope)
    return np.asarray(scope["tensor"](seed, name, shape, "normal"))


def crop_by_definition(image: np.ndarray, center: tuple[float, float], side: int, size: int, fill: np.ndarray) -> np.ndarray:
    """The specification, pixel by pixel: integer bilinear weights with 11 bits, everything beyond the border painted first."""
    x0, y0 = (math.floor(value - (side + 1) / 2 + 0.5) for value in center)
    patch = np.empty((side, side, 3), np.int64)
    for row in range(side):
        for column in range(side):
            inside = 0 <= y0 + row < image.shape[0] and 0 <= x0 + column < image.shape[1]
            patch[row, column] = image[y0 + row, x0 + column] if inside else fill
    if side == size:
        return patch.astype(np.uint8)
    places = ((np.arange(size) + 0.5) * side / size - 0.5).astype(np.float32)
    first = np.floor(places).astype(int)
    share = places - first.astype(np.float32)

    def weights(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.rint(np.float32(2048) * (1 - share)).astype(np.int64), np.rint(np.float32(2048) * share).astype(np.int64)

    outside = (first < 0) | (first >= side - 1)
    columns = np.clip(first, 0, side - 1)
    w0, w1 = (w[None, :, None] for w in weights(np.where(outside, np.float32(0), share)))
    across = w0 * patch[:, columns] + w1 * patch[:, np.minimum(columns + 1, side - 1)]
    w0, w1 = (w[:, None, None] for w in weights(share))
    upper, lower = across[np.clip(first, 0, side - 1)], across[np.clip(first + 1, 0, side - 1)]
    return ((((w0 * (upper >> 4)) >> 16) + ((w1 * (lower >> 4)) >> 16) + 2) >> 2).astype(np.uint8)


@pytest.mark.parametrize("network", NETWORKS)
def test_crops_equal_the_fixtures_to_the_pixel(shared: Path, network: str) -> None:
    parity = fixture(shared, network)
    image_bgr = cv2.imread(str(shared / "data/DAVIS/JPEGImages/480p" / parity["sequence"] / "00000.jpg"))
    fill = fill_colour(image_bgr)
    np.testing.assert_array_equal(fill, parity["crop.channel_average_bgr"].astype(np.uint8))
    rows = parity["crop.params_cx_cy_originalsize_modelsize"]
    for index, (cx, cy, side, size) in enumerate(rows):
        crop = crop_square(image_bgr, np.array([cx, cy]), int(side), int(size), fill)
        np.testing.assert_array_equal(crop, parity[f"crop.{index}_bgr_hwc"])
    assert len(rows) >= 3


@settings(max_examples=60, deadline=None)
@given(
    center=st.tuples(st.floats(-30, 70), st.floats(-30, 60)),
    side=st.integers(1, 90),
    size=st.sampled_from([7, 16, 31]),
    seed=st.integers(0, 9),
)
def test_any_crop_is_as_specified(center: tuple[float, float], side: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    fill = fill_colour(image)
    crop = crop_square(image, np.array(center), side, size, fill)
    np.testing.assert_array_equal(crop, crop_by_definition(image, center, side, size, fill))


def test_the_fill_colour_of_a_flat_image_is_its_colour() -> None:
    for value in range(256):
        assert fill_colour(np.full((49, 77, 3), value, np.uint8)).tolist() == [value] * 3


def test_the_fill_colour_is_truncated() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :3] = 1
    assert fill_colour(image).tolist() == [0, 0, 0]


def case_boxes(shared: Path, parity: dict[str, Any], network: str, case: int | None = None) -> np.ndarray:
    """Candidates `(4, N)` of the fixtures: the plain ones, or those of one of the four cases."""
    if network in BY_DISTANCES:
        points = parity["post.points"]
        size = round(math.sqrt(len(points)))
        distances = np.exp(np.float32(0.4) * deterministic(shared, parity["seed"], "post.loc", (1, 4, size, size)) + np.float32(3.5))
        factors = np.ones(4) if case is None else parity["post.case_loc_mul"][case]
        return boxes_from_distances(points, distances.reshape(4, -1) * factors.astype(np.float32)[:, None])
    size = VARIANTS[ANCHORED[network]].score_size
    offsets = (np.float32(0.3) * deterministic(shared, parity["seed"], "post.loc", (1, 20, size, size))).reshape(4, -1)
    addends = np.zeros(4) if case is None else parity["post.case_loc_add"][case]
    return boxes_from_offsets(anchors(size), offsets + addends.astype(np.float32)[:, None])


@pytest.mark.parametrize("network", NETWORKS)
def test_boxes_and_window_of_the_fixtures(shared: Path, network: str) -> None:
    parity = fixture(shared, network)
    shapes = 1 if network in BY_DISTANCES else 5
    size = round(math.sqrt(len(parity["post.window"]) / shapes))
    if network in BY_DISTANCES:
        np.testing.assert_array_equal(grid_points(size, 8 if network == "siamban" else 16), parity["post.points"])
    else:
        np.testing.assert_array_equal(anchors(size).T, parity["post.anchors"])
    np.testing.assert_allclose(np.tile(hann_window(size), shapes), parity["post.window"], rtol=0, atol=1e-15)
    np.testing.assert_allclose(case_boxes(shared, parity, network), parity["post.boxes"], rtol=1e-5, atol=1e-4)


class Answers(SiameseNetwork):
    """Gives the same logits for any crop."""

    def __init__(self, cls: np.ndarray) -> None:
        super().__init__()
        self.cls = torch.nn.Parameter(torch.from_numpy(cls))

    def forward(self, kernels: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls, torch.cat([self.cls, self.cls], dim=1)


@torch.inference_mode()
@pytest.mark.parametrize("network", NETWORKS)
def test_scores_are_the_foregrounds_share(shared: Path, network: str) -> None:
    parity = fixture(shared, network)
    shapes = 1 if network in BY_DISTANCES else 5
    size = round(math.sqrt(len(parity["post.score"]) / shapes))
    cls = 2 * deterministic(shared, parity["seed"], "post.cls", (1, 2 * shapes, size, size))
    scores, _ = Comparison(Answers(cls))(torch.zeros(9, 9, 3, dtype=torch.uint8))
    np.testing.assert_allclose(scores, parity["post.score"], rtol=1e-5)


class Canned(SiameseTracker):
    """Says what a test tells it."""

    answer: Candidates

    def _set_template(self, crop_rgb: np.ndarray) -> None:
        self.template = crop_rgb

    def _compare(self, crop_rgb: np.ndarray) -> Candidates:
        return self.answer


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_the_procedure_equals_the_fixtures(shared: Path, network: str, case: int) -> None:
    parity = fixture(shared, network)
    boxes = case_boxes(shared, parity, network, case)
    penalty_k, influence, rate = parity["post.case_penaltyk_windowinfluence_lr"][case]
    center, size_wh = parity["post.case_center"][case], parity["post.case_size"][case]
    scale = 127.0 / context_side(*size_wh.tolist())
    if case < 2:
        penalties = shape_penalty(boxes, size_wh * scale, penalty_k)
        np.testing.assert_allclose(penalties, parity[f"post.case{case}_penalty"], rtol=1e-5)
        totals = penalties * parity["post.score"] * (1 - influence) + influence * parity["post.window"]
        np.testing.assert_allclose(totals, parity[f"post.case{case}_pscore"], rtol=1e-5)
    choice = choose(parity["post.score"], shape_penalty(boxes, size_wh * scale, penalty_k), parity["post.window"], influence)
    assert choice.index == parity["post.case_out_best_index"][case]
    for name in ("score", "penalty"):
        assert getattr(choice, name) == pytest.approx(parity[f"post.case_out_best_{name}"][case], rel=1e-5)
    assert choice.total == pytest.approx(parity["post.case_out_best_pscore"][case], rel=1e-5)
    assert rate * choice.penalty * choice.score == pytest.approx(parity["post.case_out_lr"][case], rel=1e-5)

    height, width = (int(value) for value in parity["post.case_image_hw"][case])
    tracker = Canned(Settings(penalty_k, influence, rate), parity["post.window"])
    image = np.zeros((height, width, 3), np.uint8)
    # The case's state may have its box partly outside the frame, where no box can be started: start in the frame, then set the state.
    tracker.init(image, np.array([width / 4, height / 4, width / 2, height / 2]))
    tracker._center, tracker._size = center.copy(), size_wh.copy()
    tracker.answer = Candidates(parity["post.score"], boxes)
    np.testing.assert_allclose(tracker.update(image).box_xywh, parity["post.case_out_bbox"][case], atol=1e-3)
    np.testing.assert_allclose(tracker._center, parity["post.case_out_center"][case], atol=1e-3)
    np.testing.assert_allclose(tracker._size, parity["post.case_out_size"][case], atol=1e-3)


def test_the_centre_of_the_start_box_is_its_middle() -> None:
    tracker = Canned(Settings(0.0, 0.0, 0.0), np.zeros(1))
    image = np.zeros((80, 120, 3), np.uint8)
    tracker.init(image, np.array([30.0, 20.0, 40.0, 24.0]))
    tracker.answer = Candidates(np.ones(1, np.float32), np.array([[0], [0], [40], [24]], np.float32))
    np.testing.assert_array_equal(tracker.update(image).box_xywh, [30.0, 20.0, 40.0, 24.0])


def test_a_moved_tracker_keeps_its_template() -> None:
    tracker = Canned(Settings(0.0, 0.0, 0.0), np.zeros(1))
    image = np.zeros((80, 120, 3), np.uint8)
    with pytest.raises(NotInitialisedError, match="init"):
        tracker.move_to(np.array([30.0, 20.0, 40.0, 24.0]))
    tracker.init(image, np.array([30.0, 20.0, 40.0, 24.0]))
    template = tracker.template
    tracker.move_to(np.array([50.0, 10.0, 20.0, 12.0]))
    tracker.answer = Candidates(np.ones(1, np.float32), np.array([[0], [0], [40], [24]], np.float32))
    np.testing.assert_array_equal(tracker.update(image).box_xywh, [50.0, 10.0, 20.0, 12.0])
    assert tracker.template is template
    assert isinstance(tracker, Movable)
    with pytest.raises(BoxError):
        tracker.move_to(np.array([500.0, 10.0, 20.0, 12.0]))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_candidate_that_is_not_finite_is_no_answer_and_does_no_harm(value: float) -> None:
    tracker = Canned(Settings(0.1, 0.4, 0.3), np.ones(1))
    image = np.zeros((80, 120, 3), np.uint8)
    tracker.init(image, np.array([30.0, 20.0, 40.0, 24.0]))
    tracker.answer = Candidates(np.ones(1, np.float32), np.array([[0], [0], [value], [24]], np.float32))
    assert tracker.update(image).score == 0.0
    tracker.answer = Candidates(np.ones(1, np.float32), np.array([[0], [0], [40], [24]], np.float32))
    assert tracker.update(image).score == 1.0


def test_the_published_score_is_handed_out_unless_it_is_softened() -> None:
    assert soften(0.93, 1.0) == 0.93
    assert soften(0.5, 8.0) == pytest.approx(0.5)
    assert soften(1.0 / (1.0 + math.exp(-12.0)), 8.0) == pytest.approx(1.0 / (1.0 + math.exp(-1.5)), abs=1e-6)
    assert 0.0 < soften(0.0, 8.0) < soften(0.01, 8.0) < soften(0.99, 8.0) < soften(1.0, 8.0) < 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("penalty_k", -0.1), ("penalty_k", math.nan), ("window_influence", 1.5), ("lr", -1.0), ("temperature", 0.0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"expected {name} .*got {value}"):
        Settings(**{"penalty_k": 0.1, "window_influence": 0.4, "lr": 0.3, name: value})


@pytest.mark.parametrize("name", ["penalty_k", "window_influence", "lr", "temperature"])
def test_a_setting_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^expected {name} as a number, got 'a'$"):
        Settings(**{"penalty_k": 0.1, "window_influence": 0.4, "lr": 0.3, name: "a"})  # type: ignore[arg-type]
    Settings(**{"penalty_k": 0, "window_influence": np.float32(0.4), "lr": 1, name: np.float64(0.5)})
