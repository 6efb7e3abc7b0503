"""Deep trackers with random weights, for machines without the published ones: they cost the same per pass and find nothing."""

from typing import Any

import torch
from torch import nn

from sftrack.trackers import factory_of, nanotrack, siamban, siamrpn
from sftrack.trackers.atom import ATOMNet
from sftrack.trackers.d3s import SegmentationNetwork, resnet50
from sftrack.trackers.dimp import DiMP, DiMPNet

_NANO = {version.weights: version for version in (nanotrack.V2, nanotrack.V3)}
_SIAMESE = {"siamrpn++": siamrpn.VARIANTS, "siamban": siamban.VARIANTS}
_ALWAYS = {"target_not_found_threshold": 0.0}
"""Where nothing is found, there would be no box to refine."""


def random_networks(tracker: str, variant: str = "") -> dict[str, nn.Module]:
    """The networks of a registered deep tracker, by the argument of `create` that their weights are given as.

    `variant` is of SiamRPN++ and SiamBAN, `r50` if none is given.
    """
    torch.manual_seed(0)
    if tracker in _NANO:
        return {"weights": _NANO[tracker].network()}
    if tracker in _SIAMESE:
        return {"weights": _SIAMESE[tracker][variant or "r50"].network()}
    if tracker == "atom18":
        return {"weights": ATOMNet()}
    if tracker == "d3s":
        return {"weights": SegmentationNetwork(), "backbone_weights": resnet50()}
    factory = factory_of(tracker)
    if not (isinstance(factory, type) and issubclass(factory, DiMP)):
        raise ValueError(f"expected a deep tracker, got '{tracker}'")
    chosen = factory.variant
    return {"weights": DiMPNet(chosen.backbone(), chosen.channels, chosen.blocks, chosen.optimizer({}))}


def random_weights(tracker: str, variant: str = "") -> dict[str, Any]:
    """Arguments for `create`; of trackers without a network, none."""
    if tracker not in (*_NANO, *_SIAMESE, "atom18", "d3s") and "dimp" not in tracker:
        return {}
    params: dict[str, Any] = {name: network.state_dict() for name, network in random_networks(tracker, variant).items()}
    return params | (_ALWAYS if tracker == "atom18" or "dimp" in tracker else {})
