"""Whether everything that runs on a GPU keeps its tensors together there, on a GPU that is pretended (see `tests.pretend_gpu`).

What it gives must be what the CPU gives. How often the host waits for the device is part of the contract: each wait leaves it idle.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftrack import engine
from sftrack.config import resolve_device
from sftrack.contracts import Estimate, Tracker
from sftrack.engine import TorchEngine
from sftrack.errors import ConfigError
from sftrack.feat2seg import Segmenter
from sftrack.feat2seg_net import Feat2Seg
from sftrack.pipeline import SFTracker
from sftrack.seg2box import BoxEvidence, BoxReader, Seg2Box
from sftrack.spectral import OnlineSFSeg, SFSegPlusPlus, fit, focal_dice_loss, power_step, sfseg
from sftrack.spectral.fitting import FitSettings
from sftrack.trackers import create, factory_of, nanotrack, siamban, siamrpn
from sftrack.trackers.discriminative.dimp_net import DiMPNet
from sftrack.trackers.discriminative.iou_net import IoUNet
from sftrack.trackers.discriminative.resnet import Features, resnet18
from sftrack.trackers.siamese.head import MultiLevelNetwork, Neck
from sftrack.weights.bundled import bundled_path, load_network
from sftrack.workers import TorchWorkers
from tests.conftest import moving_square
from tests.pretend_gpu import OnDevice, PretendGPU, pretend_gpu
from tests.stand_ins import SmallBackbone
from tests.test_siamrpn import Coarse

FRAMES, BOXES = moving_square(3, (192, 128))
DEVICES = ("cuda", "mps")


@pytest.fixture
def gpu() -> Iterator[PretendGPU]:
    with pretend_gpu() as pretended:
        yield pretended


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# What the instrument itself finds.


@pytest.mark.parametrize(
    "mistake",
    [
        lambda here, there: here + there,
        lambda here, there: here @ there.T,
        lambda here, there: torch.stack([there[0, 0], here[0, 0]]),
        lambda here, there: here[torch.zeros(1, dtype=torch.long, device="cuda")],
        lambda _here, there: nn.Linear(3, 3)(there),
        lambda here, _there: nn.Linear(3, 3).to("cuda")(here),
        lambda _here, there: torch.where(torch.ones(3, dtype=torch.bool), there, there),
        lambda _here, there: there.scatter_add_(0, torch.zeros(3, 3, dtype=torch.long), there),
    ],
)
def test_tensors_of_both_places_do_not_meet(gpu: PretendGPU, mistake: Callable[[Tensor, Tensor], Tensor]) -> None:
    for inference in (False, True):
        with torch.inference_mode(inference), pytest.raises(RuntimeError, match="same device"):
            mistake(torch.ones(3, 3), torch.ones(3, 3, device="cuda"))


def test_tensors_of_the_device_are_not_for_numpy(gpu: PretendGPU) -> None:
    there = torch.ones(2).to("cuda")
    for way in (Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
            way(there)
    np.testing.assert_array_equal(there.cpu().numpy(), [1.0, 1.0])


def test_generators_stay_on_their_side(gpu: PretendGPU) -> None:
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())


def test_types_must_agree(gpu: PretendGPU) -> None:
    with pytest.raises(RuntimeError, match=r"dtype|same"):
        nn.Linear(3, 3).to("cuda", torch.float16)(torch.ones(1, 3, device="cuda"))


def test_what_a_real_device_takes_is_taken(gpu: PretendGPU) -> None:
    there = torch.arange(6.0, device="cuda").reshape(2, 3)
    there[0] = torch.ones(3)
    there[:, 1:] *= torch.tensor(2.0)
    assert there.device == torch.device("cuda", 0)
    assert there.is_cuda
    assert there[torch.tensor([1])].tolist() == [[3.0, 8.0, 10.0]]
    assert there.to(torch.float16).sum().item() == 26.0
    variable = there.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(variable.square().sum(), variable)
    assert isinstance(gradient, OnDevice)
    np.testing.assert_array_equal(gradient.cpu(), 2 * there.cpu())


def test_waits_are_counted(gpu: PretendGPU) -> None:
    there = image(4, 4).to("cuda")
    gpu.waits.clear()
    assert there.sum() > 0
    there.cpu()
    there[there > 0.5]
    there.nonzero()
    image(3).to("cuda")
    image(3).pin_memory().to("cuda", non_blocking=True)
    assert gpu.waits.total() == 5, gpu.waits


def test_a_buffer_that_is_written_to_too_early_is_found(gpu: PretendGPU) -> None:
    buffer = torch.zeros(3, pin_memory=True)
    there = buffer.to("cuda", non_blocking=True)
    there.cpu()
    buffer.fill_(1.0)  # the copy is done
    there = buffer.to("cuda", non_blocking=True)
    buffer.fill_(2.0)
    with pytest.raises(RuntimeError, match="page-locked"):
        there.cpu()


def test_tensors_of_other_streams_are_waited_for(gpu: PretendGPU) -> None:
    stream = torch.cuda.Stream()
    there = image(3).pin_memory().to("cuda", non_blocking=True)
    with torch.cuda.stream(stream), pytest.raises(RuntimeError, match="stream"):
        there + 1.0
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        later = there + 1.0
    with pytest.raises(RuntimeError, match="stream"):
        later.cpu()
    with torch.cuda.stream(stream):
        later.cpu()
    later.cpu()


def test_a_device_without_float64_refuses_it() -> None:
    with pretend_gpu("mps"):
        there = torch.ones(2, device="mps")
        with pytest.raises(TypeError, match="float64"):
            there.double()


# The trackers.


class Steps(nn.Module):
    """Maps of the shapes of ResNet-50's, of few operations."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.ModuleList(nn.Conv2d(3, width, 1) for width in (64, 256, 512, 1024))

    def drop_unused(self) -> None:
        """Nothing is."""

    def forward(self, images_rgb: Tensor) -> Features:
        steps = zip((2, 4, 8, 16), self.expand, strict=True)
        return Features(*(functional.relu(expand(functional.avg_pool2d(images_rgb / 255.0 - 0.4, side))) for side, expand in steps))


