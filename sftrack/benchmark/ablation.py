"""The variants of the paper's Table 9, all from the same recorded boxes of the channels."""

import dataclasses
from collections.abc import Mapping

from sftrack.benchmark.entrants import Entrant, replayed

VARIANTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "full": ("SFTrack++ as it is", {}),
    "no_spectral": ("without the spectral step", {"iterations": 0}),
    "no_seg2box": ("without NN_seg2box", {"box_from": "mask"}),
    "median": ("median of the channels as input", {"unary": "median"}),
    "best": ("best channel as input", {"unary": "best"}),
    "iterations_1": ("1 spectral iteration", {"iterations": 1}),
    "iterations_2": ("2 spectral iterations", {"iterations": 2}),
    "iterations_3": ("3 spectral iterations", {"iterations": 3}),
}
"""By label: what it is, and the settings of the pipeline that differ."""

TOP = "top3"
TOP_COUNT = 3
TOP_TITLE = f"the {TOP_COUNT} best channels only"


def variants_of(fused: Entrant) -> tuple[dict[str, Entrant], tuple[Entrant, ...]]:
    """The entrants of every variant by label, without `TOP`, and those that record the channels.

    A variant that changes nothing (as many iterations as the pipeline has anyway) is the same entrant as `full`, so that it runs once.
    """
    assert fused.pipeline is not None
    same, recorders = replayed(fused)
    entrants = {}
    for label, (_, changes) in VARIANTS.items():
        pipeline = dataclasses.replace(fused.pipeline, **changes)  # type: ignore[arg-type]
        entrants[label] = (
            same if pipeline == fused.pipeline else replayed(dataclasses.replace(fused, pipeline=pipeline), f"replay-{label}")[0]
        )
    return entrants, recorders


def best_channels(fused: Entrant, success_auc: Mapping[str, float]) -> Entrant:
    """The fusion of the `TOP_COUNT` channels that do best alone, by the success AUC of their recordings, in the preset's order."""
    ranked = sorted(fused.channels, key=lambda channel: -success_auc[channel.name])[:TOP_COUNT]
    chosen = {channel.name for channel in ranked}
    channels = tuple(channel for channel in fused.channels if channel.name in chosen)
    return replayed(dataclasses.replace(fused, channels=channels), f"replay-{TOP}")[0]
