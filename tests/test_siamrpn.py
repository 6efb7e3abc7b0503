"""SiamRPN++ against the fixtures of the original implementation, stage by stage and over whole tracks, and what its users rely on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sftrack import engine
from sftrack.boxes import iou
from sftrack.engine import PRECISIONS, OnnxEngine, TorchEngine, fold
from sftrack.errors import ConfigError, WeightsError
from sftrack.trackers import create
from sftrack.trackers.siamese.head import FusedHead, LevelHead, MultiLevelNetwork, Neck
from sftrack.trackers.siamese.procedure import Settings
from sftrack.trackers.siamese.resnet import ResNet50
from sftrack.trackers.siamese.runner import Comparison, Template
from sftrack.trackers.siamese.xcorr import depthwise_xcorr
from sftrack.trackers.siamrpn import VARIANTS, SiamRPN, three_levels
from tests.parity import Parity
from tests.siamese_parity import adjusted, check_chain, check_fusion, check_neck, check_raw_head, check_track, filled
from tests.toy_siamese import ToyNetwork

FIXTURES = {
    "r50": "siamrpnpp",
    "r50_otb": "siamrpnpp",
    "alex": "siamrpnpp_alex",
    "alex_otb": "siamrpnpp_alex",
    "mobilev2": "siamrpnpp_mobilev2",
}
FUSION_WEIGHTS = ("rpn_head.cls_weight", "rpn_head.loc_weight")
"""Only the weighted checkpoint has them; the fixtures' state, made for it, serves `r50_otb` without them."""


def levels(variant: str) -> str:
    """How the fixtures call the levels of the head."""
    return "" if variant == "alex" else "rpn{}."


def without_fusion_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in FUSION_WEIGHTS}


@pytest.fixture(scope="module", params=["r50", "alex", "mobilev2"])
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[str, Parity, MultiLevelNetwork]:
    """A variant with its fixtures, and its network filled with the raw state."""
    parity = Parity(shared, FIXTURES[request.param])
    network = VARIANTS[request.param].network()
    assert isinstance(network, MultiLevelNetwork)
    return request.param, parity, filled(network, parity.state())


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_shapes_and_order_are_the_official_ones(shared: Path, variant: str) -> None:
    official = Parity(shared, FIXTURES[variant]).shapes()
    if variant == "r50_otb":
        official = {name: shape for name, shape in official.items() if name not in FUSION_WEIGHTS}
    with torch.device("meta"):
        network = VARIANTS[variant].network()
    assert [(name, tuple(value.shape)) for name, value in network.state_dict().items()] == list(official.items())


@torch.inference_mode()
def test_every_stage_of_the_backbone(case: tuple[str, Parity, MultiLevelNetwork]) -> None:
    variant, parity, network = case
    backbone = network.backbone
    if variant == "r50":
        assert isinstance(backbone, ResNet50)
        check_resnet(parity, backbone)
        return
    for part, side in (("template", 127), ("search", parity.meta["instance_size"])):
        x = parity.input(f"stage.image.{part}", (1, 3, side, side), "uniform")
        if variant == "alex":
            parity.check(f"stage.features0to3.{part}", backbone.features[:4](x))  # type: ignore[index, operator]
            parity.check(f"stage.features0to7.{part}", backbone.features[:8](x))  # type: ignore[index, operator]
            parity.check(f"stage.features.{part}", backbone(x)[0])
        else:
            for index, layer in enumerate(backbone.children()):
                x = layer(x)
                parity.check(f"stage.layer{index}.{part}", x)


def check_resnet(parity: Parity, backbone: ResNet50) -> None:
    """Stem and every layer alone."""
    for part, side in (("template", 127), ("search", 255)):
        stem = torch.relu(backbone.bn1(backbone.conv1(parity.input(f"stage.image.{part}", (1, 3, side, side), "uniform"))))
        parity.check(f"stage.stem_relu.{part}", stem)
        parity.check(f"stage.stem_pool.{part}", torch.max_pool2d(stem, 3, stride=2, padding=1))
    for index, (width, side) in enumerate(((64, 63), (256, 63), (512, 31), (1024, 31)), start=1):
        layer = getattr(backbone, f"layer{index}")
        parity.check(f"stage.layer{index}", layer(parity.input(f"stage.layer{index}.in", (1, width, side, side))))
    parity.check("stage.layer2_small", backbone.layer2(parity.input("stage.layer2_small.in", (1, 256, 31, 31))))


