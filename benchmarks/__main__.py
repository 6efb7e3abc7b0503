"""`python -m benchmarks NAME ...`: runs `main(arguments)` of the module of that name."""

import importlib
import os
import sys

BENCHMARKS = {
    "accuracy": "success AUC of every channel, of their median and of the fused result, on DAVIS and OTB",
    "channels": "the study of candidates behind the light preset",
    "harness": "what benchmark mode costs per frame, and what a second process brings",
    "masks": "Jaccard of NN_feat2seg given the true box, beside the box itself and GrabCut",
    "eigenvector": "angle and IoU between SFSeg and the exact eigenvector; the online window against the whole video",
    "noise": "SFSeg++ weights of channels replaced by noise, and small 2D and 3D networks as learned ensembles",
    "pipeline": "frames per second and milliseconds per stage, end to end",
    "published_masks": "J, F and TCONT of published masks, refined by SFSeg and combined by SFSeg++, before and after",
    "spectral": "milliseconds of one spectral iteration beside the published way, and 100 iterations against number of nodes",
    "trackers": "milliseconds of every deep tracker beside OpenCV's TrackerNano, parameters, multiply-accumulates",
}


def main(arguments: list[str]) -> int:
    """Run one benchmark; returns its exit code."""
    if not arguments or arguments[0] not in BENCHMARKS:
        for name, what in BENCHMARKS.items():
            print(f"python -m benchmarks {name:15s} {what}", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the program does
    return int(importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
