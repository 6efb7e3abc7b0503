"""Training on tiny made data: every stage runs, a seed decides everything, and a stopped run goes on as if nothing had happened."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftrack.boxes import box_of_mask, center_xy, clip_box, iou
from sftrack.combine import CombineNet
from sftrack.config import ChannelConfig
from sftrack.errors import SourceError, WeightsError
from sftrack.feat2seg import Segmenter
from sftrack.feat2seg_net import Feat2Seg
from sftrack.mobilenet_v3 import MobileNetV3
from sftrack.seg2box import SIZE_PX, Seg2Box
from sftrack.training import __main__ as command
from sftrack.training import clips, feat2seg, heads, record
from sftrack.training.loop import Batch, FitSettings, fit
from sftrack.training.photos import BoxNoise, PhotoSet, _add_strings, draw_sample, make_sample
from sftrack.window import rasterise
from tests.targets import Scene, straight_clip, texture

CHANNELS = (ChannelConfig("template", "template"), ChannelConfig("colour", "colour"))


def write_rgb(path: Path, image_rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, content = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    assert encoded
    path.write_bytes(content.tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 photos with one object each (and a speck too small to learn from), and two backgrounds, in the layout that training expects."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(42):
        scene = Scene(object_wh=(40 + number % 5 * 6, 60 - number % 4 * 8), size_wh=(160, 120))
        image, mask = scene.render((60.0 + number, 60.0))
        labels = mask.astype(np.uint8)
        labels[:4, :4] = 2
        write_rgb(folder / "train" / "images" / f"p{number:02d}.jpg", image)
        write_rgb(folder / "train" / "masks" / f"p{number:02d}.png", np.repeat(labels[..., None], 3, axis=2))
        rows.append({"name": f"p{number:02d}", "source": "made"})
    with (folder / "train" / "index.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["name", "source"])
        writer.writeheader()
        writer.writerows(rows)
    for number in range(2):
        write_rgb(folder / "photos" / f"b{number}.jpg", texture((200, 150), number, 0, 200))
    return folder


@pytest.fixture(scope="module")
def photos(data: Path) -> PhotoSet:
    return PhotoSet(data, validation=False)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- pictures and boxes ---------------------------------------------------------------------------------------------------------------


def test_validation_photos_are_never_trained_on(data: Path, photos: PhotoSet) -> None:
    held_out = PhotoSet(data, validation=True)
    assert (len(photos.pictures), len(held_out.pictures)) == (39, 3)
    training = {picture.image_rgb.tobytes() for picture in photos.pictures}
    assert not training & {picture.image_rgb.tobytes() for picture in held_out.pictures}


def test_specks_are_left_out_and_every_object_can_be_drawn(photos: PhotoSet) -> None:
    assert {item.label for item in photos.items} == {1}
    assert photos.probabilities.sum() == pytest.approx(1.0)
    assert photos.probabilities.min() > 0.0


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "index.csv").write_text("name,source\nnone,made\nalso,made\n")
    with pytest.raises(SourceError, match=r"also\.png"):
        PhotoSet(tmp_path, validation=False)


def test_a_seed_gives_the_same_sample_and_another_one_another(photos: PhotoSet) -> None:
    def draw(seed: int) -> tuple[np.ndarray, ...]:
        sample = draw_sample(photos, np.random.default_rng(seed), BoxNoise(1.0), 64)
        return sample.image_rgb, sample.box_image, sample.visible, sample.mask

    for one, again in zip(draw(3), draw(3), strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(draw(3)[0], draw(4)[0])


def test_samples_show_a_box_about_the_object(photos: PhotoSet) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sample = draw_sample(photos, rng, BoxNoise(0.0), 64)
        assert sample.image_rgb.shape == (64, 64, 3)
        assert sample.image_rgb.dtype == np.uint8
        for image in (sample.box_image, sample.visible, sample.mask):
            assert image.shape == (64, 64)
            assert image.dtype == np.float32
            assert 0.0 <= image.min() <= image.max() <= 1.0
        # an exact box: the whole object in it, touching all its sides
        inside = sample.box_image > 0.5
        ys, xs = np.nonzero(sample.mask > 0.5)
        assert inside[ys, xs].all()
        assert inside.sum() == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)


def test_strings_belong_to_the_object_and_widen_its_box() -> None:
    image, alpha = texture((96, 96), 1, 0, 200), np.zeros((96, 96), np.float32)
    alpha[40:60, 30:50] = 1.0
    before = image.copy()
    for seed in range(5):
        drawn, cover = _add_strings(image, alpha, np.random.default_rng(seed))
        new = cover > alpha
        assert new.any()
        assert (cover[alpha > 0] == 1.0).all()
        assert (drawn[~new] == image[~new]).mean() > 0.9, "only the strings and what they cross changes"
        assert box_of_mask(cover > 0.5)[2:].prod() > box_of_mask(alpha > 0.5)[2:].prod()
    np.testing.assert_array_equal(image, before)


def test_without_augmentation_the_object_is_in_the_middle_of_the_crop(photos: PhotoSet) -> None:
    sample = make_sample(photos, photos.items[5], np.random.default_rng(0), BoxNoise(0.0), 64, augment=False)
    assert sample is not None
    ys, xs = np.nonzero(sample.mask > 0.5)
    np.testing.assert_allclose([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2], 31.5, atol=1.5)


def errors_of(noise: BoxNoise, count: int = 4000) -> np.ndarray:
    """Errors of disturbed boxes as `dx/w, dy/h, log dw, log dh`."""
    rng = np.random.default_rng(0)
    box = np.array([30.0, 40.0, 20.0, 50.0])
    disturbed = np.array([noise.apply(box, rng) for _ in range(count)])
    shift = (center_xy(disturbed) - center_xy(box)) / box[2:]
    return np.concatenate([shift, np.log(disturbed[:, 2:] / box[2:])], axis=1)


def test_no_noise_leaves_the_box_exact() -> None:
    np.testing.assert_allclose(errors_of(BoxNoise(0.0), 5), 0.0, atol=1e-9)


def test_box_noise_is_centred_and_as_wide_as_it_says() -> None:
    errors = errors_of(BoxNoise(1.0))
    np.testing.assert_allclose(errors.mean(0), 0.0, atol=0.01)
    assert (errors[:, :2].std(0) > 0.07).all()
    assert (errors[:, :2].std(0) < 0.14).all()
    assert (errors[:, 2:].std(0) > 0.12).all()
    assert (errors[:, 2:].std(0) < 0.21).all()
    half = errors_of(BoxNoise(0.5))
    np.testing.assert_allclose(half.std(0) / errors.std(0), 0.5, atol=0.05)


def test_half_of_the_boxes_carry_recorded_errors_mirrored_at_random() -> None:
    recorded = np.array([[0.3, -0.2, 0.1, -0.4]])
    errors = errors_of(BoxNoise(0.01, recorded))
    real = np.abs(errors[:, 0]) > 0.2
    assert 0.45 < real.mean() < 0.55
    np.testing.assert_allclose(errors[real][:, 1:], np.repeat(recorded[:, 1:], real.sum(), axis=0), atol=1e-9)
    assert 0.4 < (errors[real][:, 0] > 0).mean() < 0.6


def test_the_curriculum_goes_from_exact_to_jittered_to_real_boxes() -> None:
    recorded = np.zeros((3, 4))
    curriculum = feat2seg.Curriculum(100, recorded=recorded)
    assert curriculum.noise_at(0).spread == 0.0
    assert curriculum.noise_at(50).spread > 0.0
    assert curriculum.noise_at(50).recorded is None
    assert curriculum.noise_at(99).recorded is recorded
    assert feat2seg.Curriculum(100).noise_at(99).recorded is None


def test_batch_n_depends_on_the_seed_and_n_alone(photos: PhotoSet) -> None:
    curriculum = feat2seg.Curriculum(4, size_px=96)

    def stream(first_step: int, seed: int = 1) -> Iterator[Batch]:
        return iter(feat2seg.SampleStream(photos, curriculum, batch=2, seed=seed, first_step=first_step))

    unbroken, resumed = list(stream(0)), list(stream(2))
    assert (len(unbroken), len(resumed)) == (4, 2)
    for whole, part in zip(unbroken[2:], resumed, strict=True):
        for name, tensor in whole.items():
            torch.testing.assert_close(part[name], tensor, atol=0, rtol=0)
    assert not torch.equal(unbroken[0]["image"], next(stream(0, seed=2))["image"])
    assert unbroken[0]["image"].shape == (2, 3, 96, 96)


# --- made-up videos -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_made_clip_tells_the_truth_about_the_object(photos: PhotoSet, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box of every frame is that of the object's visible coverage as it was laid over the picture."""
    laid: list[np.ndarray] = []
    paste = clips._paste

    def watched(behind: np.ndarray, cut: clips.CutOut, motion: clips.Motion, t: int) -> tuple[np.ndarray, np.ndarray]:
        image, alpha = paste(behind, cut, motion, t)
        laid.append(alpha)
        return image, alpha

    monkeypatch.setattr(clips, "_paste", watched)
    monkeypatch.setattr(clips, "_hide", lambda image, *rest: image)
    clip = clips.make_clip(photos, np.random.default_rng(seed), frames=10, size_wh=(160, 120))
    per_frame = len(laid) // len(clip.images_rgb)
    assert per_frame in (1, 2)
    for index, (image, box) in enumerate(zip(clip.images_rgb, clip.boxes_xywh, strict=True)):
        assert image.shape == (120, 160, 3)
        assert image.dtype == np.uint8
        ys, xs = np.nonzero(laid[per_frame * index + per_frame - 1] > 0.5)
        np.testing.assert_array_equal(box, [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])


