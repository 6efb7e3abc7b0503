"""The trackers that can be channels: `create(name, ...)` builds one, `register` adds one."""

from . import opencv, replay
from .base import BoxTracker
from .registry import ENTRY_POINTS, create, factory_of, register, tracker_names

__all__ = ["ENTRY_POINTS", "BoxTracker", "create", "factory_of", "opencv", "register", "replay", "tracker_names"]
