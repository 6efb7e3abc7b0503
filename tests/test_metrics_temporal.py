from typing import Any

import cv2
import numpy as np
import pytest

from sftrack.flow import dense_flow, warp
from sftrack.metrics import consistent_mask, jaccard, temporal_consistency

SIZE_HW = (48, 64)
SHIFT = 3


def square_at(x: int, side: int = 16) -> np.ndarray:
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[16 : 16 + side, x : x + side] = True
    return mask


def flow_of(dx: float, dy: float = 0.0) -> np.ndarray:
    return np.broadcast_to(np.float32([dx, dy]), (*SIZE_HW, 2)).copy()


TRUTH = [square_at(10 + SHIFT * index) for index in range(5)]
FLOWS = [(flow_of(-SHIFT), flow_of(SHIFT))] * 3


def test_masks_that_move_with_the_flow_are_fully_consistent() -> None:
    assert temporal_consistency(TRUTH, TRUTH, flows=FLOWS) == 1.0


def test_flow_is_needed_where_things_move() -> None:
    """Squares 8 wide that move by 10: where they stand, no two of three overlap."""
    far = [square_at(5 + 10 * index, side=8) for index in range(5)]
    moved = [(flow_of(-10), flow_of(10))] * 3
    still = [(flow_of(0), flow_of(0))] * 3
    assert temporal_consistency(far, far, flows=moved) == 1.0
    assert temporal_consistency(far, far, flows=still) == 0.0


def test_a_frame_without_its_mask_is_filled_by_its_neighbours_and_a_lone_blob_is_outvoted() -> None:
    masks = list(TRUTH)
    masks[2] = np.zeros(SIZE_HW, dtype=bool)
    assert temporal_consistency(masks, TRUTH, flows=FLOWS) == 1.0
    masks[2] = TRUTH[2] | np.eye(*SIZE_HW, dtype=bool)
    assert jaccard(masks[2], TRUTH[2]) < 1.0
    assert temporal_consistency(masks, TRUTH, flows=FLOWS) == 1.0


def test_value_is_the_mean_over_the_frames_with_two_neighbours() -> None:
    """A mask missing in two frames in a row is missing from the combination of both, and of no other."""
    masks = [TRUTH[0], TRUTH[1], np.zeros(SIZE_HW, dtype=bool), np.zeros(SIZE_HW, dtype=bool), TRUTH[4]]
    assert temporal_consistency(masks, TRUTH, flows=FLOWS) == pytest.approx(1 / 3)
    masks = [np.zeros(SIZE_HW, dtype=bool), *TRUTH[1:]]
    assert temporal_consistency(masks, TRUTH, flows=FLOWS) == 1.0, "frame 1 has its own mask and the next one's"


def test_empty_frames_agree_with_empty_truth() -> None:
    nothing = [np.zeros(SIZE_HW, dtype=bool)] * 3
    assert temporal_consistency(nothing, nothing, flows=FLOWS[:1]) == 1.0
    assert temporal_consistency(TRUTH[:3], nothing, flows=FLOWS[:1]) == 0.0


def test_the_mean_of_three_is_compared_with_the_threshold() -> None:
    values = [np.full(SIZE_HW, value, dtype=np.float32) for value in (0.25, 0.5, 0.75)]
    assert consistent_mask(*values, flow_of(0), flow_of(0)).all(), "the threshold itself counts"
    assert not consistent_mask(*values, flow_of(0), flow_of(0), threshold=0.51).any()


def test_what_lies_outside_the_frame_counts_as_background() -> None:
    full = np.ones(SIZE_HW, dtype=np.float32)
    nothing = np.zeros(SIZE_HW, dtype=np.float32)
    combined = consistent_mask(full, nothing, full, flow_of(-5), flow_of(0))
    assert not combined[:, :5].any()
    assert combined[:, 5:].all()


