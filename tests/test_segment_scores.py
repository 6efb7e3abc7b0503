"""The table of `sftrack segment`: the numbers that its user reads are those of `sftrack.metrics`."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sftrack.metrics import boundary_f, jaccard, temporal_consistency
from tests.conftest import runner
from tests.test_segment import noisy, squares

FRAMES = 5
METHODS = ("noisy", "late")


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def read(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 for path in sorted(folder.iterdir())]


def scores(masks: list[np.ndarray], truths: list[np.ndarray], frames_rgb: list[np.ndarray]) -> list[float]:
    """J, F and TCONT in percent, of the frames but the first and the last."""
    inner = slice(1, -1)
    means = [np.mean([measure(*pair) for pair in zip(masks[inner], truths[inner], strict=True)]) for measure in (jaccard, boundary_f)]
    return [100.0 * float(value) for value in (*means, temporal_consistency(masks, truths, frames_rgb=frames_rgb))]


def test_every_version_has_the_scores_that_its_masks_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two videos, one of them played backwards, with masks of two methods that are wrong in different ways."""
    monkeypatch.chdir(tmp_path)
    pictures, truths = squares(FRAMES)
    videos = {"forwards": (pictures, truths), "backwards": (pictures[::-1], truths[::-1])}
    for first_seed, (video, (images, wanted)) in enumerate(videos.items()):
        for index, (image, truth) in enumerate(zip(images, wanted, strict=True)):
            name = f"{index:05d}.png"
            write(Path("frames", video, name), image[..., ::-1])
            write(Path("gt", video, name), np.uint8(255) * truth)
            write(Path("noisy", video, name), np.uint8(255) * noisy(truth, first_seed + index))
            write(Path("late", video, name), np.uint8(255) * wanted[max(index - 1 - first_seed, 0)])
    flags = "--masks noisy --masks late --frames frames --gt gt --out out"
    done = runner("segment", capfd)(*flags.split())
    assert done.code == 0, done.err
    heading, _, *rows = done.out.splitlines()
    assert heading.split() == [*METHODS, "refined"]
    table = {row.split()[0]: [float(value) for value in row.split()[1:]] for row in rows}
    assert list(table) == ["backwards", "forwards", "mean"]
    for video, (images, wanted) in videos.items():
        versions = [Path(method, video) for method in (*METHODS, "out")]
        expected = [score for folder in versions for score in scores(read(folder), wanted, images)]
        np.testing.assert_allclose(table[video], expected, atol=0.006, err_msg=video)
    np.testing.assert_allclose(table["mean"], np.mean([table["forwards"], table["backwards"]], axis=0), atol=0.011)
    assert np.ptp([table["forwards"], table["backwards"]], axis=0).max() > 1.0
