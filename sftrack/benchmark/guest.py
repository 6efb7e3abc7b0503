"""One entrant as a guest in somebody else's harness: start on a frame, then a box per frame."""

from sftrack.benchmark.entrants import find_entrant
from sftrack.contracts import BoxXYWH, Closable, Estimate, ImageRGB, Tracker
from sftrack.pipeline import SFTracker
from sftrack.presets import create_channels


class Guest:
    """A preset, a settings file or a single tracker, with one way to drive it. Every sequence gets new trackers, as in `bench run`.

    Args:
        tracker: as `sftrack bench run --tracker` takes it.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        ConfigError: an unknown tracker or device.
        MissingWeightsError: weights that are not here.
    """

    def __init__(self, tracker: str = "auto", device: str = "auto") -> None:
        from sftrack.config import resolve_device

        self._device = resolve_device(device)
        self._entrant = find_entrant(tracker, self._device)
        self._running: Tracker | SFTracker | None = None

    @property
    def name(self) -> str:
        return self._entrant.name

    def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
        """Start on a target: `(4,)` x, y, w, h, 0-based.

        Raises:
            BoxError, FrameError: what cannot be tracked.
        """
        self.close()
        trackers = create_channels(self._entrant.channels, self._device)
        if self._entrant.pipeline is None:
            self._running = trackers[self._entrant.channels[0].name]
        else:
            self._running = SFTracker(trackers, self._entrant.pipeline, device=self._device)
        self._running.init(image_rgb, box_xywh)

    def update(self, image_rgb: ImageRGB) -> Estimate:
        """The box on the next frame, with the tracker's score in [0, 1]."""
        if self._running is None:
            raise RuntimeError("expected init before update")
        result = self._running.update(image_rgb)
        return Estimate(result.box_xywh, result.score)

    def close(self) -> None:
        """End what runs, with what it holds besides memory."""
        if isinstance(self._running, Closable):
            self._running.close()
        self._running = None