def test_dis_finds_the_motion_of_a_textured_square() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8), (0, 0), 2.0)
    frames = [np.ascontiguousarray(texture[40:136, 60 - SHIFT * index : 188 - SHIFT * index]) for index in range(4)]
    flow = dense_flow(frames[0], frames[1])
    assert flow.dtype == np.float32
    np.testing.assert_allclose(flow[16:-16, 16:-16].mean(axis=(0, 1)), [SHIFT, 0], atol=0.1)
    masks = []
    for index in range(4):
        mask = np.zeros((96, 128), dtype=bool)
        mask[30:60, 40 + SHIFT * index : 70 + SHIFT * index] = True
        masks.append(mask)
    gap = [masks[0], np.zeros_like(masks[1]), *masks[2:]]
    assert temporal_consistency(gap, masks, frames_rgb=frames) > 0.98, "the neighbours fill it, each from its own side"


def test_warping_fetches_values_from_where_the_flow_points() -> None:
    ramp = np.broadcast_to(np.arange(SIZE_HW[1], dtype=np.float32), SIZE_HW).copy()
    np.testing.assert_allclose(warp(ramp, flow_of(2.5))[:, :-3], ramp[:, :-3] + 2.5, atol=1e-4)
    np.testing.assert_array_equal(warp(ramp.astype(np.float64), flow_of(2.5).astype(np.float64)), warp(ramp, flow_of(2.5)))
    np.testing.assert_array_equal(warp(TRUTH[0], flow_of(-SHIFT)), TRUTH[1])


@pytest.mark.parametrize(
    ("values", "flow", "words"),
    [
        (np.zeros((8, 9)), np.zeros((8, 9)), r"got \(8, 9\) and \(8, 9\)"),
        (np.zeros((8, 9)), np.zeros((9, 8, 2)), r"got \(8, 9\) and \(9, 8, 2\)"),
        (np.zeros(8), np.zeros((8, 9, 2)), r"got \(8,\)"),
        (np.zeros((8, 9)), np.full((8, 9, 2), np.nan), "finite flow"),
    ],
)
def test_refuses_flow_that_cannot_be_followed(values: np.ndarray, flow: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        warp(values, flow)


@pytest.mark.parametrize(
    ("masks", "truth", "more", "words"),
    [
        (TRUTH[:2], TRUTH[:2], {"flows": []}, "at least 3, got 2 and 2"),
        (TRUTH, TRUTH[:4], {"flows": FLOWS}, "got 5 and 4"),
        (TRUTH, TRUTH, {}, "neither"),
        (TRUTH, TRUTH, {"flows": FLOWS, "frames_rgb": [np.zeros((48, 64, 3), np.uint8)] * 5}, "both"),
        (TRUTH, TRUTH, {"flows": FLOWS[:2]}, "expected 3 pairs of flows"),
        (TRUTH, TRUTH, {"frames_rgb": [np.zeros((48, 64, 3), np.uint8)] * 4}, "expected 5 frames"),
        (TRUTH, TRUTH, {"flows": [(flow_of(0)[:4], flow_of(0))] * 3}, r"got \(4, 64, 2\) for to_previous"),
        ([TRUTH[0][:4], *TRUTH[1:]], TRUTH, {"flows": FLOWS}, r"got \(4, 64\) for previous"),
        (TRUTH, TRUTH, {"frames_rgb": [np.zeros((48, 64), np.uint8)] * 5}, "RGB images"),
        (TRUTH, TRUTH, {"flows": [flow_of(0)] * 3}, "two flows for frame 1, to the one before and after, got 48"),
        (TRUTH, TRUTH, {"flows": [(flow_of(np.nan), flow_of(0))] * 3}, "finite flow"),
        (TRUTH, TRUTH, {"flows": FLOWS, "threshold": 0.0}, "a threshold above 0 and at most 1, got 0"),
        (TRUTH, TRUTH, {"flows": FLOWS, "threshold": np.nan}, "a threshold above 0 and at most 1, got nan"),
        ([np.uint8(255) * mask for mask in TRUTH], TRUTH, {"flows": FLOWS}, r"masks in \[0, 1\], got 0 to 255 for previous; divide"),
        ([mask * np.nan for mask in TRUTH], TRUTH, {"flows": FLOWS}, r"masks in \[0, 1\], got nan to nan for previous"),
    ],
)
def test_refuses_what_does_not_fit_together(masks: list[np.ndarray], truth: list[np.ndarray], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        temporal_consistency(masks, truth, **more)
