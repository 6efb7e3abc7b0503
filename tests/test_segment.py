"""Refining and combining masks: what the stream promises, and that it makes masks better."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftrack.errors import WeightsError
from sftrack.metrics import jaccard
from sftrack.segment import Refinement, learn, refine, sample, smoothed
from sftrack.segment.combine import check_weights, combine
from sftrack.segment.links import Link, LinkedFrame, MaskedFrame, link_frames
from sftrack.segment.palette import memberships
from sftrack.segment.refine import smooth_in_space, smooth_in_time
from sftrack.spectral import SFSegPlusPlus, power_step
from sftrack.spectral.checks import GREATEST, LEAST
from sftrack.spectral.gaussian import gaussian
from tests.conftest import moving_square

SMALL = Refinement(steps_in_time=2, kernel_px=5, palette=4)
SCALES = {"colour_scale": 0.05, "flow_scale_px": 0.5}


def squares(frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of 128x96 with a moving textured square, and its true masks."""
    pictures, boxes = moving_square(frames, (128, 96))
    truths = []
    for x, y, w, h in boxes.astype(int):
        truth = np.zeros((96, 128), dtype=bool)
        truth[y : y + h, x : x + w] = True
        truths.append(truth)
    return pictures, truths


def noisy(truth: np.ndarray, seed: int) -> np.ndarray:
    """A mask with a ragged border, and now and then a lone blob."""
    rng = np.random.default_rng(seed)
    ragged = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 2.0) + 1.5 * cv2.GaussianBlur(
        rng.normal(size=truth.shape).astype(np.float32), (0, 0), 2.0
    )
    mask = ragged > 0.5
    mask[60:80, 90:110] |= seed % 3 == 0
    return mask


