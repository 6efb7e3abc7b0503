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
import subprocess
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
    "exits": "os.write(2, b'\\x1b[31mgoodbye\\x1b[0m\\n\\n'); os._exit(3)",
    "crashes": "os.kill(os.getpid(), 11)",
    "spawns": "tracker.frames == 1 and subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']) or time.sleep(60)",
    "raises": "raise RuntimeError('\\n\\x1b[1mCUDA out of memory\\x1b[0m\\nsee above')",
    "on_cpu": "assert not (tracker.params.use_gpu or tracker.params.net.use_gpu)",
    "on_cuda": "assert tracker.params.use_gpu and tracker.params.net.use_gpu",
    "loads": "import io, torch; file = io.BytesIO(); torch.save(SimpleNamespace(), file); file.seek(0); torch.load(file)",
}
"""What the tracker does on each frame, by the name of its parameters."""

BROKEN = {
    "uninstalled": "import torch_of_another_age",
    "uncompiled": "raise ImportError('Can not compile Precise RoI Pooling library.')",
    "unlinked": "raise ImportError('libGL.so.1: cannot open shared object file')",
    "nowhere": "assert None is not None, 'Failed to load network'",
}
"""What is in the file of parameters that cannot be read, by their name."""


def make_checkout(root: Path) -> Path:
    """Tracker `bright` with parameters by the names of `DISTURBANCES`, of `BROKEN`, and `untrained` (no weights)."""
    package = root / "pytracking"
    files = {
        "__init__.py": "",
        "tracker/__init__.py": "",
        "tracker/bright/__init__.py": _TRACKER,
        "parameter/__init__.py": "",
        "parameter/bright/__init__.py": "",
        "parameter/bright/untrained.py": _PARAMETERS.format(disturb="pass", weights="networks/bright.pth"),
        **{f"parameter/bright/{name}.py": code for name, code in BROKEN.items()},
        "evaluation/environment.py": "",
        "evaluation/local.py": "",
        **{f"parameter/bright/{name}.py": _PARAMETERS.format(disturb=code, weights=None) for name, code in DISTURBANCES.items()},
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
