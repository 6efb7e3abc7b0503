"""What the refinement of masks is made of: edges in time, pairwise features, steps in space and what is learned from, each by itself."""

import cv2
import numpy as np
import pytest

from sftrack.segment import Refinement, sample
from sftrack.segment.combine import FRAMES_PER_VIDEO
from sftrack.segment.links import Link, LinkedFrame, MaskedFrame, Plane, link_frames
from sftrack.segment.palette import appearance, flow_magnitudes, memberships
from sftrack.segment.refine import smooth_in_space
from sftrack.spectral import exact
from tests.test_segment import SCALES, frames_of, linked, squares

SIZE_HW = (48, 64)


def link_along(flow: np.ndarray) -> Link:
    """Edges along a flow, and back, between frames of one colour."""
    grey = np.zeros((*flow.shape[:2], 3), np.float32)
    return Link.between(grey, grey, flow, -flow, **SCALES)


# -- edges in time ------------------------------------------------------------------------------------------------------------------


def test_pixels_are_tied_to_where_they_were_and_to_where_they_will_be() -> None:
    """The picture moves 2 pixels left and 1 up per frame."""
    images, masks = frames_of(3, 0, SIZE_HW)
    first, middle, last = link_frames((MaskedFrame(i, m[..., None]) for i, m in zip(images, masks, strict=True)), **SCALES)
    assert first.previous is None
    assert last.following is None
    for link, motion_xy in ((first.following, (-2, -1)), (middle.previous, (2, 1)), (middle.following, (-2, -1)), (last.previous, (2, 1))):
        assert link is not None
        np.testing.assert_allclose(np.median(link.flow, axis=(0, 1)), motion_xy, atol=0.1)
        assert np.median(link.weight) > 0.95


@pytest.mark.parametrize(
    ("motion_xy", "leaves"),
    [
        ((4, 0), np.s_[:, -4:]),
        ((-4, 0), np.s_[:, :4]),
        ((0, 4), np.s_[-4:]),
        ((0, -4), np.s_[:4]),
    ],
)
def test_edges_that_lead_out_of_the_frame_weigh_nothing(motion_xy: tuple[int, int], leaves: tuple[slice, ...]) -> None:
    expected = np.ones(SIZE_HW, np.float32)
    expected[leaves] = 0.0
    np.testing.assert_allclose(link_along(np.full((*SIZE_HW, 2), motion_xy, np.float32)).weight, expected)


def test_noise_in_single_pixels_cuts_no_edge() -> None:
    """Of 14 levels: by itself more than the difference at which an edge has fallen to 0.61."""
    (image, *_), _ = squares(1)
    rng = np.random.default_rng(0)
    images = [(image + rng.normal(scale=14.0, size=image.shape)).clip(0, 255).astype(np.uint8) for _ in range(2)]
    first, _ = link_frames((MaskedFrame(i, np.zeros((*i.shape[:2], 1), np.float32)) for i in images), **SCALES)
    assert first.following is not None
    assert np.median(first.following.weight) > 0.8


# -- pairwise features --------------------------------------------------------------------------------------------------------------


def test_flow_magnitudes_are_those_beside_the_cameras_motion() -> None:
    """An object that moves by 4 pixels to the frame before and by 12 to the one after, seen by a camera that pans."""
    to_previous, to_next = (np.full((*SIZE_HW, 2), motion_xy, np.float32) for motion_xy in ((7, -3), (-5, 2)))
    thing = np.s_[8:24, 16:40]
    to_previous[thing] += (-4, 0)
    to_next[thing] += (0, 12)
    frame = MaskedFrame(np.zeros((*SIZE_HW, 3), np.uint8), np.zeros((*SIZE_HW, 1), np.float32))
    for previous, following, expected in (
        (link_along(to_previous), link_along(to_next), (0.5, 0.75)),
        (None, link_along(to_next), (0.75, 0.75)),
        (link_along(to_previous), None, (0.5, 0.5)),
        (None, None, (0.0, 0.0)),
    ):
        for magnitude, value in zip(flow_magnitudes(LinkedFrame(frame, previous, following)), expected, strict=True):
            wanted = np.zeros(SIZE_HW, np.float32)
            wanted[thing] = value
            np.testing.assert_allclose(magnitude, wanted, atol=1e-6)