def frames_of(length: int, seed: int, size_hw: tuple[int, int] = (32, 40)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Textures that drift, and random soft masks."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (100, 100, 3), dtype=np.uint8), (0, 0), 1.5)
    height, width = size_hw
    images = [np.ascontiguousarray(ground[i : i + height, 2 * i : 2 * i + width]) for i in range(length)]
    masks = [cv2.GaussianBlur((rng.random(size_hw) > 0.6).astype(np.float32), (0, 0), 2.0) for _ in range(length)]
    return images, masks


def linked(image: np.ndarray, masks: np.ndarray) -> LinkedFrame:
    return LinkedFrame(MaskedFrame(image, masks), None, None)


# -- the stream ---------------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), start=st.integers(2, 5), length=st.integers(1, 3), steps=st.integers(1, 2))
def test_a_piece_with_overlap_gives_what_the_whole_video_gives(seed: int, start: int, length: int, steps: int) -> None:
    """Frames beyond `steps_in_time` to either side have no influence, so a long video can be cut anywhere without a seam."""
    images, masks = frames_of(10, seed)
    chosen = Refinement(steps_in_time=steps, kernel_px=5, palette=4)
    whole = list(refine(images, masks, settings=chosen))
    first, last = start - steps, start + length + steps
    piece = list(refine(images[first:last], masks[first:last], settings=chosen))
    np.testing.assert_array_equal(piece[steps : steps + length], whole[start : start + length])


def test_only_the_frames_within_reach_are_read_ahead() -> None:
    images, masks = frames_of(12, 0)
    read = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal read
        for image in images:
            read += 1
            yield image

    for done, _ in enumerate(refine(counted(), masks, settings=SMALL), start=1):
        assert read <= done + SMALL.steps_in_time + 1
    assert done == 12


def test_steps_in_time_equal_products_with_the_matrix_of_the_graph() -> None:
    """Row-normalised matrix of all pixels of the video, whose edges between frames are those of the links, built entry by entry."""
    images, masks = frames_of(3, 1, (16, 20))
    frames = list(link_frames((MaskedFrame(i, m[..., None]) for i, m in zip(images, masks, strict=True)), **SCALES))
    count, pixels = len(frames), 16 * 20
    matrix = np.eye(count * pixels)
    for index, frame in enumerate(frames):
        for link, other in ((frame.previous, index - 1), (frame.following, index + 1)):
            if link is None:
                continue
            for pixel in range(pixels):
                one = np.zeros((16, 20, 1), np.float32)
                one.flat[pixel] = 1.0
                column = link.weight * link.fetch(one)[..., 0]
                matrix[index * pixels : (index + 1) * pixels, other * pixels + pixel] += column.ravel()
    matrix /= matrix.sum(axis=1, keepdims=True)
    expected = matrix @ (matrix @ np.stack(masks).ravel())
    found = [x for _, x in smooth_in_time(smooth_in_time((frame, frame.given.masks) for frame in frames))]
    np.testing.assert_allclose(np.stack(found).ravel(), expected, atol=2e-3)  # bilinear places in 1/32 of a pixel


def test_a_stream_may_use_one_buffer_for_all_frames_and_one_for_all_masks() -> None:
    images, masks = frames_of(6, 0)

    def in_one_buffer(arrays: list[np.ndarray]) -> Iterator[np.ndarray]:
        buffer = np.empty_like(arrays[0])
        for array in arrays:
            buffer[:] = array
            yield buffer

    reused = refine(in_one_buffer(images), in_one_buffer(masks), settings=SMALL)
    np.testing.assert_array_equal(list(reused), list(refine(images, masks, settings=SMALL)))


def test_no_video_gives_no_masks_and_one_frame_gives_one() -> None:
    images, masks = frames_of(1, 0)
    assert list(refine([], [])) == []
    assert [mask.shape for mask in refine(images, masks)] == [(32, 40)]


def test_counts_that_differ_are_refused() -> None:
    images, masks = frames_of(3, 0)
    with pytest.raises(ValueError, match="a mask for every frame, got 2 masks and more frames"):
        list(refine(images, masks[:2], settings=SMALL))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((8, 8), np.float32), r"masks \(32, 40\) or \(H, W, C\).* got \(32, 40, 3\) and \(8, 8\)"),
        (np.zeros((1, 32, 40), np.float32), r"got \(32, 40, 3\) and \(1, 32, 40\)"),
        (np.zeros((32, 40, 0), np.float32), r"and \(32, 40, 0\)"),
        (np.full((32, 40), 255, np.uint8), "divide masks of 0 and 255 by 255"),
        (np.full((32, 40), np.nan, np.float32), r"in \[0, 1\]"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(mask: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(refine(frames_of(1, 0)[0], [mask]))


def test_frames_that_do_not_fit_the_first_one_are_refused() -> None:
    images, masks = frames_of(2, 0)
    with pytest.raises(ValueError, match=r"C the same for all frames, got \(32, 40, 3\) and \(32, 40, 2\)"):
        list(refine(images, [masks[0], np.stack(masks, axis=2)]))
    with pytest.raises(ValueError, match=r"frames \(32, 40, 3\) and masks .* got \(20, 40, 3\) and \(20, 40\)"):
        list(refine([images[0], images[1][:20]], [masks[0], masks[1][:20]]))
    with pytest.raises(ValueError, match=r"frames \(H, W, 3\) uint8 of at least 16x16, got uint8 \(32, 40\)"):
        list(refine([images[0][..., 0]], masks[:1]))
    with pytest.raises(ValueError, match=r"of at least 16x16, got uint8 \(1, 1, 3\)"):
        list(refine([images[0][:1, :1]], [masks[0][:1, :1]]))


def test_masks_may_leave_their_range_by_rounding() -> None:
    images, _ = frames_of(1, 0)
    [refined] = refine(images, [np.full((32, 40), 1.0 + 1e-6, np.float32)])
    assert 0.99 < refined.min() <= refined.max() <= 1.0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps_in_time": -1}, "steps_in_time to be a whole number of at least 0, got -1"),
        ({"steps_in_space": 1.5}, r"steps_in_space to be a whole number of at least 0, got 1\.5"),
        ({"palette": 0}, "palette to be a whole number of at least 1, got 0"),
        ({"colour_scale": 0.0}, r"colour_scale to be a number from 1e-09 to 10000, got 0\.0"),
        ({"flow_scale_px": np.inf}, "flow_scale_px to be a number from .* got inf"),
        ({"palette_scale": 1e-30}, "palette_scale to be a number from .* got 1e-30"),
        ({"colour_scale": 1e-30}, "colour_scale to be a number from .* got 1e-30"),
        ({"flow_weight": np.nan}, r"flow_weight to be a number from 0 to 10000, got nan"),
        ({"p": -0.1}, r"p to be a number from 0 to 10000, got -0\.1"),
        ({"kernel_px": 4}, "odd kernel size of at least 3, got 4"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Refinement(**wrong)


@pytest.mark.parametrize(
    "limits",
    [*({name: LEAST} for name in ("colour_scale", "flow_scale_px", "palette_scale")), {"flow_weight": GREATEST}, {"p": GREATEST}],
    ids=str,
)
def test_the_greatest_and_the_least_settings_give_masks(limits: dict[str, float]) -> None:
    for mask in refine(*frames_of(3, 0), settings=Refinement(**limits)):
        assert 0.0 <= mask.min() <= mask.max() <= 1.0


# -- what it does to masks ----------------------------------------------------------------------------------------------------------


def test_ragged_and_flickering_masks_become_better_on_every_frame() -> None:
    images, truths = squares(10)
    masks = [noisy(truth, seed) for seed, truth in enumerate(truths)]
    refined = [mask > 0.5 for mask in refine(images, [mask.astype(np.float32) for mask in masks])]
    before = [jaccard(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    after = [jaccard(mask, truth) for mask, truth in zip(refined, truths, strict=True)]
    assert min(np.subtract(after, before)) > 0.03
    assert np.mean(after) > 0.93


def test_a_mask_that_was_lost_for_a_frame_comes_back() -> None:
    images, truths = squares(7)
    masks = [truth.astype(np.float32) for truth in truths]
    masks[3] = np.zeros_like(masks[3])
    refined = list(refine(images, masks))
    assert jaccard(refined[3] > 0.5, truths[3]) > 0.9


def test_empty_masks_stay_empty_and_full_ones_full() -> None:
    images, masks = frames_of(4, 0)
    for value in (0.0, 1.0):
        constant = [np.full_like(mask, value) for mask in masks]
        for mask in refine(images, constant, settings=SMALL):
            np.testing.assert_allclose(mask, value, atol=1e-4)


def test_edges_in_time_are_cut_where_colours_or_flow_disagree() -> None:
    images, masks = frames_of(2, 3)
    images = [images[0] // 4, images[0] // 4 + 190]
    frames = list(link_frames((MaskedFrame(i, m[..., None]) for i, m in zip(images, masks, strict=True)), **SCALES))
    for (_, x), mask in zip(smooth_in_time((frame, frame.given.masks) for frame in frames), masks, strict=True):
        np.testing.assert_allclose(x[..., 0], mask, atol=1e-3)


def test_more_than_four_methods_are_moved_alike() -> None:
    rng = np.random.default_rng(0)
    values, flow = rng.random((16, 20, 6), dtype=np.float32), np.full((16, 20, 2), 1.5, np.float32)
    link = Link.between(np.zeros((16, 20, 3), np.float32), np.zeros((16, 20, 3), np.float32), flow, -flow, **SCALES)
    moved = link.fetch(values)
    for method in range(6):
        np.testing.assert_array_equal(moved[..., method], link.fetch(values[..., method : method + 1])[..., 0])


# -- the pairwise features ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_memberships_are_unit_vectors_so_that_no_affinity_is_negative(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).random((9, 11, 3), dtype=np.float32)
    features = memberships(values, count, 0.1)
    assert features.min() >= 0.0
    np.testing.assert_allclose(np.square(features).sum(axis=0), 1.0, atol=1e-4)
    np.testing.assert_array_equal(features, memberships(values, count, 0.1))


def test_the_first_order_affinity_of_unit_vectors_is_their_product() -> None:
    """Why `alpha = K / 2`: Eq. 2 over K maps, whose mean `power_step` takes, becomes `f_i . f_j`."""
    rng = np.random.default_rng(0)
    features = memberships(rng.random((12, 14, 3), dtype=np.float32), 6, 0.2)
    x = torch.from_numpy(rng.random((1, 12, 14), dtype=np.float32))
    f = [torch.from_numpy(feature)[None] for feature in features]
    step = power_step(x, torch.ones_like(x), f, p=0.0, alpha=3.0, kernel_size=(3, 5, 5))
    in_time, in_space = (np.array(gaussian(size)) for size in (3, 5))
    filtered = [cv2.sepFilter2D(feature * x[0].numpy(), -1, in_space, in_space, borderType=cv2.BORDER_CONSTANT) for feature in features]
    expected = in_time[1] * sum(feature * plane for feature, plane in zip(features, filtered, strict=True))
    np.testing.assert_allclose(step[0].numpy(), expected, atol=1e-5)


def test_a_border_moves_to_where_the_colours_change() -> None:
    image = np.full((40, 60, 3), 60, np.uint8)
    image[:, 30:] = 180
    mask = np.zeros((40, 60), np.float32)
    mask[:, 28:] = 1.0
    refined = smooth_in_space(linked(image, mask[..., None]), mask, Refinement())
    wanted = np.zeros((40, 60), dtype=bool)
    wanted[:, 30:] = True
    assert jaccard(refined > 0.5, wanted) > 0.98 > jaccard(mask > 0.5, wanted)


# -- several methods ----------------------------------------------------------------------------------------------------------------


def test_without_weights_methods_count_the_same() -> None:
    images, masks = frames_of(2, 0)
    stack = np.stack(masks, axis=2)
    np.testing.assert_allclose(combine(linked(images[0], stack), stack, None), (masks[0] + masks[1]) / 2.0, atol=1e-6)


def test_weights_of_other_methods_are_refused() -> None:
    with pytest.raises(WeightsError, match="3 methods and two flow magnitudes, got those of 2"):
        check_weights(SFSegPlusPlus(4), 3)
    with pytest.raises(WeightsError, match="expected one set of weights"):
        check_weights(SFSegPlusPlus(5, shared=False), 3)
    images, masks = frames_of(1, 0)
    with pytest.raises(WeightsError, match="1 methods and two flow magnitudes, got those of 2"):
        list(refine(images, masks, weights=SFSegPlusPlus(4)))


def test_weights_may_be_of_another_type_than_the_masks() -> None:
    images, masks = frames_of(2, 0)
    [single], [double] = ([*refine(images[:1], masks[:1], weights=weights)] for weights in (SFSegPlusPlus(3), SFSegPlusPlus(3).double()))
    assert double.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_nothing_to_learn_from_is_refused() -> None:
    images, masks = frames_of(1, 0)
    with pytest.raises(ValueError, match="at least one video to learn from"):
        learn([])
    with pytest.raises(ValueError, match="frames with true masks"):
        sample(smoothed([MaskedFrame(images[0], masks[0][..., None])]), 1)


def test_learned_weights_follow_the_good_method() -> None:
    images, truths = squares(10)
    good = [noisy(truth, seed).astype(np.float32) for seed, truth in enumerate(truths)]
    bad = [np.roll(mask, (20, 40), axis=(0, 1)) for mask in good]
    frames = [MaskedFrame(i, np.stack([b, g], axis=2), t) for i, b, g, t in zip(images, bad, good, truths, strict=True)]
    weights = learn([sample(smoothed(frames, SMALL), len(frames))])
    assert weights.w_s[1] > weights.w_s[0] + 1.0
    stacks = [frame.masks for frame in frames]
    combined = list(refine(images, stacks, weights=weights, settings=SMALL))
    plain = list(refine(images, stacks, settings=SMALL))
    mean_of = {"learned": combined, "plain": plain}
    means = {name: np.mean([jaccard(m > 0.5, t) for m, t in zip(masks, truths, strict=True)]) for name, masks in mean_of.items()}
    assert means["learned"] > means["plain"] + 0.1