def test_a_pasted_object_shows_where_its_coverage_is() -> None:
    cut = clips.CutOut(np.full((20, 30, 3), 250, np.uint8), np.ones((20, 30), np.float32))
    motion = clips.Motion(np.array([[40.0, 30.0]]), np.array([1.0]), np.array([0.0]), 0.0)
    behind = np.zeros((60, 80, 3), np.uint8)
    image, alpha = clips._paste(behind, cut, motion, 0)
    ys, xs = np.nonzero(alpha > 0.5)
    np.testing.assert_allclose([xs.mean() + 0.5, ys.mean() + 0.5, np.ptp(xs) + 1, np.ptp(ys) + 1], [40, 30, 30, 20], atol=1.0)
    np.testing.assert_array_equal(image[..., 0] > 125, alpha > 0.5)
    assert not behind.any(), "what is behind is not changed"


def test_made_clips_depend_on_the_seed_and_their_number_alone(photos: PhotoSet) -> None:
    def first_two(count: int) -> list[clips.Clip]:
        return list(record.made_clips(photos, count, seed=5))[:2]

    for one, again in zip(first_two(2), first_two(3), strict=True):
        np.testing.assert_array_equal(one.boxes_xywh, again.boxes_xywh)
        np.testing.assert_array_equal(one.images_rgb[-1], again.images_rgb[-1])