def test_memberships_fall_off_as_a_gaussian_of_the_distance_to_the_colours() -> None:
    """Two colours, 0.2 apart, which are the palette: `exp(-0.2^2 / (2 * 0.1^2))` of each other, as vectors of length 1."""
    values = np.full((4, 6, 3), 0.3, np.float32)
    values[:, 3:, 1] = 0.5
    own, other = np.array([1.0, np.exp(-2.0)]) / np.hypot(1.0, np.exp(-2.0))
    found = np.sort(memberships(values, 2, 0.1), axis=0)
    np.testing.assert_allclose(found[0], np.full((4, 6), other), atol=1e-5)
    np.testing.assert_allclose(found[1], np.full((4, 6), own), atol=1e-5)


# -- steps in space -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_steps_in_space_compare_the_objects_with_the_backgrounds_products_with_the_explicit_matrix(steps: int) -> None:
    """Nothing is certain: both unary maps, a little blurred, are kept 0.02 away from 0 and from 1, so that pixels can be gained."""
    images, _ = frames_of(1, 0, (16, 20))
    x = np.zeros((16, 20), np.float32)
    x[:9, :8] = x[12:, 15:] = 1.0  # so that all of the frame is worked on
    settings = Refinement(steps_in_space=steps, kernel_px=5, palette=4)
    frame = linked(images[0], x[..., None])
    everything = slice(None)
    features = memberships(appearance(frame, everything, everything, flow_weight=settings.flow_weight), 4, settings.palette_scale)
    unary = cv2.GaussianBlur(x, (0, 0), 1.0).clip(0.02, 0.98)
    matrices = [exact.adjacency(s[None], features[:, None], p=0.2, alpha=2.0, kernel_size=(3, 5, 5)) for s in (unary, 1.0 - unary)]
    expected = x.ravel()
    for _ in range(steps):
        inside, outside = (matrix @ solution for matrix, solution in zip(matrices, (expected, 1.0 - expected), strict=True))
        expected = inside / (inside + outside)
    np.testing.assert_allclose(smooth_in_space(frame, x, settings).ravel(), expected, atol=1e-5)


# -- learning -----------------------------------------------------------------------------------------------------------------------


def test_a_long_video_is_learned_from_in_pieces_of_five_frames_spread_over_it() -> None:
    """100 frames, of which 40 may be taken: the first five of every fifteen."""

    def numbered(count: int) -> list[tuple[LinkedFrame, Plane]]:
        images = np.zeros((count, 16, 16, 3), np.uint8)
        planes = [np.full((16, 16, 1), index / 128, np.float32) for index in range(count)]
        return [
            (LinkedFrame(MaskedFrame(image, plane, plane[..., 0] > 0.5), None, None), plane)
            for image, plane in zip(images, planes, strict=True)
        ]

    wanted = [first + index for first in range(0, 100, 15) for index in range(5)]
    channels, truths = sample(numbered(100), 100)
    assert (channels[0, :, 0, 0] * 128).round().int().tolist() == wanted
    assert truths[:, 0, 0].tolist() == [float(index > 64) for index in wanted]
    assert len(wanted) <= FRAMES_PER_VIDEO == 40
    assert len(sample(numbered(40), 40)[1]) == 40


def test_what_is_learned_from_is_the_mean_of_blocks_of_8_by_8_pixels() -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.random((32, 48, 2), dtype=np.float32), rng.random((32, 48)) > 0.5
    frame = LinkedFrame(MaskedFrame(np.zeros((32, 48, 3), np.uint8), x, truth), None, None)
    channels, truths = sample([(frame, x)], 1)
    for found, plane in zip((*channels[:2, 0], truths[0]), (x[..., 0], x[..., 1], truth), strict=True):
        np.testing.assert_allclose(found, plane.reshape(4, 8, 6, 8).mean(axis=(1, 3)), atol=1e-6)
