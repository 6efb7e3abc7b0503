"""NanoTrack against the fixtures of the original implementation, stage by stage and over whole traces, and what its users rely on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftrack.engine import PRECISIONS, OnnxEngine, TorchEngine, fastest_engine, fold
from sftrack.errors import ConfigError, WeightsError
from sftrack.trackers import create, factory_of
from sftrack.trackers.nanotrack import V2, V3
from sftrack.trackers.siamese.nano import NanoNetwork
from sftrack.trackers.siamese.runner import Comparison, EngineBuilder, Template, Variant
from sftrack.weights.checkpoints import read_checkpoint
from tests.parity import Parity, captured
from tests.siamese_parity import check_track

FIXTURES = {"nanotrack-v2": "nanotrack_v2", "nanotrack-v3": "nanotrack"}
HEAD_STAGES = {
    "nanotrack-v2": ("corr_pw_cls", "corr_pw_reg", "cls_pw_tower", "bbox_pw_tower"),
    "nanotrack-v3": ("corr_pw_cls", "corr_dw_cls", "down_cls", "corr_pw_reg", "corr_dw_reg", "down_reg", "cls_tower", "bbox_tower"),
}


@dataclass(frozen=True)
class Case:
    """A version with its fixtures and its real weights."""

    version: Variant
    parity: Parity
    weights: Path

    def random_network(self) -> NanoNetwork:
        network = self.version.network()
        network.load_state_dict(self.parity.state())
        return network.eval()

    def real_network(self) -> NanoNetwork:
        network = self.version.network()
        network.load_state_dict(read_checkpoint(self.weights).tensors)
        return network.eval()


@pytest.fixture(scope="module", params=[V2, V3], ids=lambda version: version.weights)
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    version: Variant = request.param
    name = version.weights.replace("-", "")
    return Case(version, Parity(shared, FIXTURES[version.weights]), shared / "weights" / "nanotrack" / f"{name}.pth")


def on_pytorch(network: torch.nn.Module, examples: list[Tensor], device: str, dtype: torch.dtype) -> TorchEngine:
    return TorchEngine(network, device, dtype)


def on_onnxruntime(network: torch.nn.Module, examples: list[Tensor], device: str, dtype: torch.dtype) -> OnnxEngine:
    return OnnxEngine(network, examples)


ENGINES: dict[str, EngineBuilder] = {"pytorch": on_pytorch, "onnxruntime": on_onnxruntime}


def test_names_shapes_and_order_are_the_official_ones(case: Case) -> None:
    ours = {name: tuple(value.shape) for name, value in case.version.network().state_dict().items()}
    assert list(ours.items()) == list(case.parity.shapes().items())


@torch.inference_mode()
@pytest.mark.parametrize(("part", "side"), [("template", 127), ("search", 255)])
@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_every_block_of_the_backbone(case: Case, part: str, side: int, folded: bool) -> None:
    network = case.random_network()
    if folded:
        fold(network)
    features = network.backbone.features
    seen, hooks = captured(features, [str(index) for index in range(len(features))])
    network.backbone(case.parity.input(f"stage.image.{part}", (1, 3, side, side), "uniform"))
    for index in range(len(hooks)):
        case.parity.check(f"stage.features{index}.{part}", seen[str(index)])
    assert len({name.split(".")[1] for name in case.parity.names("stage.features")}) == len(hooks)


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_every_stage_of_the_head(case: Case, folded: bool) -> None:
    network, parity, stages = case.random_network(), case.parity, HEAD_STAGES[case.version.weights]
    if folded:
        fold(network)
    width = network.backbone.width
    template, search = (parity.input(f"stage.head.{part}.in", (1, width, side, side)) for part, side in (("template", 8), ("search", 16)))
    seen, _ = captured(network.ban_head, list(stages))
    cls, log_distances = network.ban_head(network.ban_head.kernels(template), search)
    for name in stages:
        parity.check(f"stage.head.{name}", seen[name])
    parity.check("stage.head.cls", cls)
    parity.check("stage.head.log_loc", log_distances)
    np.testing.assert_allclose(log_distances.exp(), parity["stage.head.loc"], rtol=1e-3)
    assert {name.split("__")[0].split(".")[2] for name in parity.names("stage.head.")} == {*stages, "cls", "log_loc", "loc"}


@torch.inference_mode()
def test_the_real_network_on_real_crops(case: Case) -> None:
    network, parity = case.real_network(), case.parity
    template, search = (torch.from_numpy(parity[f"crop.{index}_bgr_hwc"]).permute(2, 0, 1)[None].float() for index in (0, 1))
    of_template, of_search = network.backbone(template), network.backbone(search)
    parity.check("real.template_features", of_template)
    parity.check("real.search_features", of_search)
    cls, log_distances = network.ban_head(network.ban_head.kernels(of_template), of_search)
    parity.check("real.cls", cls)
    parity.check("real.loc", log_distances.exp())


@torch.inference_mode()
@pytest.mark.parametrize("engine", ENGINES)
def test_the_engines_agree_with_the_real_network(case: Case, engine: str) -> None:
    network, parity = case.real_network(), case.parity
    template = torch.from_numpy(parity["crop.0_bgr_hwc"]).permute(2, 0, 1)[None].float()
    kernels = network.ban_head.kernels(network.backbone(template))
    crop_rgb = np.ascontiguousarray(parity["crop.1_bgr_hwc"][..., ::-1])
    build = ENGINES[engine]
    comparison = build(Comparison(network), [torch.from_numpy(crop_rgb), *kernels], "cpu", torch.float32)  # type: ignore[arg-type]
    scores, log_distances = comparison.run(crop_rgb, *kernels)
    expected = torch.from_numpy(parity["real.cls"]).softmax(1)[0, 1].flatten()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(log_distances), parity["real.loc"].reshape(4, -1), rtol=1e-4)
    assert scores.dtype == log_distances.dtype == np.float32


@pytest.mark.parametrize("trace", ["corner", "centre"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_trace(case: Case, engine: str, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = factory_of(case.version.weights)(weights=case.weights, build=ENGINES[engine])
    check_track(tracker, case.parity, trace, monkeypatch)


@torch.inference_mode()
@pytest.mark.parametrize(("precision", "score_error", "distance_error"), [("float16", 0.01, 0.01), ("bfloat16", 0.05, 0.1)])
def test_half_precision_stays_close(case: Case, precision: str, score_error: float, distance_error: float) -> None:
    """What a GPU computes in half precision, in the same precision on the CPU; exact boxes of whole traces cannot be expected of it."""
    parity, network = case.parity, case.real_network()
    dtype = PRECISIONS[precision]
    crops_rgb = [_rgb(parity[f"crop.{index}_bgr_hwc"]) for index in (0, 1)]
    kernels = TorchEngine(Template(network), dtype=dtype).keep(crops_rgb[0])
    scores, log_distances = TorchEngine(Comparison(network), dtype=dtype).run(crops_rgb[1], *kernels)
    expected = torch.from_numpy(parity["real.cls"]).softmax(1)[0, 1].flatten().numpy()
    sure = expected > 0.5
    assert sure.sum() >= 3
    np.testing.assert_allclose(scores, expected, atol=score_error)
    np.testing.assert_allclose(np.exp(log_distances[:, sure]), parity["real.loc"].reshape(4, -1)[:, sure], rtol=distance_error)
    assert scores.dtype == log_distances.dtype == np.float32


def _rgb(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image_bgr[..., ::-1])


def state_of(version: Variant, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return version.network().state_dict()


@pytest.mark.parametrize("version", [V2, V3], ids=lambda version: version.weights)
def test_create_takes_a_state_dict_and_settings(version: Variant) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    tracker = create(version.weights, weights=state_of(version), penalty_k=0.1, window_influence=0.4, lr=0.0)
    tracker.init(image, np.array([30.0, 20.0, 40.0, 30.0]))
    estimate = tracker.update(image)
    np.testing.assert_allclose(estimate.box_xywh[2:], [40.0, 30.0])  # lr = 0 keeps the size
    assert 0.0 <= estimate.score <= 1.0


def test_channels_are_told_apart() -> None:
    """The network was trained on BGR, images are RGB: a tracker that mixed them up would not see that red and blue were swapped."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[40:80, 40:80, 0] = 255
    state = state_of(V2)
    network = _filled(V2, state)
    comparison = Comparison(network)
    seen, _ = captured(network.backbone.features, ["0.0"])
    network.backbone.features[0][0].weight.data.zero_()
    network.backbone.features[0][0].weight.data[:, 2, 1, 1] = 1.0  # the third channel of BGR is red
    kernels = [torch.zeros(1, 64, 48), torch.zeros(1, 64, 48)]
    with torch.inference_mode():
        comparison(torch.from_numpy(image), *kernels)
    assert seen["0.0"].max() == pytest.approx(255.0, abs=1.0)


