"""The other end of `pytracking.py`: runs one tracker of a PyTracking checkout, in the interpreter that can import it.

Started as a script; needs NumPy and what PyTracking needs, nothing of sftrack. Each request on stdin is a line of JSON, followed by the
bytes of the picture; each answer on stdout is a line of JSON. What PyTracking prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import traceback
from typing import Any


def main() -> None:
    """Answer requests until stdin ends."""
    root, name, parameters, use_gpu = sys.argv[1:]
    sys.path[0] = root  # instead of the folder of this file, in which modules have names of their own
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tracker: Any = None
    previous: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        stage = "import"
        try:
            import numpy as np

            request = json.loads(line)
            height, width = request["size_hw"]
            pixels = sys.stdin.buffer.read(height * width * 3)
            image_rgb = np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
            if request["box"] is None:
                stage = "track"
                previous = tracker.track(image_rgb, {"previous_output": previous})
                answer = {"box": _numbers(previous["target_bbox"]), "score": _numbers(previous.get("object_presence_score", 1.0))}
            else:
                tracker = tracker or _build(name, parameters, use_gpu == "1")
                stage = "initialize"
                _seed()
                previous = tracker.initialize(image_rgb, {"init_bbox": request["box"]}) or {}
                answer = {}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": str(error) or repr(error), "type": type(error).__name__, "stage": stage}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _build(name: str, parameters: str, use_gpu: bool) -> Any:  # noqa: ANN401 (a class of the checkout)
    """The tracker, with its parameters, as PyTracking's own `run_tracker.py` would build it, but without its window."""
    params = importlib.import_module(f"pytracking.parameter.{name}.{parameters}").parameters()
    params.tracker_name, params.param_name = name, parameters
    params.debug, params.visualization = 0, False
    if not use_gpu:
        # The networks have copies of the setting.
        features = getattr(getattr(params, "features", None), "features", [])
        for owner in (params, getattr(params, "net", None), *features):
            if hasattr(owner, "use_gpu"):
                owner.use_gpu = False
    return importlib.import_module(f"pytracking.tracker.{name}").get_tracker_class()(params)


def _seed() -> None:
    """PyTracking draws from the generators of the process: the same frames give the same boxes."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _numbers(value: Any) -> Any:  # noqa: ANN401 (a list, an array, a tensor or a number)
    return value.tolist() if hasattr(value, "tolist") else [float(item) for item in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    main()
