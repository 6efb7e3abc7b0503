"""Sample patches and what the first frame is turned into, against the fixtures and against their definitions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sftrack.trackers.discriminative.augmentation import Augmentation, blur, cut, drop_channels, flip, rotate
from sftrack.trackers.discriminative.patches import from_patch, sample_patch, to_patch, vector
from tests.discriminative import Fixtures, assert_close, decoded_as, frames_of


@pytest.fixture(scope="module", params=["prdimp18", "atom18"])
def fixtures(request: pytest.FixtureRequest, shared: Path) -> Fixtures:
    return Fixtures(shared, request.param)


def test_augmentation_equals_the_original(fixtures: Fixtures) -> None:
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    channels = torch.arange(3.0)[:, None, None]
    image = 128 + 60 * torch.sin(0.13 * columns + 0.7 * channels + fixtures.seed) + 50 * torch.cos(0.11 * rows - 0.4 * channels)
    patch = image[None]
    expected = {
        "identity": cut(patch, 48),
        "identity_shift_5_-7": cut(patch, 48, (5, -7)),
        "translate_14_-14": cut(patch, 48, (14, -14)),
        "translate_40_40_beyond_edge": cut(patch, 48, (40, 40)),
        "flip_shift_3_8": cut(flip(patch), 48, (3, 8)),
        "blur_3_1": cut(blur(patch, (3, 1)), 48),
        "blur_1_3_shift_-6_2": cut(blur(patch, (1, 3)), 48, (-6, 2)),
        "blur_2_0.2": cut(blur(patch, (2, 0.2)), 48),
        "rotate_10": cut(rotate(patch, 10), 48),
        "rotate_-60_shift_4_-9": cut(rotate(patch, -60), 48, (4, -9)),
        "rotate_45_full_frame": rotate(patch, 45),
        "identity_to_odd_size": cut(patch, 47, (1, 0)),
    }
    for name, actual in expected.items():
        assert_close(actual[0], fixtures[f"aug_{name}"])


def test_crops_equal_the_original_to_the_pixel(fixtures: Fixtures, shared: Path) -> None:
    frames = frames_of(shared, str(fixtures["crop_sequence"]), [int(fixtures["crop_frame_number"])])
    exact = decoded_as(fixtures, "crop", frames)
    for index, (y, x, scale, side) in enumerate(fixtures["crop_cases_posy_posx_scale_size"]):
        crops = [
            sample_patch(frames[0], vector((y, x)), float(np.float32(scale) * np.float32(side)), int(side), fractional_bounds=fractional)
            for fractional in (False, True)
        ]
        np.testing.assert_allclose(crops[0].bounds, fixtures["crop_coords"][index])
        np.testing.assert_allclose(crops[1].bounds, fixtures["crop_coords_2022variant"][index])
        if side == 64:
            pixels = crops[0].image_rgb[0]
            np.testing.assert_allclose(pixels[:, ::4, ::4], fixtures["crop_patches_sub_f32"][index], atol=0.01 if exact else 2)
            np.testing.assert_allclose(pixels.permute(1, 2, 0).round(), fixtures["crop_patches_u8"][index], atol=1 if exact else 3)


def test_crops_that_stay_inside_the_frame_equal_the_original(shared: Path) -> None:
    fixtures = Fixtures(shared, "prdimp18")
    frame = frames_of(shared, str(fixtures["crop_sequence"]), fixtures["crop_frame_number"].reshape(1))[0]
    tolerance = 0.01 if decoded_as(fixtures, "crop", [frame]) else 2
    for index, (y, x, scale, side) in enumerate(fixtures["crop_inside_major_cases_posy_posx_scale_size"]):
        crop = sample_patch(frame, vector((y, x)), float(np.float32(scale) * np.float32(side)), int(side), max_shrink=1.5)
        np.testing.assert_allclose(crop.bounds, fixtures["crop_inside_major_coords"][index])
        expected = fixtures["crop_inside_major_patches_sub_f32"][index]
        np.testing.assert_allclose(crop.image_rgb[0, :, ::4, ::4], expected, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    y=st.floats(-60, 90),
    x=st.floats(-60, 110),
    side=st.floats(0.1, 400),
    output=st.sampled_from([8, 16, 32]),
    max_shrink=st.sampled_from([None, 1.5]),
)
@example(y=30.0, x=0.0, side=249.0, output=8, max_shrink=None)  # one in 31 pixels, from below the last one
def test_any_crop_holds_pixels_of_the_frame_only(y: float, x: float, side: float, output: int, max_shrink: float | None) -> None:
    """Its edge is repeated as far as needed, even where nothing of the frame is inside, and never anything else."""
    image = np.random.default_rng(0).integers(50, 60, (30, 41, 3), dtype=np.uint8)
    crop = sample_patch(image, vector((y, x)), side, output, max_shrink=max_shrink)
    assert crop.image_rgb.shape == (1, 3, output, output)
    assert 50 <= crop.image_rgb.min() <= crop.image_rgb.max() <= 59
    assert (crop.bounds[2:] > crop.bounds[:2]).all()


def test_position_and_scale_of_a_patch_come_from_its_bounds() -> None:
    patch = sample_patch(np.zeros((200, 300, 3), np.uint8), vector((100.9, 150.2)), 61.0, 32)
    np.testing.assert_array_equal(patch.bounds, [70, 120, 131, 181])
    np.testing.assert_array_equal(patch.position, [100, 150])
    assert patch.scale == pytest.approx(61 / 32)


@settings(max_examples=30, deadline=None)
@given(y=st.floats(-50, 500), x=st.floats(-50, 500), height=st.floats(2, 300), width=st.floats(2, 300), scale=st.floats(0.1, 8))
def test_there_and_back_moves_a_target_by_half_a_pixel_of_the_patch(y: float, x: float, height: float, width: float, scale: float) -> None:
    position, size, middle = vector((y, x)), vector((height, width)), vector((200, 240))
    back, size_back = from_patch(to_patch(position, size, middle, scale, 288), middle, scale, 288)
    np.testing.assert_allclose(back, position + 0.5 * scale, atol=2e-3 * max(scale, 1))
    np.testing.assert_allclose(size_back, size, rtol=1e-4)


def test_the_samples_of_the_first_frame_come_in_the_order_of_the_original() -> None:
    plan = Augmentation(shifts=((0.6, -0.6),), flip=True, blurs=((3, 1),), rotations=(10,), random_shift=1 / 3, dropouts=2)
    patch = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    samples, shifts = plan.samples(patch, 64, torch.Generator().manual_seed(0))
    assert shifts[:2] == [(0, 0), (19, -19)], "0.6 of half of the side, without the fraction"
    assert plan.count == len(samples) + plan.dropouts == 7
    for sample, view, shift in zip(samples, (patch, patch, flip(patch), blur(patch, (3, 1)), rotate(patch, 10)), shifts, strict=True):
        assert torch.equal(sample, cut(view, 64, shift)[0])


def test_random_shifts_stay_in_their_range_and_repeat_with_the_seed() -> None:
    plan = Augmentation(flip=True, blurs=((1, 1),) * 4, rotations=(10,) * 20, random_shift=1 / 3)
    patch = torch.zeros(1, 3, 192, 192)
    drawn = [plan.samples(patch, 96, torch.Generator().manual_seed(seed))[1] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    moves = np.abs(drawn[0][1:])
    assert 8 < moves.max() < 16
    assert len(np.unique(moves)) > 10


def test_dropped_channels_keep_their_mean() -> None:
    features = torch.ones(1, 4000, 2, 2)
    dropped = drop_channels(features, 2, 0.2, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(dropped, dropped[:, :, :1, :1].expand_as(dropped)), "a channel is dropped as a whole"
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(dropped[0], dropped[1])


def test_a_positive_angle_turns_counter_clockwise_on_screen() -> None:
    patch = torch.zeros(1, 3, 65, 65)
    patch[..., 32, 60] = 1.0  # to the right of the middle
    turned = rotate(patch, 90)[0, 0]
    row, column = divmod(int(turned.argmax()), 65)
    assert (row, column) == (4, 32), "now above it"


def test_blurring_keeps_the_sum_away_from_the_border_and_darkens_it() -> None:
    blurred = blur(torch.ones(1, 3, 40, 40), (3.0, 1.0))
    torch.testing.assert_close(blurred[..., 8:32, 8:32], torch.ones(1, 3, 24, 24))
    assert blurred[0, 0, 0, 20].item() == pytest.approx(0.5 + 0.5 / sum(math.exp(-(t**2) / 18) for t in range(-6, 7)), rel=1e-4)