def _filled(version: Variant, state: dict[str, Tensor]) -> NanoNetwork:
    network = version.network()
    network.load_state_dict(state)
    return network.eval()


def test_weights_of_the_other_version_are_refused() -> None:
    with pytest.raises(WeightsError, match="nanotrack-v2"):
        create("nanotrack-v3", weights=state_of(V2))


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'window_influence'"):
        create("nanotrack-v2", window_inluence=0.5)


@pytest.mark.parametrize(("name", "value"), [("penalty_k", -1.0), ("window_influence", 2.0), ("precision", "int8")])
def test_a_setting_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"expected {name}"):
        create("nanotrack-v2", weights=state_of(V2), **{name: value})


def test_exploding_weights_do_no_harm() -> None:
    """Distances are exponentials: they overflow easily with weights that were never trained."""
    state = {name: value * 1e4 if name.startswith("ban_head.bbox_pred") else value for name, value in state_of(V2).items()}
    tracker = create("nanotrack-v2", weights=state)
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    tracker.init(image, np.array([30.0, 20.0, 40.0, 30.0]))
    for _ in range(3):
        assert np.isfinite(tracker.update(image).box_xywh).all()


def test_the_fastest_engine_is_used_on_the_cpu() -> None:
    network = _filled(V2, state_of(V2))
    examples = [torch.zeros(255, 255, 3, dtype=torch.uint8), torch.zeros(1, 64, 48), torch.zeros(1, 64, 48)]
    assert isinstance(fastest_engine(Comparison(network), examples), OnnxEngine)
