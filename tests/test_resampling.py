"""Shrinking by whole pixels, and the reduced windows through which trackers look at a frame."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftrack.resampling import block_means
from sftrack.trackers.reduction import sample_window

FRAME = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (90, 160, 3)).astype(np.uint8), (0, 0), 1.0)


def plain_means(image: np.ndarray, factor: int) -> np.ndarray:
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: rows * factor, : columns * factor].astype(np.float64).reshape(rows, factor, columns, factor, *image.shape[2:])
    return blocks.mean(axis=(1, 3))


@given(st.integers(1, 16), st.integers(0, 20), st.integers(0, 20))
def test_blocks_of_pixels_become_their_means(factor: int, more_rows: int, more_columns: int) -> None:
    image = FRAME[: factor + more_rows, : factor + more_columns]
    means = block_means(image, factor)
    assert means.dtype == np.uint8
    np.testing.assert_allclose(means, plain_means(image, factor), atol=1.01)  # each of its steps rounds


@given(st.integers(1, 16))
def test_masks_are_shrunk_without_rounding(factor: int) -> None:
    mask = FRAME[..., 0].astype(np.float32) / 255.0
    means = block_means(mask, factor)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, plain_means(mask, factor), atol=1e-6)


def plain_window(image: np.ndarray, origin: tuple[float, float], scale: tuple[float, float], size_wh: tuple[int, int]) -> np.ndarray:
    """Linear interpolation, one pixel after the other."""
    height, width = image.shape[:2]
    window = np.empty((size_wh[1], size_wh[0], 3))
    for row in range(size_wh[1]):
        for column in range(size_wh[0]):
            x = min(max(origin[0] + (column + 0.5) / scale[0] - 0.5, 0.0), width - 1.0)
            y = min(max(origin[1] + (row + 0.5) / scale[1] - 0.5, 0.0), height - 1.0)
            left, top = min(math.floor(x), width - 2), min(math.floor(y), height - 2)
            near = image[top : top + 2, left : left + 2].astype(np.float64)
            upper, lower = near[:, 0] + (x - left) * (near[:, 1] - near[:, 0])
            window[row, column] = upper + (y - top) * (lower - upper)
    return window


place = st.tuples(st.floats(-200.0, 300.0), st.floats(-150.0, 200.0))
enlargement = st.tuples(st.floats(0.51, 4.0), st.floats(0.51, 4.0))
size = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(place, enlargement, size)
def test_a_window_is_interpolated_and_repeats_the_frames_border(
    origin: tuple[float, float], scale: tuple[float, float], size_wh: tuple[int, int]
) -> None:
    window = sample_window(FRAME, np.array(origin), np.array(scale), size_wh)
    assert window.shape == (size_wh[1], size_wh[0], 3)
    # OpenCV interpolates at 32 places between two pixels.
    np.testing.assert_allclose(window, plain_window(FRAME, origin, scale, size_wh), atol=0.5 + 255.0 / 32.0)


@given(place, st.floats(0.02, 0.5), size)
def test_a_window_that_shrinks_is_of_the_frames_size_and_brightness(
    origin: tuple[float, float], scale: float, size_wh: tuple[int, int]
) -> None:
    bright = np.full((90, 160, 3), 200, np.uint8)
    window = sample_window(bright, np.array(origin), np.full(2, scale), size_wh)
    np.testing.assert_array_equal(window, np.full((size_wh[1], size_wh[0], 3), 200))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6, 7])
def test_a_window_that_shrinks_shows_means(factor: int) -> None:
    window = sample_window(FRAME, np.zeros(2), np.full(2, 1.0 / factor), (90 // factor, 60 // factor))
    np.testing.assert_allclose(window, plain_means(FRAME[:60, :90], factor)[: 60 // factor, : 90 // factor], atol=1.01)


def test_one_channel_is_sampled_like_the_first_of_three() -> None:
    where = (np.array([-7.3, 20.1]), np.array([1.3, 0.8]), (40, 30))
    np.testing.assert_array_equal(sample_window(FRAME[..., :1], *where), sample_window(FRAME, *where)[..., :1])