@torch.inference_mode()
def test_neck_head_and_fusion(case: tuple[str, Parity, MultiLevelNetwork]) -> None:
    variant, parity, network = case
    head = network.rpn_head
    assert isinstance(head, LevelHead | FusedHead)
    check_raw_head(parity, head, levels(variant), (6, 26) if variant == "alex" else (7, 31))
    if isinstance(head, FusedHead):
        assert isinstance(network.neck, Neck)
        check_neck(parity, network.neck, network.backbone.widths)  # type: ignore[arg-type]
        check_fusion(parity, head, "weighted" if variant == "r50" else "mean", (10, 20))
    if variant == "r50":
        check_fusion(parity, FusedHead("rpn", 10, 20, weighted=False), "mean", (10, 20))
    search, kernel = parity.input("stage.xcorr.search.in", (1, 8, 29, 29)), parity.input("stage.xcorr.kernel.in", (1, 8, 5, 5))
    parity.check("stage.xcorr", depthwise_xcorr(search, kernel))


@pytest.mark.parametrize("variant", ["alex", "mobilev2"])
@pytest.mark.parametrize("build", [TorchEngine, OnnxEngine])
def test_a_whole_track(shared: Path, variant: str, build: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: build is OnnxEngine)
    parity = Parity(shared, FIXTURES[variant])
    tracker = SiamRPN(variant=variant, weights=adjusted(parity, parity.state()))
    assert isinstance(tracker._comparison, build)
    check_track(tracker, parity, parity.meta["experiments"][0], monkeypatch)


@pytest.mark.parametrize("variant", ["alex", "mobilev2"])
def test_a_whole_pass(shared: Path, variant: str) -> None:
    parity = Parity(shared, FIXTURES[variant])
    network = VARIANTS[variant].network()
    assert isinstance(network, MultiLevelNetwork)
    filled(network, adjusted(parity, parity.state()))
    crop = torch.from_numpy(np.ascontiguousarray(parity["crop.1_bgr_hwc"][..., ::-1]))
    with torch.inference_mode():
        kernels = Template(network)(crop[64:191, 64:191])
        plain = Comparison(network)(crop, *kernels)
    check_chain(parity, network, network.rpn_head, levels(variant))  # type: ignore[arg-type]
    with torch.inference_mode():
        # float64 is as far from the fixtures as this: what folding changes is of the size of float32's own rounding
        folded = Comparison(fold(network))(crop, *Template(network)(crop[64:191, 64:191]))
    for ours, before in zip(folded, plain, strict=True):
        np.testing.assert_allclose(ours, before, atol=3e-4 * before.std(), rtol=0)


def test_a_whole_pass_and_whole_tracks_with_resnet(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one test, so that the largest state is made once; both experiments, weighted and plain mean."""
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)
    parity = Parity(shared, "siamrpnpp")
    state = adjusted(parity, parity.state())
    weighted, plain = parity.meta["experiments"]
    tracker = SiamRPN(variant="r50", weights=state)
    network = tracker._comparison._network.network  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        check_track(tracker, parity, weighted, patch)
    check_chain(parity, network, network.rpn_head, "rpn{}.")
    tracker = SiamRPN(variant="r50_otb", weights=without_fusion_weights(state))
    with monkeypatch.context() as patch:
        check_track(tracker, parity, plain, patch)


def test_the_levels_of_an_engine_agree_with_pytorch() -> None:
    """The fused head through onnxruntime, behind a backbone of one convolution per level."""
    network = fold(three_levels(Coarse(), weighted=True).eval())  # type: ignore[arg-type]
    assert isinstance(network, MultiLevelNetwork)
    crops = [np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (127, 255)]
    kernels = TorchEngine(Template(network)).keep(crops[0])
    expected = TorchEngine(Comparison(network)).run(crops[1], *kernels)
    for ours, theirs in zip(
        OnnxEngine(Comparison(network), [torch.from_numpy(crops[1]), *kernels]).run(crops[1], *kernels), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std(), rtol=0)


class Coarse(torch.nn.Module):
    """Maps of the deep backbones' shapes, 15 x 15 and 31 x 31, of very few channels."""

    widths = (4, 5, 6)

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.ModuleList(torch.nn.Conv2d(3, width, 8, stride=8) for width in self.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [part(images / 255.0) for part in self.maps]


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_half_precision_stays_close(shared: Path, precision: str, tolerance: float) -> None:
    """What a GPU computes in float16 and a recent CPU in bfloat16; the last convolutions stay float32."""
    parity = Parity(shared, "siamrpnpp_alex")
    network = fold(filled(VARIANTS["alex"].network(), adjusted(parity, parity.state())))  # type: ignore[arg-type]
    assert isinstance(network, MultiLevelNetwork)
    crops = [np.ascontiguousarray(parity[f"crop.{index}_bgr_hwc"][..., ::-1]) for index in (0, 1)]
    exact = TorchEngine(Comparison(network)).run(crops[1], *TorchEngine(Template(network)).keep(crops[0]))
    dtype = PRECISIONS[precision]
    kernels = TorchEngine(Template(network), dtype=dtype).keep(crops[0])
    half = TorchEngine(Comparison(network), dtype=dtype).run(crops[1], *kernels)
    assert kernels[0].dtype == dtype
    for ours, full in zip(half, exact, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, full, atol=tolerance * full.std(), rtol=0)


def test_what_is_rounded_last_keeps_its_weights() -> None:
    head = FusedHead("rpn", 10, 20, weighted=True)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.to(torch.bfloat16)
    kept = {name for name, value in head.state_dict().items() if value.dtype == torch.float32}
    assert kept == {"cls_weight", "loc_weight"} | {
        f"rpn{level}.{branch}.head.3.{part}" for level in (2, 3, 4) for branch in ("cls", "loc") for part in ("weight", "bias")
    }
    assert all(torch.equal(head.state_dict()[name], before[name]) for name in kept)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SiamRPN]:
    """Builds a tracker around a network that costs next to nothing and finds what it looks for; the anchors of ratio 1 are the third."""

    def build(loc: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0), **params: object) -> SiamRPN:
        variant = replace(VARIANTS["r50"], network=lambda: ToyNetwork(5, 2, loc))
        monkeypatch.setitem(VARIANTS, "r50", variant)
        tracker = create("siamrpn++", weights=variant.network().state_dict(), **params)
        assert isinstance(tracker, SiamRPN)
        return tracker

    return build


