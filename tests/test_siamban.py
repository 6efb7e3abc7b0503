"""SiamBAN against the fixtures of the original implementation, and beside SiamRPN++ in one process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftrack import engine
from sftrack.contracts import Tracker
from sftrack.engine import OnnxEngine, TorchEngine, fold
from sftrack.trackers import create, siamban, siamrpn
from sftrack.trackers.siamban import VARIANTS, BoxAdaptiveHead, SiamBAN
from sftrack.trackers.siamese.head import MultiLevelNetwork, Neck
from sftrack.trackers.siamese.resnet import Bottleneck, ResNet50
from sftrack.trackers.siamese.runner import Comparison, Template
from tests.parity import Parity
from tests.siamese_parity import adjusted, check_chain, check_fusion, check_neck, check_raw_head, check_track, filled
from tests.test_siamrpn import BOX, IMAGE, Coarse, check_resnet
from tests.toy_siamese import ToyNetwork


@pytest.fixture(scope="module")
def parity(shared: Path) -> Parity:
    return Parity(shared, "siamban")


@pytest.fixture(scope="module")
def raw_state(parity: Parity) -> dict[str, Tensor]:
    return parity.state()


def test_names_shapes_and_order_are_the_official_ones(parity: Parity) -> None:
    with torch.device("meta"):
        network = siamban.network()
    assert [(name, tuple(value.shape)) for name, value in network.state_dict().items()] == list(parity.shapes().items())


@torch.inference_mode()
def test_every_stage(parity: Parity, raw_state: dict[str, Tensor]) -> None:
    network = filled(siamban.network(), raw_state)
    head = network.head
    assert isinstance(network.backbone, ResNet50)
    assert isinstance(network.neck, Neck)
    assert isinstance(head, BoxAdaptiveHead)
    check_resnet(parity, network.backbone)
    check_neck(parity, network.neck, ResNet50.widths)
    check_raw_head(parity, head, "box{}.", (7, 31))
    check_fusion(parity, head, "weighted", (2, 4), rtol=1e-5)
    head.cls_weight = head.loc_weight = None
    check_fusion(parity, head, "mean", (2, 4), rtol=1e-5)


def test_a_whole_pass_and_whole_tracks(parity: Parity, raw_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both experiments."""
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)
    state = adjusted(parity, raw_state)
    published, for_otb = parity.meta["experiments"]
    tracker = SiamBAN(variant="r50", weights=state)
    network = tracker._comparison._network.network  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        check_track(tracker, parity, published, patch)
    check_chain(parity, network, network.head, "box{}.")
    tracker = SiamBAN(variant="r50_otb", weights=state)
    with monkeypatch.context() as patch:
        check_track(tracker, parity, for_otb, patch)


def test_the_head_agrees_in_onnxruntime() -> None:
    """Exponentials before the fusion, with factors of either sign."""
    network = MultiLevelNetwork(Coarse(), Neck(Coarse.widths), BoxAdaptiveHead(), "head").eval()
    head = network.head
    assert isinstance(head, BoxAdaptiveHead)
    head.loc_scale.data = torch.tensor([0.7, -1.2, 2.0])
    head.loc_weight.data = torch.tensor([0.5, -0.5, 1.5])  # type: ignore[union-attr]
    fold(network)
    crops = [np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (127, 255)]
    kernels = TorchEngine(Template(network)).keep(crops[0])
    expected = TorchEngine(Comparison(network)).run(crops[1], *kernels)
    for ours, theirs in zip(
        OnnxEngine(Comparison(network), [torch.from_numpy(crops[1]), *kernels]).run(crops[1], *kernels), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def as_if_trained(network: MultiLevelNetwork, crops_rgb: Sequence[NDArray[np.uint8]]) -> MultiLevelNetwork:
    """Random weights, but maps of the size that training leads to: else each block of the backbone would multiply every rounding."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean and variance of what is seen, template and search crop alike
        elif isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)
    template, search = (network.to_input(torch.from_numpy(crop)) for crop in crops_rgb)
    with torch.no_grad():
        network.train()(network.template(template), search)
    fold(network.eval())
    return network


@pytest.mark.parametrize("build", [siamrpn.VARIANTS["r50"].network, siamban.network], ids=["siamrpn++", "siamban"])
def test_float16_stays_finite_and_close(build: Callable[[], MultiLevelNetwork]) -> None:
    """On the CPU, whose float16 overflows where a GPU's does. The search crop is the smallest that is not taken for a template."""
    crops = [np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (127, 167)]
    network = as_if_trained(build(), crops)
    exact = TorchEngine(Comparison(network)).run(crops[1], *TorchEngine(Template(network)).keep(crops[0]))
    overflown: list[str] = []
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, out, name=name: None if out.isfinite().all() else overflown.append(name))
    kernels = TorchEngine(Template(network), dtype=torch.float16).keep(crops[0])
    half = TorchEngine(Comparison(network), dtype=torch.float16).run(crops[1], *kernels)
    assert {kernel.dtype for kernel in kernels} == {torch.float16}
    assert overflown == []
    for ours, full in zip(half, exact, strict=True):
        np.testing.assert_allclose(ours, full, atol=0.2 * full.std(), rtol=0)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], Tracker]]:
    """Builders of both trackers around a network that costs next to nothing."""
    builders = {}
    for name, module, network in (
        ("siamrpn++", siamrpn, lambda: ToyNetwork(5, 2, (0.0, 0.0, 0.0, 0.0))),
        ("siamban", siamban, lambda: ToyNetwork(1, 0, (31.75, 31.75, 31.75, 31.75))),
    ):
        monkeypatch.setitem(module.VARIANTS, "r50", replace(module.VARIANTS["r50"], network=network))
        weights = network().state_dict()
        builders[name] = lambda name=name, weights=weights: create(name, weights=weights)
    return builders


def test_both_run_side_by_side(toys: dict[str, Callable[[], Tracker]]) -> None:
    """Neither has any setting outside its object: taking turns they do what each does alone."""
    frames = [np.roll(IMAGE, (2 * step, 3 * step), (0, 1)) for step in range(5)]

    def alone(name: str) -> list[np.ndarray]:
        tracker = toys[name]()
        tracker.init(frames[0], BOX)
        return [tracker.update(frame).box_xywh for frame in frames[1:]]

    expected = {name: alone(name) for name in toys}
    together = {name: build() for name, build in toys.items()}
    for tracker in together.values():
        tracker.init(frames[0], BOX)
    for index, frame in enumerate(frames[1:]):
        for name, tracker in together.items():
            np.testing.assert_array_equal(tracker.update(frame).box_xywh, expected[name][index])
    assert not np.array_equal(expected["siamrpn++"], expected["siamban"])


def test_the_published_settings_are_the_default(toys: dict[str, Callable[[], Tracker]]) -> None:
    tracker = toys["siamban"]()
    assert isinstance(tracker, SiamBAN)
    assert tracker._settings == VARIANTS["r50"].settings
