"""Dense optical flow between two frames, and maps moved along it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sftrack.contracts import ImageRGB

Flow = NDArray[np.float32]
"""`(H, W, 2) float32`: how many pixels (x, y) each pixel of one frame moves to reach the other."""

MIN_SIDE_PX = 16
"""OpenCV's DIS refuses smaller images."""


def dense_flow(image_rgb: ImageRGB, other_rgb: ImageRGB) -> Flow:
    """Flow `(H, W, 2)` in pixels from each pixel of the first image to its place in the other.

    OpenCV's DIS (Kroeger et al., ECCV 2016), preset medium: about 40 ms for 854x480 on one CPU core.

    Raises:
        ValueError: not two `(H, W, 3) uint8` of one size, or smaller than 16 pixels.
    """
    for image in (image_rgb, other_rgb):
        if image.ndim != 3 or image.shape != (*image_rgb.shape[:2], 3) or image.dtype != np.uint8 or min(image.shape[:2]) < MIN_SIDE_PX:
            raise ValueError(f"expected two RGB images (H, W, 3) uint8 of one size, at least 16x16, got {image.dtype} {image.shape}")
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (image_rgb, other_rgb))
    # A new object each time: from its second call on, OpenCV's returns slightly other numbers for the same images.
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dense.calc(first, second, None), dtype=np.float32)  # type: ignore[call-overload]


def warp(values: NDArray[np.bool_ | np.floating], flow: NDArray[np.floating]) -> NDArray[np.float32]:
    """The other frame's map `(H, W)` or `(H, W, C)` as seen from this frame: bilinear values at `pixel + flow`, 0 outside.

    Raises:
        ValueError: sizes that differ, or flow that is not finite.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or values.ndim not in (2, 3) or values.shape[:2] != flow.shape[:2]:
        raise ValueError(f"expected a map (H, W) or (H, W, C) and a flow (H, W, 2) of one size, got {values.shape} and {flow.shape}")
    if not np.isfinite(flow).all():
        raise ValueError("expected finite flow, got NaN or infinity in it")
    height, width = flow.shape[:2]
    columns = flow[..., 0].astype(np.float32) + np.arange(width, dtype=np.float32)
    rows = flow[..., 1].astype(np.float32) + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(
        cv2.remap(values.astype(np.float32, copy=False), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), dtype=np.float32
    )
