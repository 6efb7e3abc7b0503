"""Make docs/demo.jpg, the picture in the README, from a real run of the demo clip: `python docs/demo_picture.py`."""

import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FRAMES = (20, 66, 92, 140)
"""In the open, behind the plank, beside the other cup, near the end."""
TILE_WH = (640, 360)


def main() -> int:
    from sftrack.cli import main as sftrack

    with tempfile.TemporaryDirectory() as folder:
        code = sftrack(["track", "--demo", "--headless", "--out", folder])
        if code:
            return code
        with av.open(str(Path(folder, "annotated.mp4"))) as video:
            pictures = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    tiles = [cv2.resize(pictures[index], TILE_WH, interpolation=cv2.INTER_AREA) for index in FRAMES]
    framed = [cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for tile in tiles]
    montage = np.vstack([np.hstack(framed[:2]), np.hstack(framed[2:])])
    cv2.imwrite(str(ROOT / "docs" / "demo.jpg"), montage, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return 0


if __name__ == "__main__":
    sys.exit(main())
