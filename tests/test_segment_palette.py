"""Indexed masks: which are label maps and which are soft."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from sftrack.segment.videos import read_masks


def indexed_png(palette_rgb: list[tuple[int, int, int]]) -> bytes:
    """A picture of the indices 0, 1 and 2 with a palette, which OpenCV does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tIME", bytes(7)), (b"PLTE", bytes(np.ravel(palette_rgb).tolist()))]
    pixels = (b"IDAT", zlib.compress(bytes([0, 0, 1, 2])))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in (*chunks, pixels, (b"IEND", b"")))


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
    (tmp_path / "0.png").write_bytes(indexed_png(palette_rgb))
    np.testing.assert_allclose(next(read_masks([tmp_path / "0.png"]))[0], expected, atol=1e-6)
