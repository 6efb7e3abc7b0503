"""The IoU-Net and the ascent of boxes on its score, against the fixtures; ATOM's and PrDiMP's differ in what is moved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sftrack.trackers.discriminative.iou_net import IoUNet, Space, TwoLevels, ascend, modulate
from tests.discriminative import Fixtures, assert_close

FAMILIES: dict[str, tuple[float, Space, int, float]] = {
    "atom18": (2.0**-9, "default", 5, 1.0),
    "prdimp18": (2.0**-7, "relative", 10, 2.5e-3),
}
"""Factor on the predictor's weights, space, iterations and step length."""


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[str, Fixtures, IoUNet, TwoLevels]:
    """Family, fixtures, network and the modulated features on which the fixtures score boxes."""
    family: str = request.param
    fixtures = Fixtures(shared, family)
    state = fixtures.state("bb_regressor.")
    state["iou_predictor.weight"] *= FAMILIES[family][0]
    state["iou_predictor.bias"] *= FAMILIES[family][0]
    network = IoUNet()
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    modulation = network.modulation(layers(fixtures, "ref"), torch.from_numpy(fixtures["iou_ref_box"][0]))
    assert_close(modulation.stride8[0, :, 0, 0], fixtures["iou_modulation3"])
    assert_close(modulation.stride16[0, :, 0, 0], fixtures["iou_modulation4"])
    features = network.features(layers(fixtures, "test"))
    assert_close(features.stride8[0, ::8, ::3, ::3], fixtures["iou_feat3_sub"])
    assert_close(features.stride16[0, ::8, ::2, ::2], fixtures["iou_feat4_sub"])
    return family, fixtures, network, modulate(features, modulation)


def layers(fixtures: Fixtures, branch: str) -> TwoLevels:
    return TwoLevels(
        16 * fixtures.tensor(f"iou_{branch}_layer2", (1, 128, 36, 36)), 16 * fixtures.tensor(f"iou_{branch}_layer3", (1, 256, 18, 18))
    )


def test_the_state_dict_has_the_official_names_in_their_order(case: tuple[str, Fixtures, IoUNet, TwoLevels]) -> None:
    _, fixtures, network, _ = case
    own = {f"bb_regressor.{name}": list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert list(own.items()) == [(name, shape) for name, shape in fixtures.shapes.items() if name.startswith("bb_regressor.")]


def test_scores_and_their_gradients_equal_the_original(case: tuple[str, Fixtures, IoUNet, TwoLevels]) -> None:
    _, fixtures, network, modulated = case
    boxes = torch.from_numpy(fixtures["iou_proposals"]).requires_grad_()
    scores = network(modulated, boxes)
    assert_close(scores.detach(), fixtures["iou_pred"])
    (gradient,) = torch.autograd.grad(scores.sum(), boxes)
    assert_close(gradient, fixtures["iou_grad_xywh"], 1e-3)


def test_boxes_after_every_step_equal_the_original(case: tuple[str, Fixtures, IoUNet, TwoLevels]) -> None:
    family, fixtures, network, modulated = case
    _, space, iterations, step_length = FAMILIES[family]
    start = torch.from_numpy(fixtures["iou_proposals"])
    for count in (1, 2, iterations):
        boxes, scores = ascend(network, modulated, start, space=space, iterations=count, step_length=step_length)
        np.testing.assert_allclose(boxes, fixtures["refine_boxes"][count], atol=0.01)
        assert_close(scores, fixtures["refine_iou"][count - 1])


def test_the_boxes_of_an_ascent_do_not_depend_on_each_other_in_the_default_space(case: tuple[str, Fixtures, IoUNet, TwoLevels]) -> None:
    _, fixtures, network, modulated = case
    start = torch.from_numpy(fixtures["iou_proposals"])
    together, _ = ascend(network, modulated, start, space="default", iterations=2, step_length=0.1)
    alone, _ = ascend(network, modulated, start[3:4], space="default", iterations=2, step_length=0.1)
    np.testing.assert_allclose(together[3:4], alone, atol=1e-3)


def test_no_step_leaves_the_boxes_as_they_are(case: tuple[str, Fixtures, IoUNet, TwoLevels]) -> None:
    _, fixtures, network, modulated = case
    start = torch.from_numpy(fixtures["iou_proposals"])
    boxes, scores = ascend(network, modulated, start, space="default", iterations=0, step_length=1.0)
    np.testing.assert_array_equal(boxes, start)
    assert scores.shape == (10,)
