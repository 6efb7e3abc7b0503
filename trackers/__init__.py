"""The trackers that can be channels: `create(name, ...)` builds one, `register` adds one."""

from . import atom, colour, d3s, dcf, dimp, flow, nanotrack, online, opencv, pytracking, replay, siamban, siamrpn, template
from .base import BoxTracker
from .registry import ENTRY_POINTS, create, factory_of, register, tracker_names

__all__ = [
    "ENTRY_POINTS",
    "BoxTracker",
    "atom",
    "colour",
    "create",
    "d3s",
    "dcf",
    "dimp",
    "factory_of",
    "flow",
    "nanotrack",
    "online",
    "opencv",
    "pytracking",
    "register",
    "replay",
    "siamban",
    "siamrpn",
    "template",
    "tracker_names",
]
