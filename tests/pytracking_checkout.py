"""A folder that looks like a PyTracking checkout from outside, with a tracker that follows what is bright."""

from pathlib import Path

_TRACKER = '''\
import os
import time

import numpy as np


class Bright:
    """The middle of what is brighter than the ground, at the size of the start."""

    def __init__(self, params):
        self.params = params
        print("PyTracking prints whatever it likes")

    def initialize(self, image, info):
        if self.params.weights is not None:
            raise FileNotFoundError(2, "No such file or directory", self.params.weights)
        x, y, w, h = info["init_bbox"]
        light = image.max(axis=2).astype(float)
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        inside = (rows >= y) & (rows < y + h) & (columns >= x) & (columns < x + w)
        outside = light[~inside].mean() if (~inside).any() else 0.0
        self.threshold = (light[inside].mean() + outside) / 2
        self.size, self.frames = (w, h), 0
        return {"target_bbox": [x, y, w, h]}

    def track(self, image, info):
        self.frames += 1
        self.params.disturb(self)
        assert "target_bbox" in info["previous_output"]
        rows, columns = np.nonzero(image.max(axis=2) > self.threshold)
        if not len(rows):
            return {"target_bbox": [-1, -1, -1, -1]}
        (w, h), y, x = self.size, (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2
        return {"target_bbox": np.array([x - w / 2, y - h / 2, w, h]), "object_presence_score": np.float32(0.75)}


def get_tracker_class():
    return Bright
'''

_PARAMETERS = """\
import os
import sys
import time
from types import SimpleNamespace


def disturb(tracker):
    {disturb}


def parameters():
    return SimpleNamespace(use_gpu=True, net=SimpleNamespace(use_gpu=True), weights={weights!r}, disturb=disturb)
"""

DISTURBANCES = {
    "default": "pass",
    "hangs": "time.sleep(60)",
    "dies": "sys.stderr.write('Segmentation fault\\n'); sys.stderr.flush(); os._exit(139)",
    "raises": "raise RuntimeError('CUDA out of memory')",
    "on_cpu": "assert not (tracker.params.use_gpu or tracker.params.net.use_gpu)",
}
"""What the tracker does on each frame, by the name of its parameters."""


def make_checkout(root: Path) -> Path:
    """Tracker `bright` with parameters by the names of `DISTURBANCES`, `untrained` (no weights) and `uninstalled` (a missing package)."""
    package = root / "pytracking"
    files = {
        "__init__.py": "",
        "tracker/__init__.py": "",
        "tracker/bright/__init__.py": _TRACKER,
        "parameter/__init__.py": "",
        "parameter/bright/__init__.py": "",
        "parameter/bright/untrained.py": _PARAMETERS.format(disturb="pass", weights="networks/bright.pth"),
        "parameter/bright/uninstalled.py": "import torch_of_another_age",
        "evaluation/environment.py": "",
        "evaluation/local.py": "",
        **{f"parameter/bright/{name}.py": _PARAMETERS.format(disturb=code, weights=None) for name, code in DISTURBANCES.items()},
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