IMAGE = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
BOX = np.array([40.0, 30.0, 48.0, 40.0])


def test_settings_reach_the_procedure(toy: Callable[..., SiamRPN]) -> None:
    tracker = toy(loc=(0.0, 0.0, 0.3, 0.3), lr=0.0, penalty_k=0.2, window_influence=0.1, temperature=4.0)
    tracker.init(IMAGE, BOX)
    np.testing.assert_allclose(tracker.update(IMAGE).box_xywh[2:], BOX[2:])  # lr = 0 keeps the size
    assert tracker._settings == Settings(penalty_k=0.2, window_influence=0.1, lr=0.0, temperature=4.0)


def test_the_published_settings_are_the_default(toy: Callable[..., SiamRPN]) -> None:
    assert toy()._settings == VARIANTS["r50"].settings


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e4])
def test_networks_that_overflow_do_no_harm(toy: Callable[..., SiamRPN], value: float) -> None:
    tracker = toy()
    parameter = next(iter(tracker._template._network.parameters()))
    tracker.init(IMAGE, BOX)
    before = tracker.update(IMAGE)
    comparison = tracker._comparison
    tracker._comparison = Broken(comparison, value)  # type: ignore[assignment]
    for _ in range(2):
        lost = tracker.update(IMAGE)
        assert np.isfinite(lost.box_xywh).all()
        assert (lost.box_xywh[2:] > 0).all()
        assert 0.0 <= lost.score <= 1.0
    tracker._comparison = comparison
    after = tracker.update(IMAGE)
    assert iou(after.box_xywh, before.box_xywh) > 0.8
    assert after.score > 0.5
    assert torch.isfinite(parameter).all()


class Broken:
    """An engine whose boxes are one strange value."""

    def __init__(self, engine: engine.Engine, value: float) -> None:
        self._engine, self._value = engine, value

    def run(self, *inputs: np.ndarray | Tensor) -> list[np.ndarray]:
        scores, loc = self._engine.run(*inputs)
        return [scores, np.full_like(loc, self._value)]


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"variant out of r50, .*, got 'alexnet'; did you mean 'alex'\?"):
        create("siamrpn++", variant="alexnet")


def test_an_unknown_precision_is_refused(toy: Callable[..., SiamRPN]) -> None:
    with pytest.raises(ConfigError, match=r"precision out of float32, .*, got 'int8'"):
        toy(precision="int8")


def test_weights_of_another_variant_are_refused() -> None:
    state = VARIANTS["alex"].network().state_dict()
    with pytest.raises(WeightsError, match=r"siamrpn\+\+-mobilev2.*these are weights of siamrpn\+\+-alex"):
        create("siamrpn++", variant="mobilev2", weights=state)
    del state["rpn_head.loc.head.3.bias"]
    with pytest.raises(WeightsError, match=r"lacks 'rpn_head\.loc\.head\.3\.bias'"):
        create("siamrpn++", variant="alex", weights=state)


def test_training_checkpoints_of_several_gpus_load() -> None:
    state = {f"module.{name}": value for name, value in VARIANTS["alex"].network().state_dict().items() if "num_batches" not in name}
    tracker = create("siamrpn++", variant="alex_otb", weights={"epoch": 20, "state_dict": state})
    tracker.init(IMAGE, BOX)
    assert np.isfinite(tracker.update(IMAGE).box_xywh).all()
