"""The list of trackers that can be a channel, and how one is built from its name."""

import functools
import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from sftrack.contracts import Tracker
from sftrack.errors import ConfigError, nearest_hint

from .checkpoints import Weights

ENTRY_POINTS = "sftrack.trackers"
"""Entry-point group in which other distributions announce their trackers: `name = "package.module:Class"`."""

TrackerFactory = Callable[..., Tracker]
_Factory = TypeVar("_Factory", bound=TrackerFactory)
_registered: dict[str, TrackerFactory] = {}


def register(name: str) -> Callable[[_Factory], _Factory]:
    """Decorator that makes a class (or function) available as `create(name, ...)`. Its keyword arguments are the parameters.

    A factory that has `weights` or `device` among them is given these too.

    Raises:
        ConfigError: the name is taken.
    """

    def add(factory: _Factory) -> _Factory:
        if name in _registered and _registered[name] is not factory:
            raise ConfigError(f"expected a new tracker name, '{name}' is registered already")
        _registered[name] = factory
        return factory

    return add


def keyword_signature(*names: str, settings: type) -> inspect.Signature:
    """What `create` is to know of a factory that takes its settings as `**settings`, as its `__signature__`.

    Args:
        names: its other keyword arguments.
        settings: the dataclass whose fields are the settings.
    """
    known = (*names, *(setting.name for setting in fields(settings)))
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=...) for name in known])


@functools.cache
def _installed() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def tracker_names() -> tuple[str, ...]:
    """Every name that `create` accepts, sorted."""
    return tuple(sorted({*_registered, *_installed()}))


def factory_of(name: str) -> TrackerFactory:
    """The class or function behind a name.

    Raises:
        ConfigError: unknown name, or an entry point that cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    if name not in _installed():
        raise ConfigError(f"expected a tracker out of {', '.join(tracker_names())}, got '{name}'{nearest_hint(name, tracker_names())}")
    try:
        factory: TrackerFactory = _installed()[name].load()
    except Exception as error:
        raise ConfigError(f"expected tracker '{name}' to be importable from {_installed()[name].value}: {error}") from error
    return factory


def create(name: str, *, weights: Weights = None, device: str = "cpu", **params: Any) -> Tracker:  # noqa: ANN401
    """Build one of the registered trackers.

    Args:
        name: see `tracker_names`. What follows a colon says which tracker of another program (`pytracking:dimp/dimp50`); it is the same as
            the parameter `tracker`.
        weights: a path, a mapping of tensors, or None for the registry's file; for trackers that have weights.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the best that is here; trackers without a network run on the CPU whatever is
            asked, and those of another program want it named, since it is that program's.
        params: override the tracker's settings.

    Raises:
        ConfigError: unknown tracker or parameter (the message names the nearest), or a value it refuses.
    """
    name, colon, tracker = name.partition(":")
    if colon:
        params["tracker"] = tracker
    factory = factory_of(name)
    signature = inspect.signature(factory)
    known = signature.parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    names = [key for key, parameter in known.items() if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
    settings = [key for key in names if key not in ("weights", "device")]
    for key in params:
        if key not in names and not takes_any:
            raise ConfigError(
                f"expected a setting of '{name}' out of {', '.join(settings) or '(none)'}, got '{key}'{nearest_hint(key, settings)}"
            )
    if weights is not None and "weights" not in names:
        raise ConfigError(f"expected no weights for '{name}', which has no network, got {weights}")
    if weights is not None:
        params["weights"] = weights
    if "device" in names:
        params.setdefault("device", device)
    try:
        signature.bind(**params)
    except TypeError as error:
        raise ConfigError(f"expected other settings for tracker '{name}': {error}") from error
    return factory(**params)  # a TypeError inside is a mistake of the tracker's