def test_styled_boxes_stay_in_the_frame_and_on_the_object() -> None:
    rng = np.random.default_rng(0)
    tight = np.array([20.0, 30.0, 40.0, 50.0])
    found = []
    for _ in range(300):
        box = clips.BoxStyle.draw(rng).apply(tight, (100, 90))
        assert box[2:].min() >= 2.0
        np.testing.assert_allclose(clip_box(box, (100, 90)), box, atol=1e-9)
        found.append(float(iou(box, tight)))
    assert min(found) > 0.15
    assert 0.25 < np.mean(np.array(found) > 0.999) < 0.65


# --- the loop -------------------------------------------------------------------------------------------------------------------------


def noisy_line(first_step: int, stop: int) -> Iterator[Batch]:
    for step in range(first_step, stop):
        x = torch.from_numpy(np.random.default_rng((7, step)).normal(size=(8, 3)).astype(np.float32))
        yield {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5])}


def squared_error(network: nn.Module, batch: Batch) -> Tensor:
    loss: Tensor = (network(batch["x"])[:, 0] - batch["y"]).square().mean()
    return loss


def line_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_training_learns_and_returns_the_averaged_network_in_eval_mode(tmp_path: Path) -> None:
    settings = FitSettings(steps=150, rate=0.05, warm_up=5, average=0.9, bfloat16=False)
    network = line_network()
    averaged = fit(network, lambda first: noisy_line(first, 150), squared_error, settings, tmp_path / "line.pt")
    assert averaged is not network
    assert not averaged.training
    assert float(squared_error(averaged, next(noisy_line(1000, 1001))).detach()) < 0.05


