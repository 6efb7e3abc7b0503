"""Indexed masks: which are label maps and which are soft."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sftrack.segment.videos import read_masks


def save_indexed(path: Path, palette_rgb: list[tuple[int, int, int]]) -> None:
    """A picture of the indices 0, 1 and 2 with a palette, which OpenCV does not write."""
    picture = Image.new("P", (3, 1))
    picture.putdata([0, 1, 2])
    picture.putpalette([value for colour in palette_rgb for value in colour])
    picture.save(path)


@pytest.mark.parametrize(
    ("palette_rgb", "expected"),
    [
        ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], [0.0, 1.0, 1.0]),
        ([(0, 0, 0), (128, 128, 128), (0, 0, 0), (128, 0, 0)], [0.0, 1.0, 0.0]),
        ([(0, 0, 0), (64, 64, 64), (191, 191, 191)], [0.0, 64 / 255, 191 / 255]),
    ],
    ids=["labels", "a label that is shown in grey", "soft, indexed"],
)
def test_a_palette_with_colours_is_that_of_a_label_map_whichever_are_shown(
    tmp_path: Path, palette_rgb: list[tuple[int, int, int]], expected: list[float]
) -> None:
    save_indexed(tmp_path / "0.png", palette_rgb)
    np.testing.assert_allclose(next(read_masks([tmp_path / "0.png"]))[0], expected, atol=1e-6)


def test_what_is_too_large_for_pillow_is_read_as_opencv_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    cv2.imwrite(str(tmp_path / "0.png"), np.full((4, 4, 3), 204, np.uint8))
    np.testing.assert_allclose(next(read_masks([tmp_path / "0.png"])), 0.8, rtol=1e-6)
