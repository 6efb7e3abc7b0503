"""`python -m benchmarks masks`: Jaccard of NN_feat2seg given the true box on every 8th DAVIS frame, beside the box itself and GrabCut."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.recordings import shared_folder
from sftrack.boxes import box_of_mask
from sftrack.contracts import BoxXYWH, ImageRGB
from sftrack.datasets import read_sequence, sequence_names
from sftrack.feat2seg import Segmenter
from sftrack.metrics import jaccard
from sftrack.window import Window
from sftrack.workers import pin_to_one_thread

Mask = NDArray[np.bool_]
Method = Callable[[ImageRGB, BoxXYWH], Mask]
EVERY = 8


def main(arguments: list[str]) -> int:
    """Print a row per sequence and the means."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks masks", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS")
    root = shared_folder(parser.parse_args(arguments).shared) / "data" / "DAVIS"
    pin_to_one_thread()
    methods: dict[str, Method] = {"box": fill_box, "GrabCut": grab_cut}
    for size_px in (112, 128, 144, 160):
        methods[f"crop {size_px}"] = feat2seg(size_px)
    names = sequence_names("DAVIS", root)
    scores = {method: {name: np.zeros(0) for name in names} for method in methods}
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for name in names:
        sequence = read_sequence("DAVIS", root, name)
        for method, run in methods.items():
            values = []
            for index in range(0, len(sequence), EVERY):
                truth = sequence.mask(index)
                if not truth.any():
                    continue
                image, box = sequence.frame(index), box_of_mask(truth)
                began = time.perf_counter()
                found = run(image, box)
                seconds[method].append(time.perf_counter() - began)
                values.append(jaccard(found, truth))
            scores[method][name] = np.array(values)
    print(f"Jaccard, true box given on every {EVERY}th frame, one thread")
    print(f"{'':20s}" + "".join(f"{method:>10s}" for method in methods))
    for name in names:
        print(f"{name:20s}" + "".join(f"{scores[method][name].mean():10.3f}" for method in methods))
    means = {method: float(np.mean([values.mean() for values in scores[method].values()])) for method in methods}
    frames = {method: float(np.concatenate(list(scores[method].values())).mean()) for method in methods}
    print(f"{'mean of sequences':20s}" + "".join(f"{means[method]:10.3f}" for method in methods))
    print(f"{'mean of frames':20s}" + "".join(f"{frames[method]:10.3f}" for method in methods))
    print(f"{'ms (median)':20s}" + "".join(f"{np.median(seconds[method]) * 1e3:10.1f}" for method in methods))
    return 0


def fill_box(image: ImageRGB, box: BoxXYWH) -> Mask:
    """The box itself as a mask."""
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    x, y, w, h = box.astype(int)
    mask[y : y + h, x : x + w] = True
    return mask


def grab_cut(image: ImageRGB, box: BoxXYWH) -> Mask:
    """OpenCV's GrabCut, five iterations from the box."""
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    x, y, w, h = (int(value) for value in box)
    cv2.grabCut(image, labels, (x, y, w, h), *models, 5, cv2.GC_INIT_WITH_RECT)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))


CONTEXT = 0.85
"""The box is exact here, so the crop may be tighter than in tracking."""


def feat2seg(size_px: int) -> Method:
    """The network as the pipeline runs it: crop, segment, paste."""
    segmenter = Segmenter.bundled()

    def run(image: ImageRGB, box: BoxXYWH) -> Mask:
        window = Window.around(box, size_px, CONTEXT)
        size_wh = (image.shape[1], image.shape[0])
        seen = segmenter.segment(window.extract(image), window.to_window(box[None]), window.frame_box(size_wh))
        found: Mask = window.paste(seen.masks[0], size_wh) > 0.5
        return found

    return run