def test_a_stopped_run_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    settings = FitSettings(steps=8, rate=0.05, warm_up=3, bfloat16=False, save_every=2)
    asked: list[int] = []

    def batches(stop: int, first: int) -> Iterator[Batch]:
        asked.append(first)
        return noisy_line(first, stop)

    whole = fit(line_network(), lambda first: batches(8, first), squared_error, settings, tmp_path / "whole.pt")
    # stopped within step 6, after the checkpoint of step 4
    fit(line_network(), lambda first: batches(5, first), squared_error, settings, tmp_path / "broken.pt")
    resumed = fit(line_network(), lambda first: batches(8, first), squared_error, settings, tmp_path / "broken.pt")
    assert asked == [0, 0, 4]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_the_learning_rate_rises_then_falls() -> None:
    settings = FitSettings(steps=100, warm_up=10)
    rates = [settings.rate_at(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(1.0)
    assert 0.0 < rates[-1] < 0.02


def test_what_knows_something_already_learns_slowly(tmp_path: Path) -> None:
    """With AMSGrad the first step is the learning rate itself, whatever the gradient."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    before = [layer.weight.detach().clone() for layer in network]  # type: ignore[attr-defined]
    settings = FitSettings(1, rate=0.01, decay=0.0, warm_up=1, bfloat16=False, slow=("0.",))
    fit(network, lambda first: noisy_line(first, 1), squared_error, settings, tmp_path / "net.pt")
    moved = [float((layer.weight.detach() - old).abs().max()) for layer, old in zip(network, before, strict=True)]  # type: ignore[operator]
    assert moved == pytest.approx([0.001, 0.01], rel=0.01)


def test_the_backbone_sees_with_nanotracks_weights_what_nanotrack_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = MobileNetV3(9).eval()
    state = {f"module.backbone.{name}": value for name, value in theirs.state_dict().items()} | {"module.ban_head.scale": torch.ones(1)}
    torch.save({"state_dict": state}, tmp_path / "nanotrackv3.pth")
    network = Feat2Seg().eval()
    feat2seg.start_from_nanotrack(network, tmp_path / "nanotrackv3.pth")
    bgr = torch.randint(0, 256, (1, 3, 64, 64)).float()
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(bgr.flip(1) / 255.0), theirs(bgr), atol=1e-4, rtol=1e-4)


def test_a_file_of_something_else_is_no_backbone(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.ones(2)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        feat2seg.start_from_nanotrack(Feat2Seg(), tmp_path / "other.pth")


# --- the stages -----------------------------------------------------------------------------------------------------------------------


def test_a_few_steps_of_feat2seg(photos: PhotoSet, data: Path, tmp_path: Path) -> None:
    def batches(first_step: int) -> feat2seg.SampleStream:
        return feat2seg.SampleStream(photos, feat2seg.Curriculum(3), batch=2, seed=1, first_step=first_step)

    held_out, words = PhotoSet(data, validation=True), []

    def evaluate(network: nn.Module) -> str:
        words.append(feat2seg.validate(network, held_out, count=2))
        return words[-1]

    network = Feat2Seg((8, 8, 16, 16))
    trained = fit(network, batches, feat2seg.loss_of, FitSettings(3, warm_up=1), tmp_path / "net.pt", evaluate)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in trained.state_dict().values())
    assert len(words) == 1
    assert "J(exact)" in words[0]
    assert "J(jittered)" in words[0]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded clips, one of them held out."""
    folder = tmp_path_factory.mktemp("recordings")
    moving = straight_clip(8)
    torch.manual_seed(0)
    segmenter = Segmenter(Feat2Seg((8, 8, 16, 16)))
    clip = clips.Clip(moving.images_rgb, moving.boxes_xywh)
    record.record_all(iter([clip] * 3), CHANNELS, segmenter, folder, seed=1, prefix="made")
    return folder


def test_recordings_hold_evidence_and_truth(recordings: Path) -> None:
    with np.load(recordings / "made_00001.npz") as rows:
        assert rows["features"].shape[:2] == (7, 2)
        assert rows["overlaps"].shape == (7, 2)
        assert rows["maps"].shape[0] == rows["edges"].shape[0] == 7
        assert rows["maps"].shape[2:] == (SIZE_PX, SIZE_PX)
        edges = rows["edges"]
        assert np.isfinite(edges).all()
        assert (edges[:, 2:] > edges[:, :2]).all()
        assert ((rows["overlaps"] >= 0) & (rows["overlaps"] <= 1)).all()
        assert rows["errors"].shape[1] == 4


def test_recording_again_leaves_what_is_there(recordings: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in recordings.iterdir()}
    moving = straight_clip(8)
    clip = clips.Clip(moving.images_rgb, moving.boxes_xywh)
    record.record_all(iter([clip] * 3), CHANNELS, Segmenter(Feat2Seg((8, 8, 16, 16))), recordings, seed=1, prefix="made")
    assert {path: path.stat().st_mtime_ns for path in recordings.iterdir()} == before


def test_held_out_recordings_are_not_trained_on_and_unfinished_ones_are_skipped(recordings: Path) -> None:
    (recordings / "made_00009.part.npz").write_bytes(b"cut off")
    training, held_out = (heads.load_rows([recordings], held_out=part) for part in (False, True))
    assert (len(training["edges"]), len(held_out["edges"])) == (14, 7)
    (recordings / "made_00009.part.npz").unlink()


def test_recordings_of_different_ensembles_are_learned_from_together(recordings: Path, tmp_path: Path) -> None:
    moving = straight_clip(8)
    more = (*CHANNELS, ChannelConfig("again", "template"))
    segmenter = Segmenter(Feat2Seg((8, 8, 16, 16)))
    moved = iter([clips.Clip(moving.images_rgb, moving.boxes_xywh)] * 2)
    record.record_all(moved, more, segmenter, tmp_path, seed=1, prefix="more")
    rows = heads.load_rows([recordings, tmp_path], held_out=False)
    assert rows["overlaps"].shape[1] == len(more)
    assert set(heads.rows_by_channels(rows)) >= {len(CHANNELS), len(more)}
    seen = set()
    for batch in heads.combine_batches(rows, batch=4, seed=1, steps=20, first_step=0):
        assert all(bool(torch.isfinite(values).all()) for values in batch.values())
        seen.add(batch["overlaps"].shape[1])
    assert seen >= {len(CHANNELS), len(more)}


def test_a_folder_without_recordings_says_which_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="run the stage 'record' first"):
        heads.load_rows([tmp_path], held_out=False)


def test_a_few_steps_of_combine_and_of_seg2box(recordings: Path, tmp_path: Path) -> None:
    rows = heads.load_rows([recordings], held_out=False)
    combine = CombineNet()
    heads.standardise(combine, rows)
    settings = FitSettings(3, warm_up=1, bfloat16=False)
    fit(
        combine,
        lambda first: heads.combine_batches(rows, batch=4, seed=1, steps=3, first_step=first),
        heads.combine_loss,
        settings,
        tmp_path / "combine.pt",
        lambda network: heads.validate_combine(network, rows),
    )
    reader = fit(
        Seg2Box(8),
        lambda first: heads.seg2box_batches(rows, batch=4, seed=1, steps=3, first_step=first),
        heads.seg2box_loss,
        settings,
        tmp_path / "seg2box.pt",
    )
    assert "overlap" in heads.validate_seg2box(reader, rows)
    for network in (combine, reader):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


@pytest.mark.parametrize("batches", [heads.combine_batches, heads.seg2box_batches])
def test_batches_of_recorded_frames_depend_on_the_seed_and_the_step_alone(recordings: Path, batches: object) -> None:
    rows = heads.load_rows([recordings], held_out=False)
    whole = list(batches(rows, batch=3, seed=1, steps=4, first_step=0))  # type: ignore[operator]
    part = list(batches(rows, batch=3, seed=1, steps=4, first_step=2))  # type: ignore[operator]
    for one, other in zip(whole[2:], part, strict=True):
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, atol=0, rtol=0)