def on_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's sums round otherwise, and random networks are undecided between places."""
    monkeypatch.setattr(engine, "has_onnxruntime", lambda: False)


def nano(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    on_pytorch(monkeypatch)
    version = nanotrack.V2 if name == "nanotrack-v2" else nanotrack.V3
    return {"weights": version.network().state_dict()}


def rpn(_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    on_pytorch(monkeypatch)

    def network() -> MultiLevelNetwork:
        head = siamrpn.three_levels(Coarse(), weighted=True)  # type: ignore[arg-type]
        return head

    monkeypatch.setitem(siamrpn.VARIANTS, "r50", replace(siamrpn.VARIANTS["r50"], network=network))
    return {"weights": network().state_dict()}


def ban(_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    on_pytorch(monkeypatch)

    def network() -> MultiLevelNetwork:
        return MultiLevelNetwork(Coarse(), Neck(Coarse.widths), siamban.BoxAdaptiveHead(), "head")

    monkeypatch.setitem(siamban.VARIANTS, "r50", replace(siamban.VARIANTS["r50"], network=network))
    return {"weights": network().state_dict()}


BRIEF = {"train_skipping": 2, "refinement_iterations": 2, "random_boxes": 2}


class SmallATOMNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = SmallBackbone()
        self.bb_regressor = IoUNet((96, 96))


def small_atom(_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sftrack.trackers.atom.ATOMNet", SmallATOMNet)
    return {"weights": SmallATOMNet().state_dict(), "crop_side": 192, "init_iterations": 6, "target_not_found_threshold": 0.0, **BRIEF}


def small_dimp(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    tracker: Any = factory_of(name)
    variant = replace(tracker.variant, backbone=SmallBackbone, channels=32, blocks=1)
    monkeypatch.setattr(tracker, "variant", variant)
    network = DiMPNet(SmallBackbone(), 32, 1, variant.optimizer({}))  # type: ignore[arg-type]
    settings = {"crop_side": 192, **BRIEF, "target_not_found_threshold": 0.0}
    return {"weights": network.state_dict(), **settings}


def small_d3s(_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sftrack.trackers.d3s.resnet50", SmallBackbone)
    monkeypatch.setattr("sftrack.trackers.discriminative.segmentation.resnet50", Steps)
    from sftrack.trackers.discriminative.segmentation import SegmentationNetwork

    settings = {"init_iterations": 6, "train_skipping": 2}
    return {"weights": SegmentationNetwork().state_dict(), "backbone_weights": SmallBackbone().state_dict(), **settings}


Build = Callable[[str, pytest.MonkeyPatch], dict[str, Any]]
SIAMESE: dict[str, Build] = {"nanotrack-v2": nano, "nanotrack-v3": nano, "siamrpn++": rpn, "siamban": ban}
LEARNING: dict[str, Build] = {"atom18": small_atom, "dimp18": small_dimp, "prdimp18": small_dimp, "d3s": small_d3s}
TRACKERS = SIAMESE | LEARNING


def follow(tracker: Tracker, frames: int = len(FRAMES)) -> list[Estimate]:
    tracker.init(FRAMES[0], BOXES[0])
    return [tracker.update(frame) for frame in FRAMES[1:frames]]


def values(estimates: list[Estimate]) -> NDArray[np.float64]:
    return np.array([[*estimate.box_xywh, estimate.score] for estimate in estimates])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TRACKERS)
def test_trackers_do_on_a_device_what_they_do_on_the_cpu(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    params = TRACKERS[name](name, monkeypatch)
    expected = follow(create(name, **params))
    with pretend_gpu(device) as gpu:
        tracker = create(name, device=device, **params)
        found = follow(tracker)
    assert gpu.waits, "nothing was done on the device"
    np.testing.assert_allclose(values(found), values(expected), atol=2e-3)


@pytest.mark.parametrize(
    ("device", "said"), [("gpu", "expected the device auto, cpu, cuda or mps, got 'gpu'"), ("cuda", "finds none here")]
)
@pytest.mark.parametrize("name", TRACKERS)
def test_a_device_that_is_not_here_is_refused(name: str, device: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=said):
        create(name, device=device, **TRACKERS[name](name, monkeypatch))


def test_auto_is_a_device_for_one_tracker_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    params = nano("nanotrack-v3", monkeypatch)
    with pretend_gpu() as gpu:
        follow(create("nanotrack-v3", device="auto", **params), 2)
    assert gpu.waits, "nothing was done on the device"


@pytest.mark.parametrize("name", TRACKERS)
def test_the_host_waits_as_rarely_as_it_can(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = TRACKERS[name](name, monkeypatch)
    with pretend_gpu() as gpu:
        tracker = create(name, device="cuda", **params)
        tracker.init(FRAMES[0], BOXES[0])
        counts = []
        for frame in FRAMES[1:]:
            gpu.waits.clear()
            tracker.update(frame)
            counts.append(dict(gpu.waits))
    # A Siamese network says all at once. The others look for the target first, and then for its box or mask there.
    allowed = 1 if name in SIAMESE else 2
    assert counts == [{"copy to the CPU": allowed}] * len(counts)


@pytest.mark.parametrize("name", ["nanotrack-v3", "siamban"])
def test_half_precision_on_the_device_is_that_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = TRACKERS[name](name, monkeypatch)
    expected = follow(create(name, precision="float16", **params), 2)
    with pretend_gpu():
        found = follow(create(name, device="cuda", precision="float16", **params), 2)
    np.testing.assert_allclose(values(found), values(expected), atol=2e-3)


def test_the_backbone_of_the_learning_trackers(gpu: PretendGPU) -> None:
    torch.manual_seed(0)
    network, pictures = resnet18().eval(), 255.0 * image(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(pictures)
        for found, wanted in zip(network.to("cuda")(pictures.to("cuda")), expected, strict=True):
            np.testing.assert_allclose(found.cpu(), wanted, rtol=1e-5)


# What the pipeline runs there. (`bundled` remembers what it made, which must not outlast a pretended device.)


def segmenter_on(device: str) -> Segmenter:
    return Segmenter(load_network(Feat2Seg(), bundled_path("feat2seg")), device)


def box_reader_on(device: str) -> BoxReader:
    return BoxReader(load_network(Seg2Box(), bundled_path("seg2box")), device)


class Sample(nn.Module):
    """Takes a picture and a vector, gives maps and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, picture: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.conv(picture.permute(2, 0, 1)[None].to(self.conv.weight.dtype)) * factor.reshape(1, -1, 1, 1)
        return maps, maps.flatten(1).argmax(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_engines_wait_once_per_run_and_take_arrays_that_change_at_once(gpu: PretendGPU, dtype: torch.dtype) -> None:
    picture, factor = FRAMES[0][:16, :24].copy(), image(4).to(dtype).numpy()
    expected = TorchEngine(Sample(), dtype=dtype).run(picture, factor)
    made = TorchEngine(Sample(), "cuda", dtype)
    gpu.waits.clear()
    kept = made.keep(picture, factor)
    picture_then = picture.copy()
    picture[:] = 0  # the caller may reuse its array
    assert all(isinstance(output, OnDevice) for output in kept)
    assert not gpu.waits
    for output, wanted in zip(made.run(picture_then, factor), expected, strict=True):
        assert output.dtype == wanted.dtype
        np.testing.assert_array_equal(output, wanted)
    assert dict(gpu.waits) == {"copy to the CPU": 1}
    np.testing.assert_array_equal(kept[0].float().cpu(), expected[0])


@pytest.mark.parametrize("device", DEVICES)
def test_segmentations_of_boxes(device: str) -> None:
    crop, boxes = FRAMES[0][:64, :64], np.array([[12.0, 10.0, 32.0, 32.0], [50.0, 40.0, 20.0, 30.0], [5.0, 5.0, 60.0, 60.0]])
    frame, known = np.array([0.0, 0.0, 56.0, 64.0]), {1: image(64, 64).numpy()}
    plain = segmenter_on("cpu")
    expected = plain.decode(plain.encode(crop), boxes, frame, known=known)
    workers = TorchWorkers(2, "test")
    try:
        with pretend_gpu(device) as gpu:
            segmenter = segmenter_on(device)
            gpu.waits.clear()
            found = segmenter.decode(segmenter.encode(crop), boxes, frame, workers, known)
    finally:
        workers.close()
    assert gpu.waits["copy to the CPU"]
    np.testing.assert_allclose(found.masks, expected.masks, atol=1e-5)
    np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_boxes_of_segmentations(device: str) -> None:
    evidence = BoxEvidence(*image(4, 96, 96).numpy())
    expected = box_reader_on("cpu").read(evidence)
    with pretend_gpu(device):
        box, score = box_reader_on(device).read(evidence)
    np.testing.assert_allclose(box, expected[0], atol=1e-4)
    assert score == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_spectral_functions(device: str, batch: tuple[int, ...]) -> None:
    s, f, x = image(3, *batch, 6, 12, 14)
    with pretend_gpu(device):
        s_there, f_there, x_there = (volume.to(device) for volume in (s, f, x))
        pairs = [
            (power_step(x_there, s_there, [f_there, s_there], p=0.2, alpha=1.0), power_step(x, s, [f, s], p=0.2, alpha=1.0)),
            (sfseg(s_there, f_there, x0=x_there), sfseg(s, f, x0=x)),
            (sfseg(s_there, mode="official"), sfseg(s, mode="official")),
        ]
        for found, expected in pairs:
            assert isinstance(found, OnDevice)
            np.testing.assert_allclose(found.cpu(), expected, atol=1e-5)
        with pytest.raises(ValueError, match="device"):
            sfseg(s_there, f)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shared", [True, False])
def test_learned_combination_forward_backward_and_in_a_stream(device: str, shared: bool) -> None:
    channels, truth = image(1, 3, 4, 12, 14), (image(1, 4, 12, 14) > 0.5).float()
    model = SFSegPlusPlus(3, shared)
    focal_dice_loss(model(channels), truth).backward()
    online = OnlineSFSeg.from_model(model.eval())
    with pretend_gpu(device):
        there = SFSegPlusPlus(3, shared).to(device)
        focal_dice_loss(there(channels.to(device)), truth).backward()
        for found, wanted in zip(there.parameters(), model.parameters(), strict=True):
            assert isinstance(found.grad, OnDevice)
            np.testing.assert_allclose(found.grad.cpu(), wanted.grad, atol=1e-6)
        streamed = OnlineSFSeg.from_model(there.eval())
        for frame in channels[0].transpose(0, 1):
            np.testing.assert_allclose(streamed.push(frame.numpy()), online.push(frame.numpy()), atol=1e-5)


def test_weights_are_learned_on_a_device() -> None:
    video, settings = (image(3, 5, 12, 14), (image(5, 12, 14) > 0.5).float()), FitSettings(epochs=2)
    model = SFSegPlusPlus(3)
    expected = fit(model, [video], settings=settings)
    with pretend_gpu():
        there = SFSegPlusPlus(3).to("cuda")
        found = fit(there, [video], settings=settings)
        np.testing.assert_allclose(there.w_s.detach().cpu(), model.w_s.detach(), atol=1e-4)
    np.testing.assert_allclose(found.training_loss, expected.training_loss, atol=1e-4)


def test_the_whole_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("nanotrack-v2", "d3s")  # a box alone, and a mask too
    params = {name: TRACKERS[name](name, monkeypatch) for name in names}

    def run(chosen: str) -> NDArray[np.float64]:
        channels = {name: create(name, device=chosen, **params[name]) for name in names}
        with SFTracker(channels, device=chosen, segmenter=segmenter_on(chosen), box_reader=box_reader_on(chosen)) as tracker:
            tracker.init(FRAMES[0], BOXES[0])
            results = [tracker.update(frame, with_mask=True) for frame in FRAMES[1:]]
            streams = {channel.stream for channel in tracker._pool.channels}
        assert len(streams) == (2 if chosen == "cuda" else 1)
        assert not any(channel.error for result in results for channel in result.channels)
        return np.array([[*result.box_xywh, result.score, result.mask.mean()] for result in results if result.mask is not None])

    expected = run("cpu")
    with pretend_gpu():
        assert resolve_device("auto") == "cuda"
        found = run("cuda")
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_tracker_that_follows_another_takes_its_streams(gpu: PretendGPU) -> None:
    """PyTorch has 32 of them, and each keeps the memory that its channels ever needed."""
    made = []
    for _ in range(3):
        trackers = {"flow": create("flow"), "template": create("template")}
        with SFTracker(trackers, device="cuda", segmenter=segmenter_on("cpu"), box_reader=box_reader_on("cpu")) as tracker:
            made.append([channel.stream for channel in tracker._pool.channels])
    assert made[0] == made[1] == made[2]
    assert len(set(made[0])) == 2