def test_moved_and_mirrored_maps_keep_their_true_edges() -> None:
    edges = np.array([0.3, 0.35, 0.6, 0.7], dtype=np.float32)
    box = np.array([[edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]]]) * SIZE_PX
    maps = np.repeat((rasterise(box, (SIZE_PX, SIZE_PX)) * 255).astype(np.uint8), 4, axis=0)
    rng = np.random.default_rng(0)
    mirrored = 0
    for _ in range(40):
        moved, true = heads._disturb(maps, edges, rng)
        ys, xs = np.nonzero(moved[0] > 127)
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / SIZE_PX
        inside = np.clip(true, 0.0, 1.0)
        np.testing.assert_allclose(found, inside, atol=1.6 / SIZE_PX)
        first_xs = np.nonzero(moved[-1] > 127)[1]
        mirrored += abs(first_xs.min() / SIZE_PX - (1.0 - edges[2])) < abs(first_xs.min() / SIZE_PX - edges[0])
    assert 5 < mirrored < 35


# --- the command ----------------------------------------------------------------------------------------------------------------------


def run_command(monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, args), "--threads", "1"])
    threads = cv2.getNumThreads()
    try:
        command.main()
    finally:
        cv2.setNumThreads(threads)


def test_the_command_trains_the_heads_and_packs_all_three(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "bundled_path", lambda name: tmp_path / f"{name}.safetensors")
    for stage in ("combine", "seg2box"):
        run_command(monkeypatch, stage, "--work", tmp_path, "--recordings", recordings, "--steps", 2, "--batch", 2)
    with pytest.raises(SystemExit, match="2"):
        run_command(monkeypatch, "pack", "--work", tmp_path)
    assert "run the stage 'feat2seg' first" in capsys.readouterr().err
    torch.save({"averaged": Feat2Seg().state_dict()}, tmp_path / "feat2seg.pt")
    run_command(monkeypatch, "pack", "--work", tmp_path)
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {"feat2seg", "combine", "seg2box"}


def test_the_command_trains_feat2seg(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_command(monkeypatch, "feat2seg", "--data", data, "--work", tmp_path, "--steps", 1, "--batch", 2)
    assert torch.load(tmp_path / "feat2seg.pt", weights_only=True)["step"] == 1


@pytest.mark.parametrize(
    ("stage", "needs"), [("feat2seg", "--data"), ("record", "--data"), ("combine", "--recordings"), ("seg2box", "--recordings")]
)
def test_a_stage_says_which_folder_it_needs(
    stage: str, needs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_command(monkeypatch, stage)
    assert f"the stage {stage} needs {needs}" in capsys.readouterr().err


def test_the_command_says_which_folder_recordings_go_to(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_command(monkeypatch, "record", "--data", data)
    assert "the stage record needs --recordings" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "folder"), [("feat2seg", "--data"), ("combine", "--recordings")])
def test_a_folder_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str, folder: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_command(monkeypatch, stage, "--work", tmp_path, folder, tmp_path / "nowhere")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m sftrack.training: error: ")
    assert "nowhere" in line
